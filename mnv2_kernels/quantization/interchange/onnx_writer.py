"""A network as ONNX: QuantizeLinear and DequantizeLinear around Conv, Add, GlobalAveragePool and Gemm.

Between the nodes numbers are in steps of their bytes: scales of activations are 1, zero points 0. So weights'
scales are the multipliers, to the bit, and scales by input channel need no place. What the bytes stand for is
in the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...layer import Layer, join_layers
from ...shapes import Padding, output_size
from ..reference_int8 import NO_PADDING
from ..rounding import Grid
from ..state import CLASSIFIER, HEAD, STEM_NAME, convolution_shapes, layer_names, layers_in_float, read_layers
from .onnx_package import GRIDS_KEY, IMAGES, LAYERS_KEY, LOGITS, import_onnx

# The oldest versions that hold what is written; later packages would write newer ones than engines read.
OPSET, IR_VERSION = 17, 8
BATCH = "N"


def write_onnx(state: Mapping[str, Tensor], path: str | PathLike[str], size: int | tuple[int, int]) -> None:
    """``QuantizedMobileNetV2.to_onnx`` of a network's state."""
    onnx = import_onnx("to_onnx")
    layers = read_layers(state)
    for name in layers_in_float(state, layers):
        raise ValueError(f"to_onnx: {name} is kept in float, and only layers in int8 are written")
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ValueError(f"to_onnx: expected a size of at least 1 x 1, got {height} x {width}")
    pad, *image = (state[f"{STEM_NAME}.{field}"] for field in ("pad", "image_scale", "image_zero_point"))
    if not torch.equal(pad, Grid(*image).pad):
        raise ValueError("to_onnx: expected a stem that surrounds images by their zeros")
    onnx.save(_Writer(onnx, state, layers).model((height, width)), fspath(path))


class _Writer:
    def __init__(self, onnx: Any, state: Mapping[str, Tensor], layers: Sequence[Layer]) -> None:
        self._onnx, self._state, self._layers = onnx, state, layers
        self._nodes: list[Any] = []
        self._tensors: dict[str, Any] = {}
        self._one = self._tensor("one", torch.ones(()))
        self._zero = self._tensor("zero", torch.zeros((), dtype=torch.uint8))

    def model(self, size: tuple[int, int]) -> Any:
        """The file for images of this size."""
        helper, floats = self._onnx.helper, self._onnx.TensorProto.FLOAT
        stem, *_, classifier = self._layers
        images = helper.make_tensor_value_info(IMAGES, floats, [BATCH, stem.in_channels, *size])
        logits = helper.make_tensor_value_info(LOGITS, floats, [BATCH, classifier.out_channels])
        result = self._image(stem.padding_for(*size))
        for name, layer in layer_names(self._layers).items():
            result, size = self._layer(name, layer, result, size)
        graph = helper.make_graph(
            self._nodes, "QuantizedMobileNetV2", [images], [logits], [*self._tensors.values()]
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, producer_name="mnv2_kernels", opset_imports=opsets, ir_version=IR_VERSION
        )
        texts = {LAYERS_KEY: join_layers(self._layers), GRIDS_KEY: json.dumps(self._grids())}
        helper.set_model_props(model, texts)
        self._onnx.checker.check_model(model, full_check=True)
        return model

    def _grids(self) -> dict[str, dict[str, list[float]]]:
        """What the layers' bytes stand for, one number where it is the same of all channels."""
        return {
            name: {field: _shortened(self._state[f"{name}.{field}"]) for field in ("scale", "zero_point")}
            for name, layer in layer_names(self._layers).items()
            if layer.kind != CLASSIFIER
        }

    def _image(self, padding: Padding) -> str:
        """Images with zeros around them, as bytes. These zeros are not the same byte in each channel."""
        top, left, bottom, right = padding
        sides = self._tensor("image.pads", torch.tensor([0, 0, top, left, 0, 0, bottom, right]))
        padded = self._node("Pad", "image.padded", IMAGES, sides)
        scale, zero_point = (
            self._tensor(f"image.{each}", self._state[f"{STEM_NAME}.image_{each}"].view(1, -1, 1, 1))
            for each in ("scale", "zero_point")
        )
        divided = self._node("Div", "image.divided", padded, scale)
        return self._quantize("image", self._node("Add", "image.steps", divided, zero_point))

    def _layer(
        self, name: str, layer: Layer, source: str, size: tuple[int, int]
    ) -> tuple[str, tuple[int, int]]:
        """The bytes that a layer stores, or the logits, and the size of its images."""
        if layer.kind == CLASSIFIER:
            flat = self._node("Flatten", f"{name}.input", self._dequantize(f"{name}.read", source), axis=1)
            return self._node("Gemm", LOGITS, flat, *self._weights(f"{name}.conv"), transB=1), size
        stored = source
        for conv in convolution_shapes(layer):
            window: dict[str, Any] = {"stride": layer.stride} if layer.kind == "stem" else {}
            if conv == "depthwise":
                padding = layer.padding_for(*size)
                window = {"stride": layer.stride, "padding": padding, "groups": layer.expanded_channels}
            result = self._convolve(f"{name}.{conv}", stored, **window)
            if conv == "project" and layer.residual:
                factor = self._state[f"{name}.shortcut"]
                skipped = self._dequantize(f"{name}.shortcut", source, factor)
                result = self._node("Add", f"{name}.sum", result, skipped)
            stored = self._quantize(f"{name}.{conv}", result)
        if layer.kind == HEAD:
            pixels = self._dequantize(f"{name}.pixels", stored, self._state[f"{name}.pool"][0])
            pooled = self._node("GlobalAveragePool", f"{name}.mean", pixels)
            return self._quantize(f"{name}.mean", pooled), size
        top, left, bottom, right = layer.padding_for(*size)
        height = output_size(size[0], top, bottom, layer.stride)
        return stored, (height, output_size(size[1], left, right, layer.stride))

    def _convolve(
        self, name: str, source: str, stride: int = 1, padding: Padding = NO_PADDING, groups: int = 1
    ) -> str:
        return self._node(
            "Conv",
            f"{name}.sums",
            self._dequantize(f"{name}.read", source),
            *self._weights(name),
            kernel_shape=self._state[f"{name}.weight"].shape[2:],
            pads=padding,
            strides=[stride, stride],
            group=groups,
        )

    def _weights(self, name: str) -> list[str]:
        """Weight and bias."""
        whole, scale, bias = (
            self._tensor(f"{name}.{field}", self._state[f"{name}.{field}"])
            for field in ("weight", "multiplier", "bias")
        )
        return [self._node("DequantizeLinear", f"{name}.weight.real", whole, scale, axis=0), bias]

    def _quantize(self, name: str, source: str) -> str:
        return self._node("QuantizeLinear", f"{name}.bytes", source, self._one, self._zero)

    def _dequantize(self, name: str, source: str, scale: Tensor | None = None) -> str:
        """Steps of what was stored, times ``scale`` if given: a number, or one for each channel."""
        if scale is None:
            return self._node("DequantizeLinear", name, source, self._one, self._zero)
        scales = self._tensor(f"{name}.scale", scale)
        zeros = self._tensor(f"{name}.zero_point", torch.zeros(scale.shape, dtype=torch.uint8))
        axis = {"axis": 1} if scale.dim() else {}
        return self._node("DequantizeLinear", name, source, scales, zeros, **axis)

    def _node(self, operator: str, result: str, *inputs: str, **attributes: Any) -> str:
        self._nodes.append(self._onnx.helper.make_node(operator, inputs, [result], result, **attributes))
        return result

    def _tensor(self, name: str, value: Tensor) -> str:
        array = np.ascontiguousarray(value.detach().cpu().numpy())
        self._tensors[name] = self._onnx.numpy_helper.from_array(array, name)
        return name


def _shortened(values: Tensor) -> list[float]:
    return values[:1].tolist() if (values == values[0]).all() else values.tolist()
