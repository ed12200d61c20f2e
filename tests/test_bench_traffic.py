"""`mnv2 traffic`: what callgrind's files say, the bars, and one block counted from end to end."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli_cases import refusal, table_of

from mnv2_kernels import _native
from mnv2_kernels.bench.results import read_results
from mnv2_kernels.bench.traffic import blocks as traffic
from mnv2_kernels.bench.traffic import callgrind, count_eager
from mnv2_kernels.bench.traffic.blocks import TrafficRow, measure_traffic
from mnv2_kernels.bench.traffic.callgrind import LINE_BYTES, Count, TrafficError, count_misses, parse_count
from mnv2_kernels.cli import bench as commands
from mnv2_kernels.layer import block_arguments
from mnv2_kernels.shapes import BlockShape

Capture = pytest.CaptureFixture[str]

needs_valgrind = pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")

DUMP = """# callgrind format
version: 1
events: Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw
summary: 9 9 9 9 9 9 9 9 9
fn=(12) mnv2::cpu::run
12 34
totals: 1000 300 200 3 40 20 2 15 7
"""
# Expanded it takes 150 KB, otherwise 7 KB of weights and 50 KB of image.
BLOCK = BlockShape(1, 28, 28, 8, 48, 8, residual=True)
GATED = replace(BLOCK, squeezed_channels=4)
CACHE = 128 << 10
ROW = TrafficRow(
    "56x56 24-144-24 s1", 56, 1, "avx2", "3 rows, ring", 1 << 19, 1, 1 << 20, 100, 800, 110, 900, 2300, 2200
)


# --- units ---


def test_a_dump() -> None:
    count = parse_count(DUMP)
    assert count == Count(instructions=1000, misses=22)
    assert count.bytes == 22 * LINE_BYTES


def test_the_bars() -> None:
    assert ROW.meets_floor
    assert ROW.meets_eager  # exactly a twentieth of the better layout
    assert not replace(ROW, floor_bytes=99).meets_floor
    assert not replace(ROW, eager_channels_last_bytes=2199).meets_eager
    assert replace(ROW, eager_channels_last_bytes=2199, height=28).meets_eager
    left_out = replace(ROW, eager_bytes=None, eager_channels_last_bytes=None)
    assert left_out.eager_share is None
    assert left_out.meets_eager


# --- wrong use ---


@pytest.mark.parametrize(
    ("cache", "message"),
    [("3M", "power of two"), ("32K", "at least 64 KiB"), ("0", "power of two"), ("big", "1M")],
)
def test_no_such_cache(cache: str, message: str, capsys: Capture) -> None:
    assert message in refusal(capsys, ["traffic", "--cache", cache])


def test_no_valgrind(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (
        refusal(capsys, ["traffic"]) == "mnv2: valgrind is not installed (Debian's package has that name)\n"
    )


@needs_valgrind
def test_a_program_that_fails() -> None:
    with pytest.raises(TrafficError, match="no blocks today"):
        count_misses([sys.executable, "-I", "-S", "-c", "raise SystemExit('no blocks today')"], CACHE)


# --- what is run under callgrind ---


def test_eager_runs_every_block_in_both_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    network = "mobilenetv3_small"

    def count(command: list[str], cache: int, simulate_at_start: bool) -> tuple[list[Count], str]:
        assert command[:3] == [sys.executable, "-m", count_eager.__name__]
        count_eager.main(command[3], int(command[4]), json.loads(command[5]))
        return [Count(number, 1) for number in range(len(seen))], ""

    monkeypatch.setattr(traffic, "count_misses", count)
    monkeypatch.setattr(count_eager, "start_simulation", lambda: None)
    monkeypatch.setattr(count_eager, "_count", lambda modules, inputs, _: seen.append((modules, inputs)))
    blocks = traffic.network_blocks(network)
    counts = traffic._count_eager(network, [*zip(traffic.eager_modules(network), blocks, strict=True)], CACHE)
    for number, (modules, inputs) in enumerate(seen):
        layout = count_eager.LAYOUTS[number % 2]
        block = blocks[number // 2]
        assert counts[layout][number // 2].instructions == number
        for module, x in zip(modules, inputs, strict=True):
            assert x.is_contiguous(memory_format=layout)
            assert module(x).shape == (1, block.out_channels, block.out_height, block.out_width)
            depthwise = next(each for each in module.modules() if getattr(each, "groups", 1) > 1)
            assert depthwise.weight.shape == (block.expanded_channels, 1, block.kernel, block.kernel)
            assert block.squeezed_channels in (0, *(len(each) for each in module.parameters()))
    assert len(seen) == 2 * len(blocks)


@pytest.mark.slow
@needs_valgrind
def test_blocks_from_end_to_end() -> None:
    """In a cache that the expanded tensor does not fit into, nor the depthwise output."""
    rows = measure_traffic(CACHE, [BLOCK, BLOCK, GATED], eager=False, l2_bytes=32 << 10)
    assert [(row.block, row.blocks) for row in rows] == [
        ("28x28 8-48-8 s1", 2),
        ("28x28 8-48-8 s1 gate 4", 1),
    ]
    for row, block in zip(rows, (BLOCK, GATED), strict=True):
        assert (row.cache_bytes, row.l2_bytes) == (CACHE, 32 << 10)
        assert row.floor_bytes == block.floor_bytes(torch.float32)
        # Each line of input, weights and output is fetched at least once.
        assert row.floor_bytes <= row.fused_bytes
        assert row.fused_bytes < 1.3 * row.floor_bytes
        assert row.unfused_model_bytes == block.unfused_bytes(torch.float32)
        assert row.unfused_bytes > row.floor_bytes + block.expanded_bytes(torch.float32)
        assert row.eager_bytes is None


@pytest.mark.parametrize("cache", [64 << 10, 1 << 30])
def test_no_plan_is_for_more_than_is_simulated(cache: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def count(blocks: list[BlockShape], *sizes: int) -> None:
        asked.append(sizes)
        raise TrafficError

    monkeypatch.setattr(traffic, "_count_blocks", count)
    with pytest.raises(TrafficError):
        measure_traffic(cache, [BLOCK], eager=False)
    assert asked == [(cache, min(_native.plan(**block_arguments(BLOCK))["l2_bytes"], cache // 2))]


@pytest.mark.slow
@needs_valgrind
def test_all_that_the_floor_counts_is_cold_in_a_large_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {**block_arguments(BLOCK), "fused": True, "l2_bytes": 32 << 10}
    plans, (fused,), (unfused,) = traffic._count_blocks([BLOCK], 4 << 20, arguments["l2_bytes"])
    floor = BLOCK.floor_bytes(torch.float32)
    # Valgrind's processor may lack what this one has.
    monkeypatch.setenv("MNV2_FORCE_ISA", plans[0]["isa"])
    assert plans[0] == _native.BlockRun(**arguments).plan
    # What the block only works in has stayed, fused or not.
    for count in (fused, unfused):
        assert floor <= count.bytes <= 1.02 * floor
    assert fused.instructions > 0


# --- the command ---


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path) -> None:
    rows = [ROW, replace(ROW, floor_bytes=90, eager_bytes=None, eager_channels_last_bytes=None)]
    asked = []

    def measure(cache_bytes: int, **options: object) -> list[TrafficRow]:
        asked.append((cache_bytes, options))
        return rows

    monkeypatch.setattr(commands, "measure_traffic", measure)
    path = tmp_path / "traffic.json"
    lines = table_of(capsys, "traffic", "--cache", "1M", "--no-eager", "--json", path)
    assert asked == [(1 << 20, {"eager": False, "l2_bytes": None, "network": "mobilenet_v2"})]
    assert " 1.10 " in lines[2]
    assert " 1/20.0" in lines[2]
    assert " 1.22 * " in lines[3]
    results = read_results(path, TrafficRow)
    assert results.rows == tuple(rows)
    assert results.header.command == f"mnv2 traffic --cache 1M --no-eager --json {path}"


def test_the_command_on_a_network(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    asked = []

    def measure(cache_bytes: int, **options: object) -> list[TrafficRow]:
        asked.append(options)
        return [ROW]

    monkeypatch.setattr(commands, "measure_traffic", measure)
    table_of(capsys, "traffic", "--network", "mobilenetv3_large")
    assert asked == [{"eager": True, "l2_bytes": None, "network": "mobilenetv3_large"}]
    assert len(traffic.network_blocks("mobilenetv3_large")) == 15


def test_what_a_network_refuses(capsys: Capture) -> None:
    message = refusal(capsys, ["traffic", "--network", "fbnet_c", "--weights", "int8.safetensors"])
    assert "--weights: not for a --network" in message


def test_the_marks_have_the_names_that_callgrind_looks_for() -> None:
    """A stripped module keeps its dynamic symbols alone."""
    module = Path(_native.__file__).read_bytes()
    for mark in (callgrind.BEGIN, callgrind.END):
        assert mark.encode() + b"\0" in module
    for function in (_native.count_begin, _native.count_end):
        assert function() is None
