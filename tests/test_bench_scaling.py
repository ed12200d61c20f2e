"""`mnv2 scaling`: which settings are timed, and what is flat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cli_cases import table_of

from mnv2_kernels import shapes
from mnv2_kernels.bench import WrongResultError, scaling
from mnv2_kernels.bench.results import read_results
from mnv2_kernels.bench.scaling import BASE, ScalingRow, base_row, has_to_be_flat, is_flat, measure_scaling
from mnv2_kernels.cli import bench as commands

Capture = pytest.CaptureFixture[str]

ROW = ScalingRow(1, 1, 224, 1.0, 300_000_000, 10.0, 9.5, 11.0, 9.0)
ROWS = (
    replace(ROW, batch=8, best_ms=11.0),
    ROW,
    replace(ROW, size=96, best_ms=20.0),
    replace(ROW, threads=2),
)


def test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(BASE, size=32, width=0.35)
    for name, value in {
        "BASE": small,
        "BATCHES": (1, 2),
        "SIZES": (40,),
        "WIDTHS": (),
        "THREADED_BATCHES": (2,),
    }.items():
        monkeypatch.setattr(scaling, name, value)
    rows = list(measure_scaling(rounds=2, all_threads=2))
    assert [(row.threads, row.batch, row.size) for row in rows] == [
        (1, 1, 32),
        (1, 2, 32),
        (1, 1, 40),
        (2, 2, 32),
    ]
    for row in rows:
        assert 0 < row.best_ms <= row.lower_quartile_ms <= row.median_ms <= row.upper_quartile_ms
        assert row.macs == shapes.mobilenet_v2(0.35, row.size).macs
    assert base_row(rows) is rows[0]


def test_a_wrong_network_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, deployed = scaling._network(0.35)
    monkeypatch.setattr(scaling, "_network", lambda width: (model, lambda x: 2 * deployed(x)))
    with pytest.raises(WrongResultError, match=r"fused, width 0\.35, 32 x 32"):
        scaling._verified_call(replace(BASE, size=32, width=0.35))


def test_what_is_flat() -> None:
    assert ROW.ps_per_mac == pytest.approx(30)
    assert base_row(ROWS) is ROW
    assert [has_to_be_flat(row) for row in ROWS] == [True, True, False, False]
    assert [is_flat(row, ROW) for row in ROWS] == [False, True, False, True]
    assert is_flat(replace(ROW, best_ms=9 * 1.149), ROW)
    assert not is_flat(replace(ROW, best_ms=9 * 0.849), ROW)


def test_the_table_and_its_file(monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path) -> None:
    monkeypatch.setattr(commands, "measure_scaling", lambda rounds, threads: iter(ROWS))
    path = tmp_path / "scaling.json"
    lines = table_of(capsys, "scaling", "--json", path)
    assert [line.split()[-1] for line in lines[2:6]] == ["*", "1.00", "2.22", "1.00"]
    assert read_results(path, ScalingRow).rows == ROWS
