"""The Triton kernels compiled ahead of time for GPUs that need not be here, and the bytes that they move."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mnv2_kernels.shapes import describe, mobilenet_v2

pytest.importorskip("triton", reason="Triton is not installed")

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
MOST_TRAFFIC = 1.2

in_the_interpreter = pytest.mark.skipif(
    torch.cuda.is_available(), reason="counts in Triton's interpreter, which a GPU's kernels replace"
)


def run_compiler(*arguments: str) -> subprocess.CompletedProcess[str]:
    """benchmarks/triton_kernels.py in a process where Triton compiles instead of interpreting."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(BENCHMARKS / "triton_kernels.py"), "--check", "--json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "targets"),
    [
        ("float16", ("sm_80", "sm_90")),
        ("float16", ("sm_100", "gfx942")),
        ("bfloat16", ("sm_90",)),
        ("float32", ("sm_80",)),
        ("float32 --tf32", ("sm_90",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_triton_compiles_without_spills_and_within_shared_memory(dtype, targets):
    done = run_compiler("--dtype", *dtype.split(), *(f"--target={target}" for target in targets))
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    blocks = dict.fromkeys(mobilenet_v2().blocks)
    assert [(row["target"], row["block"]) for row in rows] == [
        (target, describe(block)) for target in targets for block in blocks
    ]
    assert all(row["registers"] > 0 and row["shared"] > 0 for row in rows)


def test_triton_check_finds_what_is_wrong(monkeypatch):
    import triton_kernels

    monkeypatch.setitem(triton_kernels.RECORDED_INSTRUCTIONS, (24, 144, 24, 1), 1.0)
    shape = next(block for block in triton_kernels.blocks(1.0) if block.in_channels == 24)
    row = triton_kernels.Compiled("24", "sm_90", "tile", 255, 8, 1 << 20, 1, False, 27.0, [])
    assert len(list(triton_kernels.misses(row, shape, torch.float16, "ieee"))) == 4


@pytest.mark.slow
@in_the_interpreter
@pytest.mark.parametrize("block", dict.fromkeys(mobilenet_v2().blocks), ids=describe)
def test_triton_moves_little_more_than_the_floor(block):
    import triton_traffic

    from mnv2_kernels.triton.configs import block_config

    config = block_config(block, torch.float16, "hopper")
    ratio = triton_traffic.ratio(triton_traffic.cut(block, config), config, torch.float16)
    assert ratio <= MOST_TRAFFIC
    assert ratio > 0.5, "less than the floor: something is not counted"
