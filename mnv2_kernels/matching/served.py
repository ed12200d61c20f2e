"""THE rule for which parts the operators compute, on which device and in which dtype, with reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _native
from ..dtypes import DTYPES
from ..layer import SAME, Layer
from ..ops.gpu import DEVICES
from ..shapes import ACTIVATIONS, GATE_ACTIVATIONS, KERNEL_SIZES, MAX_CHANNELS
from .parts import Part
from .steps import Convolution


def layer_of_part(part: Part) -> Layer:
    """The layer that computes a part, which has no obstacles."""
    return Layer(part.kind, **_options(part))  # type: ignore[arg-type]


def obstacles_of(part: Part) -> list[str]:
    """What the operators lack to compute a part, in words; nothing where they do."""
    if part.obstacle:
        return [part.obstacle]
    found = ["a depthwise convolution before the expand"] if part.before is not None else []
    for layer in part.layers:
        found += _shape_obstacles(layer)
    found += _option_obstacles(part)
    if part.residual and not found and not _keeps_size(part):
        found.append("a shortcut around a convolution that changes the size")
    return list(dict.fromkeys(found)) or _refusal(part)


def reasons_of(parts: Sequence[Part]) -> str:
    """Why no operators compute parts where their tensors are; "" where they do."""
    reasons = [reason for part in parts for reason in obstacles_of(part)]
    return ", ".join(dict.fromkeys(reasons or place_obstacles(parts)))


def _option_obstacles(part: Part) -> Iterator[str]:
    for name, value in _options(part).items():
        known = GATE_ACTIVATIONS if name == "excite_activation" else ACTIVATIONS
        if name.endswith("activation") and value not in (*known, None):
            yield value


def _refusal(part: Part) -> list[str]:
    """What the library itself says."""
    if torch.compiler.is_compiling():  # which cannot ask it; pack will
        return []
    try:
        _native.canonical_layers(str(layer_of_part(part)))
    except ValueError as error:
        return [str(error)]
    return []


def _shape_obstacles(layer: Convolution) -> Iterator[str]:
    if layer.kind == "linear":
        if layer.scale is not None:
            yield "a scale behind a linear layer"
    elif layer.kind == "pointwise":
        pass
    elif layer.weight.shape[2] != layer.weight.shape[3]:
        yield f"kernel {tuple(layer.weight.shape[2:])}"
    elif layer.stride not in ((1, 1), (2, 2)):
        yield f"stride {layer.stride[0] if len(set(layer.stride)) == 1 else layer.stride}"
    elif layer.dilation != (1, 1):
        yield f"dilation {layer.dilation[0]}"
    elif not layer.same and max(layer.padding) > layer.weight.shape[2] // 2:
        yield f"padding {layer.padding}"
    elif layer.weight.shape[2] not in KERNEL_SIZES:
        yield f"kernel {layer.weight.shape[2]}"
    if max(layer.weight.shape[:2]) > MAX_CHANNELS:
        yield f"more than {MAX_CHANNELS} channels"
    if min(layer.weight.shape[:2]) == 0:
        yield "no channels"


def _keeps_size(part: Part) -> bool:
    *_, depthwise, _ = part.layers
    rim = depthwise.weight.shape[2] - 1
    top, left, bottom, right = depthwise.padding
    is_same = depthwise.same or (top + bottom, left + right) == (rim, rim)
    in_channels = part.layers[0].weight.shape[1] * part.layers[0].groups
    return is_same and depthwise.stride == (1, 1) and in_channels == part.layers[-1].weight.shape[0]


def _options(part: Part) -> dict[str, Any]:
    """The fields of the part's Layer by name."""
    first, last = part.layers[0], part.layers[-1]
    options: dict[str, Any] = {
        "in_channels": first.weight.shape[1] * first.groups,
        "out_channels": last.weight.shape[0],
    }
    if part.kind == "linear":
        return options if first.activation == "none" else options | {"activation": first.activation}
    options["activation"] = first.activation
    if part.kind == "head_pool":
        return options
    window = first if part.kind == "stem" else part.layers[-2]
    options |= {
        "kernel": window.weight.shape[2],
        "stride": window.stride[0],
        "padding": SAME if window.same else window.padding,
    }
    if part.kind == "block":
        options |= _block_options(part)
    return options


def _block_options(part: Part) -> dict[str, Any]:
    *expand, depthwise, project = part.layers
    activation = expand[0].activation if expand else depthwise.activation
    options: dict[str, Any] = {
        "expanded_channels": depthwise.weight.shape[0],
        "activation": activation,
        "depthwise_activation": None if depthwise.activation == activation else depthwise.activation,
        "project_activation": project.activation,
        "expand": bool(expand),
        "residual": part.residual,
    }
    if part.gate is not None:
        options |= {
            "squeezed_channels": part.gate.squeeze.weight.shape[0],
            "squeeze_activation": part.gate.squeeze.activation,
            "excite_activation": part.gate.excite.activation,
        }
    return options


def weights_of(part: Part) -> tuple[Tensor | None, ...]:
    """A part's tensors as mnv2::pack takes them."""
    if part.kind == "linear":
        (layer,) = part.layers
        return layer.weight, layer.vectors[1]
    weights: list[Tensor | None] = [None] * 3 if part.kind == "block" and len(part.layers) == 2 else []
    for layer in part.layers:
        weights += [layer.weight, *layer.vectors]
    for layer in () if part.gate is None else (part.gate.squeeze, part.gate.excite):
        out_channels, in_channels = layer.weight.shape[:2]
        weights += [layer.weight.reshape(out_channels, in_channels, 1, 1), layer.vectors[1]]
    return tuple(weights)


def place_obstacles(parts: Sequence[Part]) -> list[str]:
    """Why the operators do not run parts where their tensors are, in their dtype; nothing where they do."""
    weights = [layer.weight for part in parts for layer in part.convolutions]
    if not weights:
        return []
    dtypes, devices = {each.dtype for each in weights}, {each.device for each in weights}
    if len(devices) > 1:
        return ["weights on several devices"]
    if len(dtypes) > 1:
        return ["weights of several dtypes"]
    (dtype,), (device,) = dtypes, devices
    if dtype not in DTYPES:
        return [f"weights are {str(dtype).removeprefix('torch.')}"]
    return [] if device.type in ("cpu", *DEVICES) else [f"no kernels on {device.type}"]
