"""Which CUDA kernel serves a block, and that docs/gpu.md gives the selector's reasons. No GPU is needed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mnv2_kernels import _native
from mnv2_kernels.ops.cuda_selection import H100, cuda_blocks, select_block
from mnv2_kernels.shapes import BlockShape, mobilenet_v2

A100 = {"multiprocessors": 108, "capability": 80, "shared_bytes": 163 << 10}
DOCS = (Path(__file__).resolve().parent.parent / "docs" / "gpu.md").read_text()
BLOCK = BlockShape(1, 14, 14, 64, 384, 64, residual=True)
EARLY = ["register_block"] * 5  # with 16 to 32 input channels


def kernels(batch: int, dtype: str, gpu: dict[str, int]) -> list[str]:
    """Of the network's distinct blocks, in its order."""
    blocks = dict.fromkeys(mobilenet_v2(batch=batch).blocks)
    return [select_block(block, dtype, gpu)["kernel"] for block in blocks]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_block_of_the_network_has_its_kernel(dtype):
    assert kernels(256, dtype, H100) == ["general_block", *EARLY, *["tile_block"] * 6]
    assert kernels(1, dtype, H100) == ["general_block", *EARLY, *["cluster_block"] * 6]
    assert kernels(1, dtype, A100) == ["general_block", *EARLY, *["tile_block"] * 6]
    assert set(kernels(1, "float32", H100)) == {"general_block"}


@pytest.mark.parametrize(
    ("block", "dtype", "kernel", "reason"),
    [
        (BLOCK, "float32", "general_block", "float32 weights"),
        (BlockShape(1, 14, 14, 32, 32, 16, expand=False), "float16", "general_block", "no expand"),
        (replace(BLOCK, activation="none"), "float16", "general_block", "activations"),
        (replace(BLOCK, project_activation="relu6"), "float16", "general_block", "activations"),
        (replace(BLOCK, depthwise_activation="relu"), "float16", "general_block", "or differ"),
        (replace(BLOCK, kernel=5, padding=(2, 2, 2, 2)), "float16", "general_block", "larger than 3x3"),
        (replace(BLOCK, squeezed_channels=16), "float16", "gated_block", "means of all pixels"),
        (BlockShape(1, 14, 14, 60, 360, 64), "float16", "general_block", "no multiples of 8"),
        (BlockShape(1, 14, 14, 1024, 6144, 1024), "float16", "general_block", "too many channels"),
        (replace(BLOCK, batch=256), "float16", "tile_block", "multiples of 8"),
        (BLOCK, "float16", "cluster_block", "few images"),
        (BlockShape(1, 56, 56, 24, 144, 24), "float16", "register_block", "few channels"),
    ],
)
def test_a_choice_has_its_reason(block, dtype, kernel, reason):
    choice = select_block(block, dtype, H100)
    assert choice["kernel"] == kernel
    assert reason in choice["reason"]
    assert (kernel, choice["reason"]) in _native.cuda_block_reasons()


def test_the_docs_list_every_reason():
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", DOCS.partition("| chosen |")[2].partition("\n\n")[0], re.M)
    assert rows == _native.cuda_block_reasons()


def test_packed_weights_do_not_depend_on_images_or_gpu():
    sizes = {
        select_block(replace(BLOCK, batch=batch, height=size, width=size), "float16", gpu)["packed_bytes"]
        for batch in (1, 64)
        for size in (7, 56)
        for gpu in (A100, H100)
    }
    assert len(sizes) == 1


def test_a_gpu_with_little_shared_memory_is_refused():
    with pytest.raises(RuntimeError, match="more shared memory than the GPU has"):
        select_block(BLOCK, "float16", {**A100, "shared_bytes": 16 << 10})
    assert {row.kernel for row in cuda_blocks({**A100, "shared_bytes": 16 << 10})} >= {"-"}


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match='dtype: expected "float32", "float16" or "bfloat16", got "int8"'):
        select_block(BLOCK, "int8", H100)
