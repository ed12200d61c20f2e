"""`mnv2 profile`: every layer's time beside its plan and the peak."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cli_cases import FAST, refusal, save_weights, table_of

from mnv2_kernels import FusedMobileNetV2, shapes
from mnv2_kernels.bench.random_layers import pack_random
from mnv2_kernels.cli.app import main
from mnv2_kernels.layer import layer_shapes
from mnv2_kernels.networks import NETWORKS, layers_of
from mnv2_kernels.packing.plans import layer_plans

Capture = pytest.CaptureFixture[str]
KINDS = ["stem + block", *["block"] * 16, "head", "linear"]
# What DESIGN promises of a published network at 224 x 224.
MOST_SCRATCH = 2 << 20


@pytest.fixture(autouse=True)
def _same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def profile_json(capsys: Capture, *arguments: str | Path) -> dict:
    assert main(["profile", "--json", "--rounds", "2", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (1, 3), (4, 2)])
def test_every_layer_is_timed(batch: int, threads: int, tmp_path: Path, capsys: Capture) -> None:
    options = ["--batch", batch, "--threads", threads, "--size", 64]
    result = profile_json(capsys, "--weights", save_weights(tmp_path), *options)
    assert [layer["kind"] for layer in result["layers"]] == KINDS
    assert (result["batch"], result["threads"], result["rounds"]) == (batch, threads, 2)
    assert result["peak_gflops"] > 0
    workers = 1 if batch >= threads else threads
    for layer in result["layers"]:
        assert layer["ms"] > 0
        peak = result["peak_gflops"] * (threads if layer["kind"] == "linear" else workers)
        assert layer["share"] == pytest.approx(layer["gflops"] / peak)
    # Where threads take whole images, the operations are those of one.
    network = shapes.mobilenet_v2(0.35, 64, 1 if batch >= threads else batch)
    first, *others = network.blocks
    macs = [network.stem.macs + first.macs, *(layer.macs for layer in (*others, network.head))]
    counted = [layer["gflops"] * layer["ms"] for layer in result["layers"][:-1]]
    assert counted == pytest.approx([2e-6 * each for each in macs])


def test_table(tmp_path: Path, capsys: Capture) -> None:
    lines = table_of(capsys, "profile", "--weights", save_weights(tmp_path), "--rounds", "1", *FAST)
    assert [line.split("  ")[0] for line in lines[2 : 2 + len(KINDS)]] == KINDS


def test_refusals(tmp_path: Path, capsys: Capture) -> None:
    assert "nothing.safetensors" in refusal(
        capsys, ["profile", "--weights", tmp_path / "nothing.safetensors"]
    )
    assert "--threads" in refusal(capsys, ["profile", "--threads", "0"])


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_scratch_stays_small_at_the_published_size(threads: int) -> None:
    packed = FusedMobileNetV2().eval().deploy().network.packed
    plans = layer_plans(packed, torch.empty(1, 3, 224, 224), threads)
    assert max(plan["scratch_bytes"] for plan in plans) < MOST_SCRATCH


@pytest.mark.parametrize("batch", [1, 3])
def test_a_well_known_network(batch: int, capsys: Capture) -> None:
    """MobileNetV3 has gates, and two linear layers, which take the whole batch."""
    options = ["--network", "mobilenetv3_small", "--size", 64, "--threads", 2, "--batch", batch]
    result = profile_json(capsys, *options)
    workers = 2 if batch == 1 else 1
    assert [layer["kind"] for layer in result["layers"]][-3:] == ["head", "linear", "linear"]
    counted = sum(layer["gflops"] * layer["ms"] for layer in result["layers"][:-2])
    *images, wide, last = layer_shapes(layers_of("mobilenetv3_small"), 1, 64, 64)
    assert counted == pytest.approx(2e-6 * sum(shape.macs for shape in images))
    for layer, shape in zip(result["layers"][-2:], (wide, last), strict=True):
        assert layer["gflops"] * layer["ms"] == pytest.approx(2e-6 * shape.macs * batch)
        assert layer["share"] == pytest.approx(layer["gflops"] / (2 * result["peak_gflops"]))
    for layer in result["layers"][:-2]:
        assert layer["share"] == pytest.approx(layer["gflops"] / (workers * result["peak_gflops"]))


@pytest.mark.parametrize("network", NETWORKS)
def test_random_weights_keep_the_signal_normal(network: str) -> None:
    """Zeros, infinities and denormals would take another time."""
    packed = pack_random(layers_of(network), torch.float32)
    y = packed(torch.randn(1, 3, 64, 64))
    assert y.isfinite().all()
    assert 1e-3 < y.std() < 1e6


def test_what_a_well_known_network_refuses(capsys: Capture) -> None:
    assert "expected one of mobilenet_v2" in refusal(capsys, ["profile", "--network", "alexnet"])
    assert "--weights: a --network has random ones" in refusal(
        capsys, ["profile", "--network", "fbnet_c", "--weights", "random"]
    )
