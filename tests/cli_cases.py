"""What the tests of the command line run on: a tiny network, a made-up photograph, a data folder of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from mnv2_kernels import FusedMobileNetV2
from mnv2_kernels.cli.app import main
from mnv2_kernels.weights.sources import DATA_VARIABLE, data_folder, has_data

CLASSES = 7
WIDTH = 0.35
# Small enough for float64, and no multiple of 32.
SIZE = 40
FAST = ("--size", str(SIZE))

needs_data = pytest.mark.skipif(not has_data(), reason=f"{data_folder()} is not there; set {DATA_VARIABLE}")


def tiny_network() -> FusedMobileNetV2:
    """A narrow network in eval mode, whose statistics keep a signal alive from end to end."""
    model = FusedMobileNetV2(CLASSES, WIDTH, norm_layer=partial(nn.BatchNorm2d, momentum=None))
    with torch.no_grad():
        nn.init.normal_(model.classifier[1].weight, std=0.1)
        model(torch.randn(8, 3, 64, 64))
    return model.eval()


def tiny_state_dict() -> dict[str, Tensor]:
    return tiny_network().state_dict()


def save_weights(folder: Path, state_dict: dict[str, Tensor] | None = None) -> Path:
    """A safetensors file, of the tiny network where no other is given."""
    path = folder / "tiny.safetensors"
    save_file(tiny_state_dict() if state_dict is None else state_dict, path)
    return path


def save_photo(folder: Path, name: str = "noise.png") -> Path:
    """Coloured noise, the same for the same name."""
    generator = torch.Generator().manual_seed(len(name))
    pixels = torch.randint(0, 256, (30, 50, 3), dtype=torch.uint8, generator=generator)
    path = folder / name
    Image.frombytes("RGB", (50, 30), bytes(pixels.flatten().tolist())).save(path)
    return path


def refusal(capsys: pytest.CaptureFixture[str], arguments: Sequence[str | Path]) -> str:
    """Runs a command line that has to end with exit code 2 and one line on stderr; returns that line."""
    assert main([str(argument) for argument in arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("mnv2: ")
    assert output.err.count("\n") == 1
    assert output.err.endswith("\n")
    return output.err


def table_of(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[str]:
    """The lines that a command prints, none of them too long or cut off."""
    assert main([str(argument) for argument in arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 110
    assert not any("\u2026" in line for line in lines)
    return lines


def write_data_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, logits: Sequence[tuple[int, float]] = ((0, 0.0),)
) -> Path:
    """Makes MNV2_DATA a folder of the tiny network, as "dogs", and a photograph that should give `logits`."""
    photo = save_photo(folder)
    weights = save_weights(folder)
    labels = folder / "labels.txt"
    labels.write_text("\n".join("abcdefg"))
    network = {"weights": weights.name, "labels": labels.name, "input_size": SIZE, "bn_eps": 1e-3}
    listed = {
        "file": photo.name,
        "sha256": hashlib.sha256(photo.read_bytes()).hexdigest(),
        "dogs": {"top5": [{"index": index, "logit": logit} for index, logit in logits]},
    }
    (folder / "expected.json").write_text(json.dumps({"models": {"dogs": network}, "photos": [listed]}))
    monkeypatch.setenv(DATA_VARIABLE, str(folder))
    return photo
