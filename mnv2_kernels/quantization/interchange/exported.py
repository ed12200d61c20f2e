"""A program that PT2E quantised and torch.export wrote, as a graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from ...shapes import Padding
from .assembly import assemble
from .graph import (
    Add,
    Clamp,
    Convolve,
    Dequantize,
    Image,
    Node,
    Pad,
    Pool,
    Quantize,
    activation_grid,
    channel_scale,
    int8_weight,
    refused,
)

NAMESPACE = "quantized_decomposed"
# What gives the numbers that it takes, in inference.
UNCHANGED = {
    *("aten.flatten.using_ints", "aten.view.default", "aten.reshape.default", "aten._unsafe_view.default"),
    *("aten.dropout.default", "aten.dropout_.default", "aten.clone.default", "aten.contiguous.default"),
    *("aten.alias.default", "aten.detach.default", "aten.squeeze.dims"),
}
SUMS = {"aten.add.Tensor", "aten.add_.Tensor"}
CLAMPS = {
    *("aten.relu", "aten.relu_", "aten.relu6", "aten.relu6_"),
    *("aten.hardtanh", "aten.hardtanh_", "aten.clamp", "aten.clamp_", "aten.clamp_min", "aten.clamp_min_"),
}
CONVOLUTIONS = {"aten.conv2d.default", "aten.conv2d.padding", "aten.convolution.default"}


def exported_state(program: ExportedProgram) -> dict[str, Tensor]:
    """The state of ``QuantizedMobileNetV2.from_exported``."""
    if not isinstance(program, ExportedProgram):
        raise ValueError(
            f"expected an ExportedProgram, got {type(program).__name__}: give torch.export.export of what "
            "convert_pt2e returned"
        )
    # Registers the operators of quantisation, which a saved program does not bring along.
    import torch.ao.quantization.fx._decomposed  # noqa: F401

    return assemble(_Reader(program).output())


class _Reader:
    def __init__(self, program: ExportedProgram) -> None:
        self._graph = program.graph
        signature = program.graph_signature
        held = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        tensors = {**program.state_dict, **program.constants}
        self._tensors = {name: tensors[held[name]] for name in held}
        self._tensors |= {
            name: tensors[target] for name, target in signature.inputs_to_lifted_tensor_constants.items()
        }
        self._nodes: dict[fx.Node, Node] = {}

    def output(self) -> Node:
        for node in self._graph.nodes:
            if node.op == "output":
                (results,) = node.args
                if len(results) != 1:
                    raise ValueError(f"expected a program with one result, found {len(results)}")
                return self._nodes[results[0]]
            if not self._is_constant(node):
                self._nodes[node] = self._read(node)
        raise ValueError("expected a program with a result")

    def _is_constant(self, node: Any) -> bool:
        """Whether it depends on weights alone."""
        if not isinstance(node, fx.Node):
            return True
        if node.op == "placeholder":
            return node.name in self._tensors
        return all(each not in self._nodes for each in node.all_input_nodes)

    def _constant(self, value: Any) -> Any:
        """A weight or what is computed of weights."""
        if not isinstance(value, fx.Node):
            return value
        if not self._is_constant(value):
            raise refused(value.name, "expected a constant, found what depends on the image")
        if value.op == "placeholder":
            return self._tensors[value.name].detach()
        arguments = fx.node.map_arg(value.args, self._constant)
        return cast(Callable[..., Any], value.target)(*arguments, **value.kwargs)

    def _read(self, node: fx.Node) -> Node:
        name = node.name
        if node.op == "placeholder":
            return Image(name)
        operator = str(node.target)
        if operator.startswith(f"{NAMESPACE}."):
            return self._rounding(node, operator.split(".")[1])
        if operator in UNCHANGED:
            return self._source(node)
        if operator in CONVOLUTIONS:
            return self._convolution(node)
        if operator == "aten.linear.default":
            return self._convolve(node, 1, 1)
        if operator.rsplit(".", 1)[0] in CLAMPS:
            return Clamp(name, self._source(node), *_limits(node, operator.split(".")[1].rstrip("_")))
        if operator in SUMS and _argument(node, 2, "alpha", 1) == 1:
            return Add(name, self._source(node), self._source(node, 1))
        if operator == "aten.adaptive_avg_pool2d.default" and _pair(node.args[1]) == (1, 1):
            return Pool(name, self._source(node))
        if operator == "aten.mean.dim" and {dim % 4 for dim in cast(Sequence[int], node.args[1])} == {2, 3}:
            return Pool(name, self._source(node))
        if operator in ("aten.pad.default", "aten.constant_pad_nd.default") and _is_zero_padding(node):
            left, right, top, bottom = cast(Sequence[int], node.args[1])
            return Pad(name, self._source(node), (top, left, bottom, right))
        raise refused(name, f"{operator} is no part of a quantised MobileNetV2 as torch.export writes it")

    def _source(self, node: fx.Node, index: int = 0) -> Node:
        source = node.args[index]
        if not isinstance(source, fx.Node) or source not in self._nodes:
            raise refused(node.name, "one of its operands is a constant")
        return self._nodes[source]

    def _rounding(self, node: fx.Node, operator: str) -> Node:
        source = self._source(node)
        scale, zero_point, *rest = map(self._constant, node.args[1:])
        if operator.endswith("per_channel"):
            rest = rest[1:]  # the axis
        low, high, dtype = rest
        grid = activation_grid(
            node.name, torch.as_tensor(scale), torch.as_tensor(zero_point), dtype, (low, high)
        )
        kind = Quantize if operator.startswith("quantize") else Dequantize
        return kind(node.name, source, grid)

    def _convolution(self, node: fx.Node) -> Node:
        names = ("stride", "padding", "dilation")
        stride, padding, dilation = (
            _argument(node, index, name, default)
            for index, name, default in zip((3, 4, 5), names, (1, 0, 1), strict=True)
        )
        groups = _argument(node, 6, "groups", 1)
        if str(node.target) == "aten.convolution.default":
            groups = node.args[8]
        (stride, other) = _pair(stride)
        if stride != other or _pair(dilation) != (1, 1) or isinstance(padding, str):
            raise refused(node.name, "expected one stride, no dilation and a padding in numbers")
        rows, columns = _pair(padding)
        return self._convolve(node, groups, stride, (rows, columns, rows, columns))

    def _convolve(self, node: fx.Node, groups: int, stride: int, padding: Padding = (0, 0, 0, 0)) -> Convolve:
        weight, scale = self._weight(node)
        bias = self._constant(_argument(node, 2, "bias", None))
        bias = torch.zeros(len(weight)) if bias is None else bias
        return Convolve(node.name, self._source(node), weight, scale, bias.double(), stride, padding, groups)

    def _weight(self, node: fx.Node) -> tuple[Tensor, Tensor]:
        """int8 weights and their float64 scales, of a dequantize operator."""
        weight = node.args[1]
        operator = str(weight.target) if isinstance(weight, fx.Node) else ""
        if not operator.startswith(f"{NAMESPACE}.dequantize"):
            raise refused(node.name, "its weights are in float")
        assert isinstance(weight, fx.Node)
        whole, scale, zero_point, *rest = map(self._constant, weight.args)
        axis = rest[0] if ".dequantize_per_channel" in operator else 0
        zero_point = torch.zeros(1) if zero_point is None else torch.as_tensor(zero_point)
        if axis != 0 or whole.dtype not in (torch.int8, torch.uint8):
            raise refused(weight.name, "expected weights of eight bits with scales by output channel")
        whole = int8_weight(weight.name, whole, zero_point)
        return whole, channel_scale(weight.name, torch.as_tensor(scale), len(whole))


def _argument(node: fx.Node, index: int, name: str, default: Any) -> Any:
    return node.args[index] if len(node.args) > index else node.kwargs.get(name, default)


def _pair(value: Any) -> tuple[int, int]:
    first, *rest = value if isinstance(value, Sequence) else (value,)
    return first, rest[0] if rest else first


def _limits(node: fx.Node, operator: str) -> tuple[float, float]:
    if operator == "relu":
        return 0.0, math.inf
    if operator == "relu6":
        return 0.0, 6.0
    default = (-1.0, 1.0) if operator == "hardtanh" else (-math.inf, math.inf)
    low, high = _argument(node, 1, "min", default[0]), _argument(node, 2, "max", default[1])
    return (-math.inf if low is None else float(low)), (math.inf if high is None else float(high))


def _is_zero_padding(node: fx.Node) -> bool:
    sides = cast(Sequence[int], node.args[1])
    if str(node.target) == "aten.constant_pad_nd.default":
        return len(sides) == 4 and not _argument(node, 2, "value", 0)
    is_constant = _argument(node, 2, "mode", "constant") == "constant"
    return len(sides) == 4 and is_constant and not _argument(node, 3, "value", 0)
