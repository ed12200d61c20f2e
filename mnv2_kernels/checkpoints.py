"""Files of weights: read, recognised as a MobileNetV2 of some width, or refused in words."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from .modules import FusedMobileNetV2, PaddingRule
from .shapes import PUBLISHED_WIDTHS, mobilenet_v2

SAFETENSORS_SUFFIX = ".safetensors"

# Only for naming what is missing in a file without a classifier.
DEFAULT_CLASSES = 1000

HEAD = "features.18.0.weight"
CLASSIFIER = "classifier.1.weight"


class WeightsError(ValueError):
    """Weights, labels or settings that cannot be used; the message names the file and what is wrong."""


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Reads a safetensors file or a torch state dict; floating point tensors come as float32, on the CPU.

    Raises:
        WeightsError: missing, neither of the two, or not a dictionary of tensors.
    """
    try:
        if path.suffix == SAFETENSORS_SUFFIX:
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file ({error})") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, ValueError) as error:
        raise WeightsError(f"{path}: not a state dict that torch can load as weights only") from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: not a state dict but a {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str):
            raise WeightsError(f"{path}: not a state dict: the name {key!r} is a {type(key).__name__}")
        if not isinstance(value, torch.Tensor):
            raise WeightsError(f"{path}: not a state dict: {key!r} is a {type(value).__name__}, not a tensor")
    return {key: value.float() if value.is_floating_point() else value for key, value in content.items()}


def build_network(
    state_dict: Mapping[str, torch.Tensor], padding: PaddingRule, eps: float, origin: Path | str
) -> FusedMobileNetV2:
    """The network in eval mode that a state dict with torchvision's names belongs to.

    Args:
        state_dict: weights of any of the published widths and any number of classes.
        padding, eps: what a state dict does not say.
        origin: its name in error messages.

    Raises:
        WeightsError: keys are missing or unexpected, or shapes are not MobileNetV2's.
    """
    given = _comparable(state_dict)
    classes = (*given.get(CLASSIFIER, ()), DEFAULT_CLASSES)[0]
    width = _width(given)
    wanted = _shapes(width, classes)
    if given != wanted:
        raise WeightsError(f"{origin}: not a MobileNetV2 state dict: {_difference(given, wanted)}")
    norm_layer = partial(nn.BatchNorm2d, eps=eps)
    model = FusedMobileNetV2(classes, width, norm_layer=norm_layer, padding=padding)
    # Not strict: exporters leave num_batches_tracked out, and every other key has been compared.
    model.load_state_dict(state_dict, strict=False)
    return model.eval()


def _comparable(state_dict: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    shapes = {key: tuple(value.shape) for key, value in state_dict.items()}
    return {key: shape for key, shape in shapes.items() if not key.endswith(".num_batches_tracked")}


def _width(given: Mapping[str, tuple[int, ...]]) -> float:
    """The multiplier that the head's input channels tell; 1 where they tell none."""
    channels = given.get(HEAD, ())[1:2]
    fitting = (width for width in PUBLISHED_WIDTHS if (mobilenet_v2(width).head.in_channels,) == channels)
    return next(fitting, PUBLISHED_WIDTHS[0])


def _shapes(width: float, classes: int) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return _comparable(FusedMobileNetV2(num_classes=classes, width_mult=width).state_dict())


def _difference(given: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str:
    missing = [key for key in wanted if key not in given]
    unexpected = [key for key in given if key not in wanted]
    reshaped = [key for key in wanted if key in given and given[key] != wanted[key]]
    parts = []
    if missing:
        parts.append(f"{len(missing)} keys missing ({missing[0]})")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected ({unexpected[0]})")
    if reshaped:
        key = reshaped[0]
        parts.append(f"{len(reshaped)} of another shape ({key}: {given[key]}, expected {wanted[key]})")
    return ", ".join(parts)
