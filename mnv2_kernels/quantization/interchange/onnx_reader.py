"""An ONNX file in QDQ form, ours or another tool's, as a graph."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from os import PathLike, fspath
from typing import Any

import torch
from torch import Tensor

from ...layer import SAME, parse_layers
from ...shapes import Padding
from ..reference_int8 import NO_PADDING
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
    Steps,
    activation_grid,
    channel_scale,
    int8_weight,
    refused,
)
from .onnx_package import GRIDS_KEY, LAYERS_KEY, import_onnx

UNCHANGED = {"Flatten", "Reshape", "Squeeze", "Dropout", "Identity"}
PIXELS = {2, 3}  # the dimensions that a mean is taken over
# The inputs that operators cannot do without.
LEAST_INPUTS = {
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "Conv", "Gemm", "MatMul", "Add", "Div", "Pad"), 2),
    **dict.fromkeys(("Clip", "Relu", "ReduceMean", "GlobalAveragePool", *UNCHANGED), 1),
}


def onnx_state(path: str | PathLike[str]) -> dict[str, Tensor]:
    """The state of ``QuantizedMobileNetV2.from_onnx``."""
    onnx = import_onnx("from_onnx")
    model = _loaded(onnx, path)
    texts = {each.key: each.value for each in model.metadata_props}
    declared = parse_layers(texts[LAYERS_KEY]) if LAYERS_KEY in texts else ()
    state = assemble(_Reader(onnx, model.graph).output(), declared)
    for name, grid in json.loads(texts.get(GRIDS_KEY, "{}")).items():
        for field, numbers in grid.items():
            own = state[f"{name}.{field}"]
            own[:] = torch.tensor(numbers)
    return state


def _loaded(onnx: Any, path: str | PathLike[str]) -> Any:
    # protobuf comes with onnx, which is no requirement of the package.
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return onnx.load(fspath(path))
    except DecodeError as error:
        raise ValueError(f"{fspath(path)} is damaged, or no ONNX file: {error}") from None


class _Weight:
    """A constant in integers, and their scale and zero point, one or one for each index of an axis."""

    def __init__(self, whole: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> None:
        self.whole, self.scale, self.zero_point, self.axis = whole, scale, zero_point, axis

    def real(self) -> Tensor:
        scale, zero_point = (
            _along(each, self.axis, self.whole.dim()) for each in (self.scale, self.zero_point)
        )
        return (self.whole.double() - zero_point) * scale


def _along(values: Tensor, axis: int, dims: int) -> Tensor:
    """One number, or one for each index of an axis, as float64 that broadcasts to ``dims`` dimensions."""
    shape = [1] * dims
    if values.numel() > 1:
        shape[axis] = -1
    return values.double().reshape(shape)


class _Reader:
    def __init__(self, onnx: Any, graph: Any) -> None:
        self._onnx, self._graph = onnx, graph
        # Results by name: constants, integers with their scale, and what depends on the image.
        self._results: dict[str, Tensor | _Weight | Node] = {
            each.name: self._tensor(each) for each in graph.initializer
        }

    def output(self) -> Node:
        images = [each.name for each in self._graph.input if each.name not in self._results]
        if len(images) != 1 or len(self._graph.output) != 1:
            raise ValueError(
                f"expected a graph of one input and one output, found {images} and "
                f"{[each.name for each in self._graph.output]}"
            )
        self._results[images[0]] = Image(images[0])
        for node in self._graph.node:
            least = LEAST_INPUTS.get(node.op_type, 0)
            if sum(bool(name) for name in node.input[:least]) < least or not node.output:
                found = f"{[*node.input]} and {[*node.output]}"
                raise refused(node.name, f"expected {least} inputs or more and an output, found {found}")
            for name in node.input:
                if name and name not in self._results:
                    raise refused(node.name, f"it reads {name}, which nothing before it gives")
            result = self._constant(node)
            self._results[node.output[0]] = self._read(node) if result is None else result
        return self._node(self._graph.output[0].name, "the graph")

    def _tensor(self, proto: Any) -> Tensor:
        return torch.from_numpy(self._onnx.numpy_helper.to_array(proto).copy())

    def _attributes(self, node: Any) -> dict[str, Any]:
        return {each.name: self._onnx.helper.get_attribute_value(each) for each in node.attribute}

    # --- constants ---

    def _constant(self, node: Any) -> Tensor | _Weight | None:
        """The result of a node that depends on constants alone; None of any other."""
        if node.op_type == "Constant":
            attributes = self._attributes(node)
            if "value" in attributes:
                return self._tensor(attributes["value"])
            return torch.tensor(next(iter(attributes.values())))
        operands = [self._results[each] for each in node.input if each]
        if not all(isinstance(each, Tensor) for each in operands):
            return None
        if node.op_type == "Identity":
            return self._results[node.input[0]]  # type: ignore[return-value]
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return None
        value, scale, zero_point = self._rounding(node)
        axis = self._attributes(node).get("axis", 1)
        if node.op_type == "DequantizeLinear":
            return _Weight(value, scale, zero_point, axis)
        limits = torch.iinfo(zero_point.dtype)
        whole = (value / _along(scale, axis, value.dim())).round() + _along(zero_point, axis, value.dim())
        return whole.clamp(limits.min, limits.max).to(zero_point.dtype)

    def _rounding(self, node: Any) -> tuple[Any, Tensor, Tensor]:
        """What a QuantizeLinear or DequantizeLinear takes."""
        value = self._results[node.input[0]]
        scale = self._numbers(node, 1)
        if len(node.input) > 2 and node.input[2]:
            return value, scale, self._numbers(node, 2)
        dtype = value.dtype if isinstance(value, Tensor) and not value.is_floating_point() else torch.uint8
        return value, scale, torch.zeros_like(scale, dtype=dtype)

    def _numbers(self, node: Any, index: int) -> Tensor:
        value = self._results[node.input[index]]
        if not isinstance(value, Tensor):
            raise refused(node.name, f"its input {node.input[index]} is no constant")
        return value

    def _optional(self, node: Any, index: int) -> Tensor | None:
        return self._numbers(node, index) if len(node.input) > index and node.input[index] else None

    # --- nodes ---

    def _node(self, name: str, reader: str) -> Node:
        result = self._results.get(name)
        if result is None or isinstance(result, (Tensor, _Weight)):
            raise refused(reader, f"{name} does not depend on the image")
        return result

    def _read(self, node: Any) -> Node:
        if node.domain not in ("", "ai.onnx"):
            raise refused(node.name, f"expected operators of ONNX, found {node.domain}.{node.op_type}")
        readers: dict[str, Callable[[Any], Node]] = {
            "QuantizeLinear": self._quantize,
            "DequantizeLinear": self._quantize,
            "Conv": self._convolve,
            "Gemm": self._linear,
            "MatMul": self._linear,
            "Add": self._add,
            "Clip": self._clamp,
            "Relu": self._clamp,
            "Pad": self._pad,
            "ReduceMean": self._mean,
            "Div": self._divide,
            "GlobalAveragePool": lambda each: Pool(each.name, self._node(each.input[0], each.name)),
            **dict.fromkeys(UNCHANGED, lambda each: self._node(each.input[0], each.name)),
        }
        if node.op_type not in readers:
            raise refused(node.name, f"{node.op_type} is no part of a quantised MobileNetV2")
        return readers[node.op_type](node)

    def _quantize(self, node: Any) -> Node:
        _, scale, zero_point = self._rounding(node)
        source = self._node(node.input[0], node.name)
        axis = self._attributes(node).get("axis", 1)
        if scale.numel() > 1 and axis != 1:
            raise refused(node.name, f"it has scales along axis {axis}, expected them by channel")
        grid = activation_grid(node.name, scale, zero_point, zero_point.dtype)
        kind = Quantize if node.op_type == "QuantizeLinear" else Dequantize
        return kind(node.name, source, grid)

    def _convolve(self, node: Any) -> Node:
        attributes = self._attributes(node)
        weight = self._weight(node, 0)
        (stride, other), dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
        automatic = attributes.get("auto_pad", b"NOTSET").decode()
        if stride != other or [*dilations] != [1, 1] or automatic not in ("NOTSET", "VALID", "SAME_UPPER"):
            raise refused(node.name, "expected one stride, no dilation, and padding in numbers or SAME_UPPER")
        sides: Sequence[int] = attributes.get("pads", NO_PADDING) if automatic == "NOTSET" else NO_PADDING
        padding: Padding = (sides[0], sides[1], sides[2], sides[3])
        source = self._node(node.input[0], node.name)
        whole, scale = weight
        return Convolve(
            node.name,
            source,
            whole,
            scale,
            self._bias(node, len(whole)),
            stride,
            SAME if automatic == "SAME_UPPER" and whole.shape[2:] != (1, 1) else padding,
            attributes.get("group", 1),
        )

    def _linear(self, node: Any) -> Node:
        attributes = self._attributes(node)
        factors = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
        if factors != (1.0, 1.0) or attributes.get("transA", 0):
            raise refused(node.name, "expected alpha and beta of 1 and no transposed input")
        whole, scale = self._weight(node, 0 if attributes.get("transB", 0) else 1)
        bias = self._bias(node, len(whole))
        return Convolve(node.name, self._node(node.input[0], node.name), whole, scale, bias)

    def _weight(self, node: Any, axis: int) -> tuple[Tensor, Tensor]:
        """int8 weights, output channels first, and the float64 scale of each of these."""
        weight = self._results[node.input[1]]
        if not isinstance(weight, _Weight):
            raise refused(node.name, f"its weights {node.input[1]} are in float")
        if weight.whole.dtype not in (torch.int8, torch.uint8):
            raise refused(node.name, f"its weights are {weight.whole.dtype}, here they have eight bits")
        if weight.scale.numel() > 1 and weight.axis % weight.whole.dim() != axis:
            raise refused(node.name, "its weights have scales by input channel, expected one by output")
        whole = int8_weight(node.name, weight.whole, weight.zero_point, axis)
        whole = whole.T.contiguous() if axis else whole
        return whole, channel_scale(node.name, weight.scale, len(whole))

    def _bias(self, node: Any, outputs: int) -> Tensor:
        if len(node.input) < 3 or not node.input[2]:
            return torch.zeros(outputs).double()
        bias = self._results[node.input[2]]
        if isinstance(bias, _Weight):
            return bias.real()
        return self._numbers(node, 2).double().reshape(-1).expand(outputs)

    def _add(self, node: Any) -> Node:
        """A shortcut, a linear layer's bias, or the zero point of an image in steps of its bytes."""
        constants = [each for each in node.input if isinstance(self._results[each], (Tensor, _Weight))]
        if not constants:
            return Add(node.name, *(self._node(each, node.name) for each in node.input))
        value = self._results[constants[0]]
        number = value.real() if isinstance(value, _Weight) else value
        (name,) = (each for each in node.input if each != constants[0])
        source = self._node(name, node.name)
        assert isinstance(number, Tensor)
        if isinstance(source, Steps):
            return Steps(node.name, source.source, source.scale, source.offset + number.reshape(-1))
        if isinstance(source, Convolve) and source.weight.dim() == 2:
            bias = source.bias + number.double().reshape(-1)
            return Convolve(node.name, source.source, source.weight, source.scale, bias)
        raise refused(node.name, f"it adds a constant, {constants[0]}")

    def _divide(self, node: Any) -> Node:
        source, scale = self._node(node.input[0], node.name), self._numbers(node, 1).float().reshape(-1)
        return Steps(node.name, source, scale, torch.zeros_like(scale))

    def _clamp(self, node: Any) -> Node:
        source = self._node(node.input[0], node.name)
        if node.op_type == "Relu":
            return Clamp(node.name, source, 0.0, math.inf)
        low, high = self._optional(node, 1), self._optional(node, 2)
        return Clamp(
            node.name,
            source,
            -math.inf if low is None else low.item(),
            math.inf if high is None else high.item(),
        )

    def _pad(self, node: Any) -> Node:
        sides, value = self._numbers(node, 1).tolist(), self._optional(node, 2)
        mode = self._attributes(node).get("mode", b"constant").decode()
        before, after = sides[: len(sides) // 2], sides[len(sides) // 2 :]
        is_plain = len(sides) == 8 and not any(before[:2] + after[:2]) and mode == "constant"
        if not is_plain or (value is not None and value.item() != 0):
            raise refused(node.name, "expected zeros around the pixels")
        return Pad(node.name, self._node(node.input[0], node.name), (*before[2:], *after[2:]))

    def _mean(self, node: Any) -> Node:
        given = self._optional(node, 1)
        dims = self._attributes(node).get("axes", []) if given is None else given.tolist()
        if {dim % 4 for dim in dims} != PIXELS:
            raise refused(node.name, f"expected a mean over all pixels, found one over dimensions {[*dims]}")
        return Pool(node.name, self._node(node.input[0], node.name))
