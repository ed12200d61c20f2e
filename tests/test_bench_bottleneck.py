"""`mnv2 bottleneck`: what a ReLU loses of a spiral, and how much of a network's activations is zero."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cli_cases import CLASSES, refusal, save_photo, save_weights, table_of, tiny_network, write_data_folder
from PIL import Image

from mnv2_kernels import FusedMobileNetV2
from mnv2_kernels.bench.bottleneck import spiral
from mnv2_kernels.bench.bottleneck.zeros import ZerosRow, count_zeros
from mnv2_kernels.bench.results import read_results
from mnv2_kernels.weights.settings import Settings
from mnv2_kernels.weights.sources import Network, unnamed

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("dimensions", spiral.DIMENSIONS)
def test_what_is_lost_is_what_no_inverse_finds(dimensions: int) -> None:
    embedding, points = spiral.embed(dimensions), spiral.spiral()
    generator = torch.Generator().manual_seed(spiral.SEED)
    shape = (spiral.MATRICES, dimensions, 2)
    matrix = torch.randn(shape, generator=generator, dtype=torch.float64)[0]
    for point, restored, is_lost in zip(points, embedding.restored, embedding.is_lost, strict=True):
        coordinates = matrix @ point
        torch.testing.assert_close(matrix.pinverse() @ coordinates.relu(), restored)
        seen = coordinates > 0
        assert (torch.linalg.matrix_rank(matrix[seen]) < 2 if seen.any() else True) == is_lost
    # Each coordinate is positive for half of all matrices.
    assert embedding.mean_lost == pytest.approx((1 + dimensions) / 2**dimensions, abs=0.03)
    assert embedding.lost == embedding.is_lost.sum() / len(points)


def test_zeros_are_counted_by_channel(tmp_path: Path) -> None:
    model = tiny_network()
    convolutions = model.features[2].conv
    with torch.no_grad():
        convolutions[0][1].bias[:3] = -1e3
        convolutions[0][1].bias[3:] = 1e3
        convolutions[-1].bias[:2] = 1e3
        convolutions[-1].bias[2:] = -1e3
    network = Network("planted", model, unnamed(CLASSES), Settings(size=40))
    rows = list(count_zeros(network, [save_photo(tmp_path), save_photo(tmp_path, "another.png")]))
    assert [row.block for row in rows] == [f"features.{index}" for index in range(2, 18)]
    planted, later = rows[0], rows[1]
    assert (planted.network, planted.photos, planted.size) == ("planted", 2, 40)
    assert (planted.half_zero, planted.mostly_zero, planted.all_zero) == (3, 3, 3)
    assert planted.expanded_zero == pytest.approx(3 / planted.expanded_channels)
    assert planted.expanded_channels == convolutions[0][1].num_features
    returned = convolutions[-1].num_features
    assert (planted.channels, planted.linear_zero) == (returned, 0)
    assert planted.relu_zero == pytest.approx((returned - 2) / returned)
    assert planted.relu_mostly_zero == returned - 2
    assert 0 < later.expanded_zero < 1
    assert later.half_zero >= later.mostly_zero >= later.all_zero


def test_the_command(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    write_data_folder(tmp_path, monkeypatch)
    picture, results = tmp_path / "spirals.png", tmp_path / "rows.json"
    options = ("--weights", "dogs", "--out", picture, "--json", results)
    lines = table_of(capsys, "bottleneck", *options)
    shares = {line.split()[0]: line.split()[1] for line in lines[2 : 2 + len(spiral.DIMENSIONS)]}
    assert shares == {str(each): f"{spiral.embed(each).lost:.1%}" for each in spiral.DIMENSIONS}
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert min(image.size) > 500
    rows = read_results(results, ZerosRow).rows
    assert [row.block for row in rows] == [line.split()[0] for line in lines if line.startswith("features")]
    assert {(row.network, row.photos) for row in rows} == {("dogs", 1)}


def test_without_a_trained_network(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("MNV2_DATA", str(tmp_path / "absent"))
    assert not any("features" in line for line in table_of(capsys, "bottleneck", "--out", tmp_path / "a.png"))
    command = ["bottleneck", "--json", tmp_path / "rows.json", "--out", tmp_path / "b.png"]
    assert "--json: for trained networks" in refusal(capsys, command)
    assert not (tmp_path / "b.png").exists()
    assert "b.png: No such file" in refusal(capsys, ["bottleneck", "--out", tmp_path / "absent" / "b.png"])


def test_networks_that_take_no_photographs(tmp_path: Path, capsys: Capture, monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    write_data_folder(tmp_path, monkeypatch)
    weights = save_weights(tmp_path, FusedMobileNetV2(CLASSES, 0.35, in_channels=4).state_dict())
    command = ["bottleneck", "--weights", weights, "--out", tmp_path / "a.png"]
    assert "its images have 4 channels" in refusal(capsys, command)


def test_what_draws_has_to_be_installed(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnv2_kernels.bench.report.DRAWING", ("no_such_module",))
    assert "mnv2 bottleneck needs no_such_module: pip install" in refusal(capsys, ["bottleneck"])
