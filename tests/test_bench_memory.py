"""`mnv2 memory`: tensors by resolution beside the paper's, peaks, and the cut by channels."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
import torch
from cli_cases import refusal, table_of

from mnv2_kernels import FusedMobileNetV2, shapes
from mnv2_kernels.bench import memory
from mnv2_kernels.bench.memory import (
    LONGEST_SPLIT,
    NETWORK,
    Allocations,
    MemoryRow,
    SplitRow,
    allocations,
    measure_memory,
    measure_splits,
)
from mnv2_kernels.bench.results import read_results
from mnv2_kernels.cli import bench as commands

Capture = pytest.CaptureFixture[str]

CPU = torch.device("cpu")
# The paper's table 3, as computed from its table 2; kilobytes at 16 bit.
PAPER = {112: (16, 401), 56: (24, 151), 28: (32, 50), 14: (96, 38), 7: (320, 31)}


# Not the command's float16, in which torch's layers take twenty times as long.
DTYPE = torch.float32


@pytest.fixture(scope="module")
def rows() -> list[MemoryRow]:
    return measure_memory(DTYPE)


@pytest.fixture(scope="module")
def split_rows() -> list[SplitRow]:
    return list(measure_splits(rounds=1))


# --- the table ---


def test_fused_blocks_materialise_no_more_than_the_papers_network(rows: list[MemoryRow]) -> None:
    *stages, _ = rows
    assert [row.stage for row in stages] == [f"{size}x{size}" for size in PAPER]
    for row, (channels, kilobytes) in zip(stages, PAPER.values(), strict=True):
        assert row.paper_channels == channels
        assert round(row.paper_bytes / 1000 * torch.float16.itemsize / DTYPE.itemsize) == kilobytes
        assert 0 < row.fused_tensor_bytes <= row.paper_bytes
        assert row.meets_paper


def test_the_same_at_16_bit() -> None:
    model = FusedMobileNetV2().eval().half()
    for block, shape in zip(model.features[1:], shapes.mobilenet_v2().blocks, strict=False):
        fused = memory._fused_allocations(block, memory._image(shape, torch.float16, "cpu"))
        channels, _ = PAPER[shape.out_height]
        assert 0 < fused.largest <= channels * shape.out_height * shape.out_width * torch.float16.itemsize
        assert fused.peak == fused.largest


def test_a_fused_block_needs_its_input_and_output(rows: list[MemoryRow]) -> None:
    blocks = shapes.mobilenet_v2().blocks
    for row, size in zip(rows, PAPER, strict=False):
        of_stage = [block for block in blocks if block.height == size]
        both = [block.input_bytes(DTYPE) + block.output_bytes(DTYPE) for block in of_stage]
        assert row.fused_peak_bytes == max(both)


def test_eager_materialises_the_expanded_tensors(rows: list[MemoryRow]) -> None:
    for row, size in zip(rows, PAPER, strict=False):
        expanded = [
            block.expanded_channels * block.height * block.width * DTYPE.itemsize
            for block in shapes.mobilenet_v2().blocks
            if block.height == size and block.expand
        ]
        assert row.eager_tensor_bytes >= max(expanded)
        assert row.eager_peak_bytes > 2 * max(expanded)


def test_the_network(rows: list[MemoryRow]) -> None:
    row = rows[-1]
    assert row.stage == NETWORK
    assert row.meets_paper  # which says nothing of it
    if row.fused_peak_bytes is None:
        pytest.skip("this C library has no mallinfo2")
    # At least the two largest of consecutive layers' results.
    stage, next_stage, *_ = rows
    assert (
        stage.fused_tensor_bytes + next_stage.fused_tensor_bytes < row.fused_peak_bytes < row.eager_peak_bytes
    )


# --- how it is measured ---


def test_allocations_of_a_call() -> None:
    def call() -> torch.Tensor:
        first = torch.empty(1000, dtype=torch.uint8)
        second = torch.empty(3000, dtype=torch.uint8)
        del first
        kept = torch.empty(500, dtype=torch.uint8)
        del second
        return kept

    assert allocations(call, CPU) == Allocations(largest=3000, peak=4000)
    assert allocations(lambda: None, CPU) == Allocations(0, 0)


def test_bytes_that_a_thread_holds() -> None:
    held = memory._held_bytes(lambda: torch.empty(5_000_000, dtype=torch.uint8))
    if held is None:
        pytest.skip("this C library has no mallinfo2")
    assert 5_000_000 <= held < 5_100_000


# --- parts of the channels ---


def test_parts_of_the_channels(split_rows: list[SplitRow]) -> None:
    blocks = defaultdict(list)
    for row in split_rows:
        blocks[row.block].append(row)
    assert len(blocks) == len({block for block in shapes.mobilenet_v2().blocks if block.expand})
    for planned, *parts in blocks.values():
        assert planned.parts == 0
        assert [row.parts for row in parts] == list(range(1, LONGEST_SPLIT + 1))
        assert all(row.ms > 0 for row in (planned, *parts))
        scratch = [row.scratch_bytes for row in parts]
        assert scratch == sorted(scratch, reverse=True)
        assert scratch[0] > planned.scratch_bytes
        chunks = [row.chunk_channels for row in parts]
        assert all(row.parts * chunk >= chunks[0] for row, chunk in zip(parts, chunks, strict=True))
    assert sum(rows[0].blocks for rows in blocks.values()) == 16


# --- the command ---


def test_the_table_and_its_file(
    rows: list[MemoryRow], monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    asked = []
    monkeypatch.setattr(commands, "measure_memory", lambda *arguments: asked.append(arguments) or rows)
    lines = table_of(capsys, "memory", "--dtype", "float16", "--json", str(tmp_path / "memory.json"))
    assert asked == [(torch.float16, "cpu")]
    assert lines[2].split()[:5] == ["112x112", "16", "ch.", "803", "803"]
    assert read_results(tmp_path / "memory.json", MemoryRow).rows == tuple(rows)


def test_the_table_of_parts_and_its_file(
    split_rows: list[SplitRow], monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    monkeypatch.setattr(commands, "measure_splits", lambda rounds: iter(split_rows))
    path = tmp_path / "parts.json"
    lines = table_of(capsys, "memory", "--split", "--rounds", "7", "--json", str(path))
    assert "t = 8" in lines[0]
    results = read_results(path, SplitRow)
    assert results.rows == tuple(split_rows)
    assert results.header.rounds == 7
    assert results.header.command == f"mnv2 memory --split --rounds 7 --json {path}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "tpu"], "'cpu', 'cuda'"),
        (["--rounds", "0"], "--rounds"),
        (["--rounds", "5"], "--rounds: for --split alone"),
        (["--split", "--dtype", "float16", "--device", "cpu"], "--dtype and --device: --split times float32"),
    ],
)
def test_wrong_use(arguments: list[str], message: str, capsys: Capture) -> None:
    assert message in refusal(capsys, ["memory", *arguments])
