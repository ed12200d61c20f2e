"""Instructions counted by qemu: what its log says, and a small block counted from end to end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import arm_instructions
import pytest
from arm_instructions import BUILD, DEFAULT_L2, QEMU, Log, count, run_logged

from mnv2_kernels.shapes import BlockShape

LOG = """----------------
IN: 
0x00401000:  d280001d  movz     x29, #0
0x00401004:  4f8210a4  fmla     v4.4s, v5.4s, v2.s[0]
0x00401008:  97ffeeac  bl       #0x402000

Trace 0: 0x7f35d0000100 [0000000000001001/0000000000401000/00000001/00000200] 
----------------
IN: 
0x00402000:  d65f03c0  ret      

Trace 0: 0x7f35d0000240 [0000000000001001/0000000000402000/00000001/00000200] memcpy
Trace 0: 0x7f35d0000100 [0000000000001001/0000000000401000/00000001/00000200] 
"""  # noqa: W291 - qemu's
PROGRAM = BUILD / "run_block"
LANES = 4
BLOCK = BlockShape(1, 5, 3, 8, 16, 8, residual=True)


def test_a_block_of_code_counts_as_often_as_it_ran() -> None:
    assert Log.parse(LOG.splitlines()).executed() == {"movz": 2, "fmla": 2, "bl": 2, "ret": 1}


def test_code_that_is_translated_again_counts_once() -> None:
    assert Log.parse((LOG + LOG).splitlines()).executed() == {"movz": 4, "fmla": 4, "bl": 4, "ret": 2}


def test_a_log_without_instructions_is_an_error() -> None:
    traces = [line for line in LOG.splitlines() if line.startswith("Trace")]
    with pytest.raises(LookupError, match="0x401000"):
        Log.parse(traces).executed()


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    assert "run_block is not built" in arm_instructions.missing_tool(tmp_path / "run_block")


def on_arm(test: Callable[..., None]) -> Callable[..., None]:
    test = pytest.mark.skipif(QEMU is None, reason="qemu-aarch64-static is not installed")(test)
    no_build = "MNV2_ARM_BUILD" not in os.environ
    return pytest.mark.skipif(no_build, reason="MNV2_ARM_BUILD names no build for ARM")(test)


@on_arm
@pytest.mark.parametrize("fused", [True, False])
def test_all_multiply_adds_are_counted(fused: bool) -> None:
    """Each product of vectors once, but what lies outside the image, and a scale for each result."""
    counted = count(PROGRAM, BLOCK, fused)
    pixels, all_products = BLOCK.height * BLOCK.width, BLOCK.macs // LANES
    results = pixels * (2 * BLOCK.expanded_channels + BLOCK.out_channels) // LANES
    taps_inside = (3 * BLOCK.height - 2) * (3 * BLOCK.width - 2)
    # A window's first product may be a plain one.
    no_additions = (BLOCK.taps * pixels - taps_inside + pixels) * BLOCK.expanded_channels // LANES
    assert all_products - no_additions + results <= counted.multiply_adds <= all_products + results
    assert counted.multiply_adds < counted.all < 10 * counted.multiply_adds


@on_arm
def test_instruction_by_instruction_it_is_the_same() -> None:
    """Where each is a block of its own, the lines alone say how many ran."""
    blocks = run_logged(PROGRAM, BLOCK, True, DEFAULT_L2)
    singly = run_logged(PROGRAM, BLOCK, True, DEFAULT_L2, "-singlestep")
    assert blocks.executed() == singly.executed()
    assert singly.runs.total() == blocks.executed().total() > blocks.runs.total()


@on_arm
def test_a_run_that_fails_is_an_error() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run_logged(PROGRAM, BLOCK, True, DEFAULT_L2, "-no-such-option")


@on_arm
def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a network that has one block twice."""
    network = SimpleNamespace(blocks=(BLOCK, BLOCK))
    monkeypatch.setattr(arm_instructions.shapes, "mobilenet_v2", lambda: network)
    arm_instructions.main(DEFAULT_L2, BUILD, None)
    *_, block, total = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert block[:4] == ["5x3", "8-16-8", "s1", "2"]
    assert total[0] == "sum"
    for once, both in zip(block[4:7], total[1:4], strict=True):
        assert float(both) == pytest.approx(2 * float(once), abs=0.002)
    assert total[4] == block[7]
