"""`mnv2 roofline`: blocks beside the multiply-add peak and the speed of a copy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cli_cases import table_of

from mnv2_kernels import shapes
from mnv2_kernels.bench.results import read_results
from mnv2_kernels.bench.roofline import RooflineRow, measure_roofline
from mnv2_kernels.cli import bench as commands

Capture = pytest.CaptureFixture[str]

ROW = RooflineRow("56x56 24-144-24 s1", 56, 1, 25_000_000, 500_000, 5_000_000, 0.5, 1.0, 200.0, 20.0)


def test_every_block_is_timed_both_ways() -> None:
    network = shapes.mobilenet_v2().blocks
    rows = list(measure_roofline(rounds=1))
    assert [row.block for row in rows] == [*dict.fromkeys(map(shapes.describe, network))]
    assert sum(row.blocks for row in rows) == len(network)
    assert sum(row.blocks * row.macs for row in rows) == sum(block.macs for block in network)
    assert sum(row.blocks * row.unfused_bytes for row in rows) == sum(
        block.unfused_bytes(torch.float32) for block in network
    )
    for row in rows:
        assert min(row.fused_ms, row.unfused_ms, row.copy_gb_per_s, row.peak_gflops) > 0
        assert row.fused_intensity > row.unfused_intensity


def test_where_a_block_stands() -> None:
    assert (ROW.fused_gflops, ROW.unfused_gflops) == pytest.approx((100, 50))
    assert (ROW.fused_intensity, ROW.unfused_intensity) == pytest.approx((100, 10))


def test_the_table_and_its_file(monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path) -> None:
    monkeypatch.setattr(commands, "measure_roofline", lambda rounds: iter([ROW]))
    path = tmp_path / "roofline.json"
    lines = table_of(capsys, "roofline", "--json", path)
    assert lines[2].split()[-8:] == ["0.500", "100.0", "50%", "100", "1.000", "50.0", "10", "0.50"]
    assert read_results(path, RooflineRow).rows == (ROW,)
