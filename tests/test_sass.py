"""ptxas made of every CUDA kernel what it was written for: the built library shows it, without a GPU."""

from __future__ import annotations

import fcntl
import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from sass import Kernel, misses, missing_tools, parse_resources, parse_sass, read_kernels

import mnv2_kernels
from mnv2_kernels import _native

LIBRARY = Path(mnv2_kernels.__file__).parent / "libmnv2_cuda.so"
TUNED_ARCHS = ("sm_80", "sm_90")  # those that kernels may not spill for

BUILD = _native.build_info()
needs_the_library = pytest.mark.skipif(not BUILD["cuda"], reason="this build has no libmnv2_cuda")
needs_tools = pytest.mark.skipif(
    bool(missing_tools()), reason=f"not installed: {', '.join(missing_tools())}: cannot disassemble"
)


@pytest.fixture(scope="session")
def kernels(tmp_path_factory) -> list[Kernel]:
    """Of the library; disassembled once, by whichever of pytest's processes comes first."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return read_kernels(LIBRARY)
    folder = tmp_path_factory.getbasetemp().parent
    with (folder / "kernels.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        saved = folder / "kernels.json"
        if not saved.exists():
            saved.write_text(json.dumps([asdict(kernel) for kernel in read_kernels(LIBRARY)]))
        return [Kernel(**kernel) for kernel in json.loads(saved.read_text())]


@pytest.mark.slow
@needs_the_library
@needs_tools
class TestSassOfTheLibrary:
    def test_every_kernel_is_there_for_every_architecture_of_build_info(self, kernels):
        archs = {"sm_" + re.sub(r"\+PTX|\.", "", arch) for arch in BUILD["cuda_archs"]}
        assert {kernel.arch for kernel in kernels} == archs
        names = {arch: sorted(kernel.name for kernel in kernels if kernel.arch == arch) for arch in archs}
        assert len({tuple(each) for each in names.values()}) == 1
        for written in ("register_block_kernel<", "cluster_block_kernel<"):
            assert any(written in kernel.name for kernel in kernels)
        assert all(kernel.registers and kernel.count(re.compile("EXIT")) for kernel in kernels)

    def test_no_kernel_accesses_local_memory(self, kernels):
        assert not [str(kernel) for kernel in kernels if kernel.spills and kernel.arch in TUNED_ARCHS]

    def test_every_kernel_has_the_instructions_it_was_written_for(self, kernels):
        assert not [miss for kernel in kernels if kernel.arch in TUNED_ARCHS for miss in misses(kernel)]


# --- the reading itself ---

RESOURCES = """
arch = sm_80
Resource usage:
 Common:
  GLOBAL:0
 Function _Zfast:
  REG:168 STACK:0 SHARED:16 LOCAL:0 CONSTANT[0]:432 TEXTURE:0
arch = sm_90
 Function _Zfast:
  REG:90 STACK:8 SHARED:1024 LOCAL:0 CONSTANT[0]:432
"""

SASS = """
	code for sm_80
		Function : _Zfast
	.headerflags	@"EF_CUDA_SM80"
        /*0000*/                   IMAD.MOV.U32 R1, RZ, RZ, c[0x0][0x28] ;   /* 0x00000a00ff017624 */
                                                                             /* 0x000fe400078e00ff */
        /*0010*/              @!P0 LDGSTS.E.BYPASS.128 [R2], [R4.64] ;       /* 0x0000000000977919 */
        /*0020*/             @!UPT UIADD3 URZ, URZ, URZ, URZ ;
        /*0030*/                   HMMA.16816.F32 R4, R8, R12, R4 ;
        /*0040*/                   EXIT ;
		Function : _Zslow
        /*0000*/                   STL [R1], R2 ;
"""


def kernel(name: str, **opcodes: int) -> Kernel:
    named = {name.replace("__", ".").rstrip("_"): count for name, count in opcodes.items()}
    return Kernel(name, "sm_90", 32, 0, named)


FAST = kernel("tile_block_kernel<__half, 96>", HMMA__16816=8, LDGSTS__E__128=2)


def test_sass_resources_are_those_of_a_kernel_for_an_architecture():
    assert parse_resources(RESOURCES) == {("sm_80", "_Zfast"): (168, 16), ("sm_90", "_Zfast"): (90, 1024)}


def test_sass_opcodes_are_counted_whatever_guards_them():
    opcodes = parse_sass(SASS)
    assert opcodes["_Zfast"] == {
        **{"IMAD.MOV.U32": 1, "LDGSTS.E.BYPASS.128": 1, "UIADD3": 1},
        **{"HMMA.16816.F32": 1, "EXIT": 1},
    }
    assert opcodes["_Zslow"] == {"STL": 1}


@pytest.mark.parametrize(
    "right",
    [
        FAST,
        kernel("tile_block_kernel<float, 96>", FFMA=8, LDG__E__128__CONSTANT=2),
        kernel("tile_block_tf32_kernel<float, 96>", HMMA__1688__F32__TF32=8, LDG__E__128=2),
        kernel("tile_block_kernel<__nv_bfloat16, 96>", HGMMA__64x8x16=8, UTMALDG__2D=2),
        kernel("pack_words_kernel<Words<__half>>", IMAD=4, LDG__E=2),
        kernel("general_block_kernel<__half>", FFMA=4, LDGSTS__E__128=2),
        kernel("gated_depthwise_kernel<GeneralBlock<4>>", FFMA=4, LDGSTS__E__128=2),
        kernel("gate_squeeze_kernel", FFMA=4, LDG__E=2),
        kernel("stem_scalar_kernel<__half, 2>", FFMA=4, LDG__E__U16=2),
        kernel("cluster_block_kernel<__half, 1>", HMMA__16816=8, LDGSTS__E__128=2),
        replace(kernel("cluster_block_kernel<__half, 1>", EXIT=1), arch="sm_80"),
    ],
    ids=lambda kernel: str(kernel),
)
def test_sass_finds_nothing_wrong_with_a_kernel_as_meant(right):
    assert not list(misses(right))


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (replace(FAST, opcodes={**FAST.opcodes, "STL.64": 3}), "3 accesses of local memory"),
        (replace(FAST, opcodes={"LDGSTS.E.128": 1}), "0 mma: a fast kernel"),
        (kernel("cluster_block_kernel<__half, 1>", LDGSTS__E__128=1), "0 mma: as a fast kernel"),
        (replace(FAST, name="tile_block_kernel<float, 96>"), "8 mma: float32 is exact"),
        (replace(FAST, name="head_pool_scalar_kernel<__half, 4>"), "8 mma: takes what mma does not"),
        (replace(FAST, opcodes={"HMMA": 1, "LDG.E.64": 9}), "0 global loads of 16 bytes"),
        (replace(FAST, opcodes={"HMMA": 1, "STG.E.128": 9}), "0 global loads of 16 bytes"),
    ],
)
def test_sass_names_what_is_wrong_with_a_kernel(wrong, expected):
    (miss,) = misses(wrong)
    assert str(wrong) in miss
    assert expected in miss
