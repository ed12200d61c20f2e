"""`mnv2 profile`: every layer's time beside its plan and the peak."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cli_cases import FAST, refusal, save_weights, table_of

from mnv2_kernels import FusedMobileNetV2, shapes
from mnv2_kernels.cli.app import main
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
