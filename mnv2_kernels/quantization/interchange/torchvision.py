"""torchvision's quantised MobileNetV2, a converted module or its state_dict, as a graph."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...channels import STEM_STRIDE, STRIDES
from ...shapes import SYMMETRIC_PADDING, Padding
from ..reference_int8 import NO_PADDING
from .assembly import assemble
from .graph import (
    Add,
    Clamp,
    Convolve,
    Dequantize,
    Image,
    Node,
    Pool,
    Quantize,
    activation_grid,
    channel_scale,
    int8_weight,
    refused,
)

CLASSIFIER = "classifier.1"
PACKED = f"{CLASSIFIER}._packed_params._packed_params"
CONVOLUTION = re.compile(r"(features\.\d+(?:\.conv)?(?:\.\d+)+)\.weight")
NORM = ".running_mean"
OBSERVED = "activation_post_process"


class Window(NamedTuple):
    """What a state_dict does not tell of a 3x3 convolution."""

    stride: int
    padding: Padding


def torchvision_state(source: nn.Module | Mapping[str, Any]) -> dict[str, Tensor]:
    """The state of ``QuantizedMobileNetV2.from_torchvision``."""
    state = source.state_dict() if isinstance(source, nn.Module) else source
    _check_is_converted(state)
    windows = _windows(source, state)
    node: Node = Image("quant")
    node = _stored("quant", node, state)
    for block in _blocks(state):
        first = node
        for name in block:
            conv = _convolution(name, node, state, windows)
            last = len(block) > 1 and name == block[-1]
            node = _stored(name, conv if last else Clamp(name, conv, 0, math.inf), state)
        skip_add = f"{block[0].rsplit('.conv.', 1)[0]}.skip_add"
        if len(block) > 1 and _adds(block, state, windows):
            node = _stored(skip_add, Add(skip_add, first, node), state)
    assert isinstance(node, Dequantize)
    grid = node.grid
    pooled = Dequantize("avgpool", Quantize("avgpool", Pool("avgpool", node), grid), grid)
    return assemble(_linear(pooled, state))


def _check_is_converted(state: Mapping[str, Any]) -> None:
    if any(NORM in name or OBSERVED in name for name in state):
        raise ValueError(
            "expected a converted network, found BatchNorm or observers in its state_dict: call fuse_model, "
            "prepare and torch.ao.quantization.convert first"
        )
    for name in ("quant.scale", "quant.zero_point", PACKED):
        if name not in state:
            raise ValueError(f"expected torchvision's quantised mobilenet_v2: its state has no {name}")


def _blocks(state: Mapping[str, Any]) -> list[list[str]]:
    """The names of convolutions, those of a block together."""
    found = [match[1] for match in map(CONVOLUTION.fullmatch, state) if match]
    numbers = {name: [int(each) for each in re.findall(r"\d+", name)] for name in found}
    blocks: dict[int, list[str]] = {}
    for name in sorted(found, key=numbers.__getitem__):
        blocks.setdefault(numbers[name][0], []).append(name)
    return [*blocks.values()]


def _windows(source: nn.Module | Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Window]:
    """Of every 3x3 convolution, by its name."""
    blocks = _blocks(state)
    names = [name for block in blocks for name in block if state[f"{name}.weight"].shape[2:] != (1, 1)]
    if isinstance(source, nn.Module):
        return {name: _window(name, source.get_submodule(name)) for name in names}
    strides = (STEM_STRIDE, *STRIDES)
    if len(names) != len(strides):
        raise ValueError(
            f"a state_dict does not tell strides: expected the usual {len(STRIDES)} blocks, found "
            f"{len(names) - 1}; give the converted module"
        )
    return {name: Window(stride, SYMMETRIC_PADDING) for name, stride in zip(names, strides, strict=True)}


def _window(name: str, conv: Any) -> Window:
    (stride, other), (rows, columns) = conv.stride, conv.padding
    if stride != other or tuple(conv.dilation) != (1, 1):
        raise refused(name, "expected one stride and no dilation")
    return Window(stride, (rows, columns, rows, columns))


def _adds(block: list[str], state: Mapping[str, Any], windows: Mapping[str, Window]) -> bool:
    """torchvision adds where a block keeps size and channels."""
    stride = next(windows[name].stride for name in block if name in windows)
    inputs = state[f"{block[0]}.weight"].shape[0 if len(block) == 2 else 1]
    return stride == 1 and inputs == state[f"{block[-1]}.weight"].shape[0]


def _stored(name: str, node: Node, state: Mapping[str, Any]) -> Dequantize:
    scale, zero_point = (state.get(f"{name}.{each}") for each in ("scale", "zero_point"))
    if scale is None or zero_point is None:
        raise refused(name, "its scale or zero point is missing")
    grid = activation_grid(name, torch.as_tensor(scale), torch.as_tensor(zero_point), torch.uint8)
    return Dequantize(name, Quantize(name, node, grid), grid)


def _convolution(
    name: str, source: Node, state: Mapping[str, Any], windows: Mapping[str, Window]
) -> Convolve:
    weight, scale = _whole(name, state[f"{name}.weight"])
    stride, padding = windows.get(name, (1, NO_PADDING))
    # The weights of a group have all input channels but in a depthwise convolution.
    groups = len(weight) if weight.shape[1] == 1 and name in windows else 1
    bias = _bias(state.get(f"{name}.bias"), len(weight))
    return Convolve(name, source, weight, scale, bias, stride, padding, groups)


def _linear(source: Node, state: Mapping[str, Any]) -> Convolve:
    packed, bias = state[PACKED]
    weight, scale = _whole(CLASSIFIER, packed)
    return Convolve(CLASSIFIER, source, weight, scale, _bias(bias, len(weight)))


def _bias(bias: Tensor | None, outputs: int) -> Tensor:
    return torch.zeros(outputs).double() if bias is None else bias.detach().double()


def _whole(name: str, weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 weights and the float64 scale of each output channel."""
    if not (isinstance(weight, Tensor) and weight.is_quantized and weight.dtype == torch.qint8):
        found = weight.dtype if isinstance(weight, Tensor) else type(weight).__name__
        raise refused(name, f"expected weights of torch.qint8, found {found}")
    if weight.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        scale, zero_point = torch.tensor(weight.q_scale()), torch.tensor(weight.q_zero_point())
    elif weight.q_per_channel_axis() == 0:
        scale, zero_point = weight.q_per_channel_scales(), weight.q_per_channel_zero_points()
    else:
        raise refused(name, "its weights have scales by input channel, expected them by output channel")
    whole = int8_weight(name, weight.int_repr(), zero_point)
    return whole, channel_scale(name, scale, len(whole))
