"""From checked layers to an operator: which one, with which weights and options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from . import ops as ops
from .folding import fold
from .layer_functions import LayerFunction, block_function, head_function, layer_function, linear_function
from .layers import Layer, NotFusable, check_tensors, check_weight
from .shapes import KERNEL_SIZE, SYMMETRIC_PADDING, same_padding_2d

Operator = Callable[..., Tensor]
Weights = tuple[Tensor | None, ...]

NOT_SAVED = (
    "a deployed network holds weights packed for this machine, which are not saved: save the "
    "FusedMobileNetV2 it came from, and call deploy() after loading"
)


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """For tensors that outlive an inference mode that happens to be on, as packed weights do."""
    with torch.inference_mode(False), torch.no_grad():
        yield


@dataclass
class Fusion:
    """An operator in place of layers.

    ``kind`` is one of layer_description.SHAPES; ``weights`` gives what ``pack`` takes; ``same_stride`` is the
    stride of a SAME-padded convolution, whose padding depends on the input's size; ``layers`` is what it
    computes, with gradients.
    """

    kind: str
    pack: Operator
    run: Operator
    weights: Callable[[], Weights]
    channels: dict[str, Any]
    options: dict[str, Any]
    layers: LayerFunction
    same_stride: int | None = None

    def packed_weights(self) -> Tensor:
        """The weights as ``run`` takes them, without a gradient."""
        return self.pack(*self.weights(), **self.options)

    def operator(self) -> PackedOperator:
        with outside_inference_mode():
            packed = self.packed_weights()
        return PackedOperator(self.run, packed, {**self.channels, **self.options}, self.same_stride)

    def __call__(self, x: Tensor) -> Tensor:
        """Packs and runs, for a trace in which nothing may outlive the call."""
        return _run(self.run, x, self.packed_weights(), {**self.channels, **self.options}, self.same_stride)


class PackedOperator(nn.Module):
    """An operator and its packed weights, which belong to this machine and are in no state_dict."""

    def __init__(
        self, run: Operator, packed: Tensor, options: dict[str, Any], same_stride: int | None
    ) -> None:
        super().__init__()
        self.run = run
        self.options = options
        self.same_stride = same_stride
        self.register_buffer("packed", packed, persistent=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedOperator:
        return PackedOperator(self.run, self.packed.clone(), self.options, self.same_stride)

    def __getstate__(self) -> NoReturn:
        raise RuntimeError(NOT_SAVED)

    def forward(self, x: Tensor) -> Tensor:
        return _run(self.run, x, self.packed, self.options, self.same_stride)

    def extra_repr(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.run}, {options}"


class PackedLayers(nn.Module):
    """An operator of many layers and the packed weights of each: mnv2::network_layers.

    ``layers`` describes them, see layer_description.py.
    """

    def __init__(self, run: Operator, packed: Sequence[Tensor], layers: str) -> None:
        super().__init__()
        self.run = run
        self.layers = layers
        for index, weights in enumerate(packed):
            self.register_buffer(f"packed_{index}", weights, persistent=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedLayers:
        return PackedLayers(self.run, [weights.clone() for weights in self.buffers()], self.layers)

    def __getstate__(self) -> NoReturn:
        raise RuntimeError(NOT_SAVED)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, list(self._buffers.values()), layers=self.layers)

    def extra_repr(self) -> str:
        return f"{self.run}, {self.layers}"


def block_fusion(
    expand: Layer | None,
    depthwise: Layer,
    project: Layer,
    residual: bool,
) -> Fusion:
    """An inverted residual as mnv2::fused_block, also with an activation behind the project.

    Raises NotFusable where it is none.
    """
    if expand is not None:
        expand.check(kernel_size=1)
    depthwise.check(KERNEL_SIZE, depthwise=True)
    project.check(kernel_size=1)
    activation = depthwise.activation_name
    if expand is not None and expand.activation_name != activation:
        raise NotFusable(f"{depthwise.name}: its activation is not that of {expand.name}")
    window, same_stride = _window(depthwise)
    if residual and window != {"stride": 1, "padding": SYMMETRIC_PADDING}:
        raise NotFusable(f"{depthwise.name}: a block with a shortcut has {window}")
    options = {**window, "residual": residual, "activation": activation}
    if project.activation_name != "none":
        options["project_activation"] = project.activation_name
    layers = [layer for layer in (expand, depthwise, project) if layer is not None]
    out_channels, expanded_channels = project.conv.weight.shape[:2]
    in_channels = expanded_channels if expand is None else expand.conv.weight.shape[1]
    if residual and in_channels != out_channels:
        raise NotFusable(
            f"{project.name}: a block with a shortcut has {in_channels} and {out_channels} channels"
        )
    channels = {
        "in_channels": in_channels,
        "expanded_channels": expanded_channels,
        "out_channels": out_channels,
        "expand": expand is not None,
    }
    return Fusion(
        kind="block",
        pack=torch.ops.mnv2.pack_block.default,
        run=torch.ops.mnv2.fused_block_packed.default,
        weights=partial(_weights, expand, depthwise, project),
        channels=channels,
        options=options,
        layers=block_function(layers, residual),
        same_stride=same_stride,
    )


def stem_fusion(layer: Layer) -> Fusion:
    """A dense 3x3 convolution, norm and activation as mnv2::stem; NotFusable for anything else."""
    layer.check(KERNEL_SIZE)
    window, same_stride = _window(layer)
    return Fusion(
        kind="stem",
        pack=torch.ops.mnv2.pack_stem.default,
        run=torch.ops.mnv2.stem_packed.default,
        weights=partial(_weights, layer),
        channels=_channels(layer),
        options={**window, "activation": layer.activation_name},
        layers=layer_function(layer),
        same_stride=same_stride,
    )


def head_fusion(layer: Layer) -> Fusion:
    """A 1x1 convolution, norm, activation and pool as mnv2::head_pool; NotFusable for anything else."""
    layer.check(kernel_size=1)
    return Fusion(
        kind="head_pool",
        pack=torch.ops.mnv2.pack_head_pool.default,
        run=torch.ops.mnv2.head_pool_packed.default,
        weights=partial(_weights, layer),
        channels=_channels(layer),
        options={"activation": layer.activation_name},
        layers=head_function(layer),
    )


def linear_fusion(name: str, linear: nn.Linear) -> Fusion:
    """A linear layer as mnv2::linear; NotFusable where the kernels do not take its weights."""
    check_weight(name, linear.weight)
    check_tensors(name, linear.bias)
    out_features, in_features = linear.weight.shape
    return Fusion(
        kind="linear",
        pack=torch.ops.mnv2.pack_linear.default,
        run=torch.ops.mnv2.linear_packed.default,
        weights=lambda: (linear.weight.detach(), None if linear.bias is None else linear.bias.detach()),
        channels={"in_features": in_features, "out_features": out_features},
        options={},
        layers=linear_function(linear),
    )


def _window(layer: Layer) -> tuple[dict[str, Any], int | None]:
    """The options of a 3x3 convolution that are fixed, and the stride where its padding is not."""
    stride = layer.conv.stride[0]
    if layer.padding is None and stride != 1:
        return {"stride": stride}, stride
    return {"stride": stride, "padding": layer.padding or SYMMETRIC_PADDING}, None


def _channels(layer: Layer) -> dict[str, int]:
    out_channels, in_channels = layer.conv.weight.shape[:2]
    return {"in_channels": in_channels, "out_channels": out_channels}


def _weights(*layers: Layer | None) -> Weights:
    """Weight, scale and bias of each layer; None three times where there is none."""
    weights: list[Tensor | None] = []
    for layer in layers:
        if layer is None:
            weights += [None, None, None]
        else:
            weights += [layer.conv.weight.detach(), *fold(layer.conv, layer.norm)]
    return tuple(weights)


def _run(
    run: Operator, x: Tensor, packed: Tensor, options: dict[str, Any], same_stride: int | None
) -> Tensor:
    # Without two dimensions for a height and a width, the operator says what it expected.
    if same_stride is None or x.dim() < 2:
        return run(x, packed, **options)
    padding = same_padding_2d(x.shape[-2], x.shape[-1], same_stride)
    return run(x, packed, padding=padding, **options)
