"""`mnv2 headlines`: MobileNetV1 by the fused block's operator, and the paper's table beside ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cli_cases import refusal, table_of

from mnv2_kernels.bench import BenchError, WrongResultError, headlines
from mnv2_kernels.bench.accuracy import require_right
from mnv2_kernels.bench.headlines import HeadlineRow, measure_headlines
from mnv2_kernels.bench.mobilenet_v1 import MobileNetV1, mobilenet_v1
from mnv2_kernels.bench.paper import HEADLINES
from mnv2_kernels.bench.results import read_results
from mnv2_kernels.cli import bench as commands
from mnv2_kernels.cli.app import main
from mnv2_kernels.nn.networks import eager_copy
from mnv2_kernels.weights.sources import randomised

Capture = pytest.CaptureFixture[str]

SIZE = 40
ROWS = (
    HeadlineRow("V1 1.0", 1, 4_231_976, 568_740_352, 30.0, 20.0, 70.6, 4.2e6, 575e6, 113.0),
    HeadlineRow("V2 1.0", 1, 3_504_872, 300_774_272, 24.0, 8.0, 72.0, 3.4e6, 300e6, 75.0),
)


@pytest.fixture(scope="module")
def v1() -> MobileNetV1:
    return randomised(MobileNetV1)


# --- MobileNetV1 ---


def test_shapes_of_v1(v1: MobileNetV1) -> None:
    shape = mobilenet_v1()
    assert shape.parameters == sum(parameter.numel() for parameter in v1.parameters()) == 4_231_976
    assert shape.macs == 568_740_352
    assert (shape.blocks[-1].out_height, shape.blocks[-1].out_channels) == (7, 1024)


def test_v1_is_right_fused(v1: MobileNetV1) -> None:
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        for fused in (v1, v1.deploy()):
            require_right("V1", fused(x), v1, x)
        assert not torch.equal(eager_copy(v1)(x), v1(x))  # which runs its layers


# --- the table ---


def test_every_network_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headlines, "SIZE", 32)
    rows = measure_headlines(rounds=1)
    assert [row.network for row in rows] == list(HEADLINES)
    for row in rows:
        paper = HEADLINES[row.network]
        assert min(row.eager_ms, row.fused_ms) > 0
        assert (row.paper_top1, row.paper_ms) == (paper.top1, paper.ms)
        assert row.macs == pytest.approx(paper.macs, rel=0.02)
    # The paper's 6.9 M for V2 1.4 are not those of its table 2 with 1.4 times the channels.
    assert [round(row.parameters / 1e6, 1) for row in rows] == [4.2, 3.5, 6.1]


def test_the_table_and_its_file(monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path) -> None:
    monkeypatch.setattr(commands, "measure_headlines", lambda rounds: ROWS)
    path = tmp_path / "headlines.json"
    lines = table_of(capsys, "headlines", "--rounds", "3", "--json", path)
    assert lines[3].split()[-5:] == ["24.00", "8.00", "0.40", "75", "0.66"]
    results = read_results(path, HeadlineRow)
    assert (results.rows, results.header.rounds) == (ROWS, 3)


@pytest.mark.parametrize(("error", "code"), [(WrongResultError("V1 is wrong"), 1), (BenchError("no"), 2)])
def test_exit_codes(error: BenchError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def fails(rounds: int) -> None:
        raise error

    monkeypatch.setattr(commands, "measure_headlines", fails)
    assert main(["headlines"]) == code
    assert capsys.readouterr().err == f"mnv2: {error}\n"


@pytest.mark.parametrize("command", ["headlines", "scaling", "roofline"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--rounds", "0"], "--rounds"), (["--json", "nowhere/a.json"], "no folder nowhere")],
)
def test_wrong_use(command: str, arguments: list[str], message: str, capsys: Capture) -> None:
    assert message in refusal(capsys, [command, *arguments])
