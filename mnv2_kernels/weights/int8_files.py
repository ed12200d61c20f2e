"""Files of quantised networks: safetensors, whose metadata say what else is known of the network."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ..quantization.network import STATE_LAYERS, QuantizedMobileNetV2
from ..quantization.report import LayerReport
from .checkpoints import SAFETENSORS_SUFFIX, WeightsError
from .settings import Settings

# The key of an About, as JSON, among the metadata, which are strings.
ABOUT = "mnv2_kernels"
# Tensors that every quantised network has, and no other.
MARKS = {STATE_LAYERS, "features.0.image_scale"}


@dataclass(frozen=True)
class About:
    """What a file says of its network beside the tensors.

    ``weights``: where the float network came from, a name or the path of a file. ``images`` calibrated it, by
    ``recipe``, and were made of ``photos`` photographs. ``report`` was made with other views of these.
    """

    weights: str
    settings: Settings
    labels: tuple[str, ...]
    recipe: str
    images: int
    photos: int
    report: tuple[LayerReport, ...]


def is_int8_file(path: Path) -> bool:
    """Whether a file holds a quantised network, by the names of its tensors."""
    if path.suffix != SAFETENSORS_SUFFIX:
        return False
    try:
        with safe_open(path, "pt") as file:
            return set(file.keys()) >= MARKS
    except (OSError, SafetensorError):
        return False


def write_int8(path: Path, network: QuantizedMobileNetV2, about: About) -> None:
    """Raises WeightsError where the file cannot be written."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    content = asdict(about)
    for layer in content["report"]:  # JSON knows no infinity
        layer["sqnr"] = layer["sqnr"] if math.isfinite(layer["sqnr"]) else None
    try:
        save_file(state, path, {ABOUT: json.dumps(content)})
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{path}: cannot be written ({reason})") from error


def read_int8(path: Path) -> tuple[QuantizedMobileNetV2, About | None]:
    """A network and what its file says of it; None where somebody saved the state alone.

    Raises WeightsError where the file is damaged, or the state no quantised network's.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        network = QuantizedMobileNetV2.from_state_dict(load_file(path))
        return network, _parse(json.loads(metadata[ABOUT])) if ABOUT in metadata else None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: a damaged int8 network ({error})") from error


def _parse(content: Any) -> About:
    report = [LayerReport(**layer) for layer in content["report"]]
    parsed = {
        "settings": Settings(**content["settings"]),
        "labels": tuple(content["labels"]),
        "report": tuple(replace(each, sqnr=math.inf) if each.sqnr is None else each for each in report),
    }
    return About(**{**content, **parsed})
