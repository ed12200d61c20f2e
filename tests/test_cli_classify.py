from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from cli_cases import CLASSES, FAST, SIZE, needs_data, save_photo, save_weights, write_data_folder

from mnv2_kernels import FusedMobileNetV2, _native
from mnv2_kernels.cli.app import main
from mnv2_kernels.nn.networks import network_shape
from mnv2_kernels.weights.expected import TOLERANCE
from mnv2_kernels.weights.photos import load_photo
from mnv2_kernels.weights.sources import data_folder, load_network

KEYS = {
    "weights": str,
    "classes": int,
    "padding": str,
    "preprocess": str,
    "size": int,
    "eps": float,
    "isa": str,
    "threads": int,
    "photos": list,
    "largest_difference": float,
    "agrees": bool,
    "expected": type(None),
    "timing": dict,
    "expanded_bytes": int,
    "passed": bool,
}
PHOTO_KEYS = {"photo", "top", "largest_difference", "agrees"}
GUESS_KEYS = {"index", "label", "probability", "logit", "eager_logit"}
TIMING_KEYS = {"rounds", "fused_ms", "eager_ms", "speedup"}

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnv2_kernels.cli.classify.ROUNDS", 1)


def classify_json(capsys: Capture, *arguments: str | Path, code: int = 0) -> dict:
    assert main(["classify", *map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_json(tmp_path: Path, capsys: Capture) -> None:
    photo, weights = save_photo(tmp_path), save_weights(tmp_path)
    result = classify_json(capsys, photo, "--weights", weights, *FAST)
    assert {key: type(value) for key, value in result.items()} == KEYS
    assert result["weights"] == str(weights)
    assert (result["classes"], result["size"]) == (CLASSES, SIZE)
    assert (result["padding"], result["preprocess"], result["eps"]) == ("torch", "torchvision", 1e-5)
    assert (result["isa"], result["threads"]) == (_native.selected_isa(), torch.get_num_threads())
    assert result["timing"].keys() == TIMING_KEYS
    assert result["timing"]["speedup"] == result["timing"]["eager_ms"] / result["timing"]["fused_ms"]
    [listed] = result["photos"]
    assert listed.keys() == PHOTO_KEYS
    assert listed["photo"] == str(photo)
    assert [guess.keys() for guess in listed["top"]] == [GUESS_KEYS] * 5


def test_guesses_are_the_networks(tmp_path: Path, capsys: Capture) -> None:
    photo, weights = save_photo(tmp_path), save_weights(tmp_path)
    result = classify_json(capsys, photo, "--weights", weights, "--preprocess", "tf", *FAST)
    network = load_network(str(weights))
    with torch.inference_mode():
        logits = network.model(load_photo(photo, SIZE, "tf")[None])[0]
    expected = logits.topk(5)
    top = result["photos"][0]["top"]
    assert [guess["index"] for guess in top] == expected.indices.tolist()
    assert [guess["logit"] for guess in top] == expected.values.tolist()
    assert [guess["probability"] for guess in top] == logits.softmax(0)[expected.indices].tolist()
    assert [guess["label"] for guess in top] == [f"class {guess['index']}" for guess in top]
    assert result["expanded_bytes"] == network_shape(network.model, SIZE).expanded_bytes(torch.float32)


def test_settings_change_the_logits(tmp_path: Path, capsys: Capture) -> None:
    command = [save_photo(tmp_path), "--weights", save_weights(tmp_path), *FAST]
    options = [[], ["--padding", "same"], ["--preprocess", "tf"], ["--eps", "0.1"]]
    results = [classify_json(capsys, *command, *option) for option in options]
    assert len({result["photos"][0]["top"][0]["logit"] for result in results}) == len(options)


def test_fewer_than_five_classes(tmp_path: Path, capsys: Capture) -> None:
    weights = save_weights(tmp_path, FusedMobileNetV2(2, 0.35).state_dict())
    result = classify_json(capsys, save_photo(tmp_path), "--weights", weights, *FAST)
    assert len(result["photos"][0]["top"]) == 2


def test_the_table_fits_80_columns(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text(
        "\n".join(f"{index} is a label that is too long to be shown" for index in range(CLASSES))
    )
    photo = save_photo(tmp_path, "a_long_name.png")
    monkeypatch.setattr("mnv2_kernels.cli.console.PIPE_WIDTH", 80)
    command = ["classify", photo, "--weights", save_weights(tmp_path), "--labels", labels, *FAST]
    assert main([str(argument) for argument in command]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    row = re.compile(r"\d is a label .* +\d+\.\d% +-?\d+\.\d{4} +-?\d+\.\d{4}$")
    rows = [line for line in lines if row.search(line)]
    assert len(rows) == 5
    assert rows[0].startswith("a_long_name.png ")


def test_logits_as_expected(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = write_data_folder(tmp_path, monkeypatch)
    network = load_network("dogs")
    with torch.inference_mode():
        logits = network.model(load_photo(photo, SIZE, "tf")[None])[0].tolist()
    wrong = [(0, logits[0]), (3, logits[3] + 1.5 * TOLERANCE)]
    for pairs, code in ((list(enumerate(logits)), 0), (wrong, 1)):
        write_data_folder(tmp_path, monkeypatch, pairs)
        save_weights(tmp_path, network.model.state_dict())
        result = classify_json(capsys, photo, "--weights", "dogs", code=code)
        assert result["expected"]["agrees"] is result["passed"] is (code == 0)
        assert result["expected"]["logits"] == len(pairs)
        assert result["agrees"] is True
    assert result["expected"]["largest_deviation"] == pytest.approx(1.5 * TOLERANCE, rel=1e-3)


def test_photos_that_are_not_listed_are_not_compared(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data_folder(tmp_path, monkeypatch)
    result = classify_json(capsys, save_photo(tmp_path, "another_one.png"), "--weights", "dogs")
    assert result["expected"] is None


def test_fused_and_eager_disagree(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = FusedMobileNetV2.forward
    monkeypatch.setattr(
        FusedMobileNetV2, "forward", lambda model, x: forward(model, x) + (0 if model.training else 1)
    )
    command = [save_photo(tmp_path), "--weights", save_weights(tmp_path), *FAST]
    result = classify_json(capsys, *command, code=1)
    assert (result["agrees"], result["timing"]) == (False, None)
    assert main(["classify", *map(str, command)]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_nan_is_a_failure(tmp_path: Path, capsys: Capture) -> None:
    model = FusedMobileNetV2(CLASSES, 0.35)
    model.features[4].conv[2].weight.data.fill_(float("nan"))
    command = [save_photo(tmp_path), "--weights", save_weights(tmp_path, model.state_dict()), *FAST]
    result = classify_json(capsys, *command, code=1)
    assert result["largest_difference"] is None


@needs_data
def test_imagenet_is_the_default_where_its_folder_is(capsys: Capture) -> None:
    result = classify_json(capsys, data_folder() / "photos" / "cat.jpg")
    assert result["weights"] == "imagenet"
    assert result["photos"][0]["top"][0]["label"] == "Egyptian cat"
