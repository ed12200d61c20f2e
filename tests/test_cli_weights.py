from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cli_cases import (
    CLASSES,
    SIZE,
    refusal,
    save_photo,
    save_weights,
    tiny_network,
    tiny_state_dict,
    write_data_folder,
)
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from mnv2_kernels.nn.networks import network_shape
from mnv2_kernels.shapes import PUBLISHED_WIDTHS
from mnv2_kernels.shapes import mobilenet_v2 as mobilenet_v2_shape
from mnv2_kernels.weights.checkpoints import WeightsError, build_network, read_state_dict
from mnv2_kernels.weights.expected import ExpectedError, read_expected
from mnv2_kernels.weights.settings import KERAS_SETTINGS, Settings
from mnv2_kernels.weights.sources import load_network

CLASSIFIER = "classifier.1.weight"


def test_a_safetensors_file(tmp_path: Path) -> None:
    model = tiny_network()
    network = load_network(str(save_weights(tmp_path, model.state_dict())))
    x = torch.randn(2, 3, SIZE, SIZE)
    assert torch.equal(network.model(x), model(x))
    assert network.labels == tuple(f"class {index}" for index in range(CLASSES))
    assert network.settings == Settings()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
def test_a_torch_file(tmp_path: Path, suffix: str) -> None:
    state_dict = tiny_state_dict()
    path = tmp_path / f"tiny{suffix}"
    torch.save(state_dict, path)
    loaded = read_state_dict(path)
    assert loaded.keys() == state_dict.keys()
    assert all(torch.equal(loaded[key], state_dict[key]) for key in loaded)


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    path = tmp_path / "half.pt"
    torch.save({key: value.half() for key, value in tiny_state_dict().items()}, path)
    assert {value.dtype for value in read_state_dict(path).values()} == {torch.float32}


@pytest.mark.parametrize("width", PUBLISHED_WIDTHS)
def test_every_published_width_is_recognised(width: float) -> None:
    state_dict = mobilenet_v2(width_mult=width, num_classes=3).state_dict()
    model = build_network(state_dict, "torch", 1e-5, "file")
    assert network_shape(model, 96) == mobilenet_v2_shape(width, 96, num_classes=3)


def test_batch_counters_may_be_missing() -> None:
    state_dict = {key: value for key, value in tiny_state_dict().items() if "num_batches" not in key}
    assert build_network(state_dict, "torch", 1e-5, "file").training is False


@pytest.mark.parametrize("padding", ["torch", "same"])
def test_padding_and_eps_reach_the_network(padding: str) -> None:
    eps = 0.25
    model = build_network(tiny_state_dict(), padding, eps, "file")
    assert network_shape(model, 64) == mobilenet_v2_shape(0.35, 64, padding=padding, num_classes=CLASSES)
    assert model.features[0][1].eps == eps
    assert model.features[18][1].eps == eps


def test_random_weights_are_the_same_every_time() -> None:
    torch.manual_seed(1)
    first = load_network("random").model
    torch.manual_seed(2)
    second = load_network("random").model
    x = torch.randn(1, 3, SIZE, SIZE)
    assert torch.equal(first(x), second(x))


# --- files that are refused ---


CHANGES = {
    "missing": {"features.3.conv.2.weight": None, CLASSIFIER: None},
    "unexpected": {"conv_stem.weight": torch.zeros(1)},
    "reshaped": {"features.0.0.weight": torch.zeros(32, 3, 5, 5)},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", r"2 keys missing \(features\.3\.conv\.2\.weight\)"),
        ("unexpected", r"1 unexpected \(conv_stem\.weight\)"),
        (
            "reshaped",
            r"1 of another shape \(features\.0\.0\.weight: \(32, 3, 5, 5\), expected \(32, 3, 3, 3\)\)",
        ),
    ],
)
def test_another_network(change: str, message: str) -> None:
    weights = mobilenet_v2().state_dict() | CHANGES[change]
    weights = {name: weight for name, weight in weights.items() if weight is not None}
    with pytest.raises(WeightsError, match=rf"^file: not a MobileNetV2 state dict: {message}$"):
        build_network(weights, "torch", 1e-5, "file")


def test_files_that_hold_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = save_photo(tmp_path)

    def line(path: Path) -> str:
        return refusal(capsys, ["classify", photo, "--weights", path])

    text = tmp_path / "text.safetensors"
    text.write_text("no weights")
    assert "text.safetensors: not a safetensors file" in line(text)

    pickled = tmp_path / "model.pt"
    torch.save(tiny_network(), pickled)
    assert "model.pt: not a state dict that torch can load as weights only" in line(pickled)

    torch.save([torch.zeros(1)], pickled)
    assert "model.pt: not a state dict but a list" in line(pickled)

    torch.save({"epoch": 3}, pickled)
    assert "model.pt: not a state dict: 'epoch' is a int, not a tensor" in line(pickled)

    torch.save({0: torch.zeros(1)}, pickled)
    assert "model.pt: not a state dict: the name 0 is a int" in line(pickled)

    torch.save({"classifier.1.weight": torch.zeros(())}, pickled)
    assert "model.pt: not a MobileNetV2 state dict: 261 keys missing" in line(pickled)

    pickled.write_bytes(b"")
    assert "model.pt: not a state dict that torch can load as weights only" in line(pickled)

    keras = tmp_path / "model.h5"
    keras.write_text("no weights")
    assert "model.h5" in line(keras)

    assert "absent.pt: no such weights file" in line(tmp_path / "absent.pt")
    assert "imagnet: no such weights file (names that work without a file: imagenet" in line(Path("imagnet"))


def test_keras_files_name_their_own_padding(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_text("never read")
    with pytest.raises(WeightsError, match="a Keras file says its padding and eps itself"):
        load_network(str(path), padding="torch")
    with pytest.raises(WeightsError, match="a Keras file says its padding and eps itself"):
        load_network(str(path), eps=1e-5)


# --- labels ---


def test_labels(tmp_path: Path) -> None:
    names = [f"Größe {index}" for index in range(CLASSES)]
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(names) + "\n", encoding="utf-8")
    assert load_network(str(save_weights(tmp_path)), labels).labels == tuple(names)


def test_wrong_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tmp_path / "labels.txt"
    command = ["classify", save_photo(tmp_path), "--weights", save_weights(tmp_path), "--labels", labels]
    assert "labels.txt: labels cannot be read (No such file or directory)" in refusal(capsys, command)
    labels.write_text("one\ntwo\n")
    assert "labels.txt: 2 labels, but the network has 7 classes" in refusal(capsys, command)
    labels.write_bytes(b"\xff\xfe\xfd")
    assert "labels.txt: labels are not UTF-8 text" in refusal(capsys, command)


# --- torchvision's weights ---


def test_torchvisions_weights(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model = mobilenet_v2().eval()

    def downloaded(*_: object, **__: object) -> dict:
        print("Downloading")
        return model.state_dict()

    monkeypatch.setattr(MobileNet_V2_Weights, "get_state_dict", downloaded)
    network = load_network("torchvision")
    assert network.labels[281] == "tabby"
    assert len(network.labels) == 1000
    assert network.settings == Settings(padding="torch", preprocess="torchvision", size=224, eps=1e-5)
    assert capsys.readouterr().out == ""


# --- the data folder ---


def test_a_network_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = write_data_folder(tmp_path, monkeypatch)
    network = load_network("dogs")
    assert network.settings == KERAS_SETTINGS.changed(size=SIZE, eps=1e-3)
    assert network.labels == tuple("abcdefg")
    assert network.photos == (photo,)
    assert network.expected == read_expected(tmp_path)


def test_other_settings_have_no_expected_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data_folder(tmp_path, monkeypatch)
    assert load_network("dogs", padding="torch").expected is None
    assert load_network("dogs", eps=1e-3).expected is not None


def test_a_data_folder_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNV2_DATA", str(tmp_path / "absent"))
    with pytest.raises(WeightsError, match=r"absent: no such folder"):
        load_network("imagenet")


def test_a_network_that_the_folder_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data_folder(tmp_path, monkeypatch)
    with pytest.raises(WeightsError, match="lists no network 'imagenet', only dogs"):
        load_network("imagenet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "not JSON"),
        ("[]", "field missing"),
        ('{"models": {}}', "field missing"),
        ('{"models": {"dogs": {"weights": "x"}}, "photos": []}', "field missing"),
    ],
)
def test_a_broken_expected_json(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "expected.json").write_text(content)
    with pytest.raises(ExpectedError, match=rf"expected\.json: {message}"):
        read_expected(tmp_path)
