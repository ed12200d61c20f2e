"""Files of weights: read, recognised as a MobileNetV2 of any width, or refused in words.

Checkpoints hold weights beside an optimiser's state, under names that begin with a wrapper's (``module.``,
``_orig_mod.``, ``model.``), or by another implementation's names: all of them are read. What is ambiguous or
left over is refused, since a network without it computes something else.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from .. import layer_names
from ..channels import Channels, of_kernels
from ..layer_names import CLASSIFIER, NAMINGS, NORM_WEIGHTS, UNREAD, Layers
from ..nn.building import PaddingRule
from ..nn.mobilenet_v2 import FusedMobileNetV2

SAFETENSORS_SUFFIX = ".safetensors"

# Only for naming what is missing in a file without a classifier.
DEFAULT_CLASSES = 1000

# Counters beside the weights, in which inference has no part.
COUNTERS = ("num_batches_tracked", "n_averaged")

STEM = re.compile(r"(?P<prefix>(?:.*\.)?)(?:features\.0\.0|conv_stem|backbone\.conv1\.conv)\.weight")
NEEDED_TYPE = re.compile(r"GLOBAL (\S+) was not")


class WeightsError(ValueError):
    """Weights, labels or settings that cannot be used; the message names the file and what is wrong."""


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Reads a safetensors file, a torch state dict, or a checkpoint that holds one.

    Floating point tensors come as float32, on the CPU. Raises WeightsError where the file is missing, none of
    the three, or a checkpoint with several state dicts.
    """
    content = _load(path)
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: not a state dict but a {type(content).__name__}")
    found = list(_state_dicts(content))
    if len(found) > 1:
        places = " and ".join(f"file{place}" for place, _ in found)
        raise WeightsError(
            f"{path}: it holds several state dicts, {places}: save the one that is meant by itself"
        )
    weights = found[0][1] if found else content
    for key, value in weights.items():
        if not isinstance(key, str):
            raise WeightsError(f"{path}: not a state dict: the name {key!r} is a {type(key).__name__}")
        if not isinstance(value, torch.Tensor):
            raise WeightsError(f"{path}: not a state dict: {key!r} is a {type(value).__name__}, not a tensor")
    return {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}


def _load(path: Path) -> Any:
    try:
        if path.suffix == SAFETENSORS_SUFFIX:
            return load_file(path)
        with warnings.catch_warnings():
            # What torch warns of here is either fine or refused below.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file ({error})") from error
    except (
        *(pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, ValueError),
        *(LookupError, TypeError, AttributeError),  # what torch runs into in damaged files
    ) as error:
        raise WeightsError(
            f"{path}: not a state dict that torch can load as weights only{_advice(str(error))}"
        ) from error


def _advice(error: str) -> str:
    """What to do about torch's reason for refusing a file, where that is known."""
    needed = NEEDED_TYPE.search(error)
    if needed:
        return f"; it holds a {needed[1]}: save model.state_dict() alone"
    return "; it is a TorchScript archive: save its state_dict()" if "TorchScript" in error else ""


def _state_dicts(content: Mapping[Any, Any], place: str = "") -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """The state dicts in a checkpoint and where they are; of an optimiser's no name ends like a weight's."""
    if content and all(isinstance(value, torch.Tensor) for value in content.values()):
        if not place or any(str(key).endswith(".weight") for key in content):
            yield place, content
        return
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _state_dicts(value, f"{place}[{key!r}]")


def build_network(
    state_dict: Mapping[str, torch.Tensor], padding: PaddingRule, eps: float, origin: Path | str
) -> FusedMobileNetV2:
    """The network in eval mode that a state dict belongs to; ``origin`` is its name in error messages.

    Names are those of torchvision, timm, d-li14, tonylins or mmpretrain, which may have a common prefix.
    Shapes tell the channels of every layer, images included, and the classes; strides are those of the paper.
    Raises WeightsError where keys are missing or unexpected, shapes are not MobileNetV2's, or weights are no
    floating point numbers.
    """
    names = _recognise(state_dict, origin)
    given = {
        names.ours.get(key, key): value
        for key, value in state_dict.items()
        if key.rpartition(".")[2] not in COUNTERS
    }
    shapes = {key: tuple(value.shape) for key, value in given.items()}
    classes = (*shapes.get(f"{CLASSIFIER}.weight", ()), DEFAULT_CLASSES)[0]
    channels = of_kernels(shapes, names.layers, classes)
    wanted = _shapes(channels)
    if shapes != wanted:
        difference = _difference(shapes, wanted, names.theirs)
        raise WeightsError(f"{origin}: not a MobileNetV2 state dict: {difference}")
    for key, value in given.items():
        if not value.is_floating_point() or value.layout != torch.strided or value.is_meta:
            kind = f"{value.dtype}, {value.layout}, on {value.device}".replace("torch.", "")
            raise WeightsError(
                f"{origin}: {names.theirs[key]} is {kind}; expected a dense tensor of floating point numbers"
            )
    norm_layer = partial(nn.BatchNorm2d, eps=eps)
    model = FusedMobileNetV2.of_channels(channels, norm_layer=norm_layer, padding=padding)
    # Not strict: the counters are left out, and every other key has been compared.
    model.load_state_dict(given, strict=False)
    return model.eval()


class _Names(NamedTuple):
    """Our names of a file's weights by the file's and the reverse, and our names of its layers."""

    ours: dict[str, str]
    theirs: dict[str, str]
    layers: Layers


def _recognise(state_dict: Mapping[str, torch.Tensor], origin: Path | str) -> _Names:
    """Whose names these are, behind which prefix; torchvision's where nobody's."""
    prefixes = sorted({match["prefix"] for key in state_dict if (match := STEM.fullmatch(key))})
    if len(prefixes) > 1:
        starts = " and ".join(map(repr, prefixes))
        raise WeightsError(f"{origin}: it holds several networks, whose names begin with {starts}; keep one")
    for mark, source in UNREAD.items():
        if not prefixes and any(key.endswith(mark) for key in state_dict):
            raise WeightsError(
                f"{origin}: {mark} is a name of {source}'s MobileNetV2; expected those of torchvision, timm, "
                "d-li14, tonylins or mmpretrain: rename the weights"
            )
    prefix = prefixes[0] if prefixes else ""
    naming = next((each for each in NAMINGS if f"{prefix}{each.mark}" in state_dict), NAMINGS[0])
    has_expand = f"{prefix}{naming.expand_mark}" in state_dict
    layers = layer_names.torchvision(has_expand)
    classifiers = (each for each in naming.classifiers if f"{prefix}{each}.weight" in state_dict)
    classifier = next(classifiers, CLASSIFIER)
    theirs = {f"{CLASSIFIER}.{name}": f"{prefix}{classifier}.{name}" for name in ("weight", "bias")}
    for own, other in zip(layers, naming.layers(has_expand), strict=True):
        theirs[f"{own.conv}.weight"] = f"{prefix}{other.conv}.weight"
        theirs |= {f"{own.norm}.{name}": f"{prefix}{other.norm}.{name}" for name in NORM_WEIGHTS}
    return _Names({other: own for own, other in theirs.items()}, theirs, layers)


def _shapes(channels: Channels) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        state_dict = FusedMobileNetV2.of_channels(channels).state_dict()
    return {
        key: tuple(value.shape) for key, value in state_dict.items() if key.rpartition(".")[2] not in COUNTERS
    }


def _difference(
    given: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], theirs: Mapping[str, str]
) -> str:
    """What keeps one from the other, by the file's names."""
    missing = [theirs[key] for key in wanted if key not in given]
    unexpected = [key for key in given if key not in wanted]
    reshaped = [key for key in wanted if key in given and given[key] != wanted[key]]
    parts = []
    if missing:
        parts.append(f"{len(missing)} keys missing ({missing[0]})")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected ({unexpected[0]})")
    if reshaped:
        key = reshaped[0]
        parts.append(
            f"{len(reshaped)} of another shape ({theirs[key]}: {given[key]}, expected {wanted[key]})"
        )
    return ", ".join(parts)
