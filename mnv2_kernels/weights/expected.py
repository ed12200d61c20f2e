"""The expected.json of a weights folder: what each network takes and the logits that it should give."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch

FILE_NAME = "expected.json"

# Two float32 networks agree to 1e-5; a wrong resize, padding or eps moves logits by 0.1 and more.
TOLERANCE = 2e-3


class ExpectedError(ValueError):
    """An expected.json that cannot be read; the message names the file."""


@dataclass(frozen=True)
class ExpectedNetwork:
    """What expected.json says of one network: its two files, relative to the folder, and its settings."""

    weights: str
    labels: str
    size: int
    eps: float


@dataclass(frozen=True)
class Expected:
    """One expected.json.

    `logits` maps (SHA-256 of a photograph, network) to the top five (class index, logit); `photos` are those
    listed for a network.
    """

    path: Path
    networks: dict[str, ExpectedNetwork]
    logits: dict[tuple[str, str], tuple[tuple[int, float], ...]]
    photos: dict[str, tuple[Path, ...]]

    def deviation(self, network: str, photo: Path, logits: torch.Tensor) -> tuple[int, float] | None:
        """How many of a photograph's logits (classes,) are expected, and the largest absolute difference.

        None where it is not listed for this network. Photographs are recognised by content, not by name.
        """
        top = self.logits.get((_digest(photo), network))
        if top is None:
            return None
        indices, wanted = zip(*top, strict=True)
        return len(top), (logits[list(indices)] - torch.tensor(wanted)).abs().max().item()


def read_expected(folder: Path) -> Expected:
    """Reads `folder`/expected.json. Raises ExpectedError where it is missing, not JSON, or lacks a field."""
    path = folder / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _parse(path, content)
    except OSError as error:
        raise ExpectedError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ExpectedError(f"{path}: not JSON ({error})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ExpectedError(f"{path}: field missing or of the wrong type ({error})") from error


def _parse(path: Path, content: dict) -> Expected:
    networks = {
        name: ExpectedNetwork(model["weights"], model["labels"], model["input_size"], model["bn_eps"])
        for name, model in content["models"].items()
    }
    logits: dict[tuple[str, str], tuple[tuple[int, float], ...]] = {}
    photos: dict[str, list[Path]] = {name: [] for name in networks}
    for photo in content["photos"]:
        for name in networks.keys() & photo.keys():
            top = tuple((guess["index"], guess["logit"]) for guess in photo[name]["top5"])
            logits[photo["sha256"], name] = top
            photos[name].append(path.parent / photo["file"])
    return Expected(path, networks, logits, {name: tuple(paths) for name, paths in photos.items()})


def _digest(photo: Path) -> str:
    return hashlib.sha256(photo.read_bytes()).hexdigest()
