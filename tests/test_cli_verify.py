from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from cli_cases import FAST, save_photo, save_weights, write_data_folder
from models import calls
from torch import Tensor

from mnv2_kernels.accuracy import EAGER_FACTOR, MINIMUM_INPUTS
from mnv2_kernels.cli.app import main
from mnv2_kernels.cli.verify import verify_network
from mnv2_kernels.packing.packed_layers import PackedLayers
from mnv2_kernels.weights.sources import load_network

TYPES = {
    "weights": str,
    "dtype": str,
    "batch": int,
    "inputs": int,
    "photos": int,
    "isa": str,
    "threads": int,
    "eager_factor": float,
    "parts": list,
    "passed": bool,
}
PART_KEYS = {"name", "shape", "fused_error", "eager_error", "ratio", "allowed_error", "passed"}
NAMES = ["features.0", *(f"features.{index}" for index in range(1, 18)), "features.18, pool", "network"]

# Errors of a tiny network are few: only many inputs make their maximum a matter of more than luck.
POOLED = (*FAST, "--batch", "48")

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MNV2_DATA", str(tmp_path / "absent"))


def verify_json(capsys: Capture, *arguments: str | Path, code: int = 0) -> dict:
    assert main(["verify", *map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_json(tmp_path: Path, capsys: Capture) -> None:
    weights = save_weights(tmp_path)
    result = verify_json(capsys, save_photo(tmp_path), "--weights", weights, *POOLED)
    assert {key: type(value) for key, value in result.items()} == TYPES
    assert (result["weights"], result["dtype"], result["batch"]) == (str(weights), "float32", 48)
    assert (result["photos"], result["inputs"]) == (1, 48)
    assert result["eager_factor"] == EAGER_FACTOR
    assert [part["name"] for part in result["parts"]] == NAMES
    for part in result["parts"]:
        assert part.keys() == PART_KEYS
        assert 0 < part["fused_error"] <= part["allowed_error"]
        assert part["allowed_error"] >= EAGER_FACTOR * part["eager_error"] > 0
        assert part["ratio"] == part["fused_error"] / part["eager_error"]


@pytest.mark.usefixtures("no_data")
def test_without_data_random_weights_are_verified(capsys: Capture) -> None:
    result = verify_json(capsys, *POOLED)
    assert (result["weights"], result["photos"], result["passed"]) == ("random", 0, True)


def test_kernels_run_and_run_what_they_should(tmp_path: Path) -> None:
    network = load_network(str(save_weights(tmp_path)), size=32)
    with calls() as operators:
        verify_network(network, ())
    counts = Counter(operators)
    assert counts["run stem"] == counts["run head_pool"] == counts["run network"] == MINIMUM_INPUTS
    assert counts["run block"] == 17 * MINIMUM_INPUTS


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    network = load_network(str(save_weights(tmp_path)), size=32)
    verify_network(network, (), "float16")
    assert {parameter.dtype for parameter in network.model.parameters()} == {torch.float32}
    assert network.model.training is False


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [1e-3, float("nan")])
def test_a_wrong_block_fails(
    wrong: float, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = PackedLayers.forward

    def broken(operator: PackedLayers, x: Tensor) -> Tensor:
        y = forward(operator, x)
        first, *others = operator.layers
        is_broken = first.kind == "block" and first.stride == 1 and not first.residual
        if others or is_broken:
            y[..., -1:, -1] += wrong
        return y

    monkeypatch.setattr(PackedLayers, "forward", broken)
    command = ["--weights", save_weights(tmp_path), *POOLED]
    result = verify_json(capsys, *command, code=1)
    failed = [part["name"] for part in result["parts"] if not part["passed"]]
    # The stride 1 blocks that change the number of channels, and with them the logits.
    assert failed == ["features.1", "features.11", "features.17", "network"]
    assert main(["verify", *map(str, command)]) == 1
    assert capsys.readouterr().out.count("FAILED") == len(failed) + 1


def test_photographs_of_the_data_folder_serve_other_weights(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data_folder(tmp_path, monkeypatch)
    result = verify_json(capsys, "--weights", save_weights(tmp_path), *POOLED)
    assert (result["photos"], result["inputs"], result["passed"]) == (1, 48, True)
