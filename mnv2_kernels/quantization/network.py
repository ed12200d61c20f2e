"""A MobileNetV2 in int8, and its layers: quantised, or kept in float."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fusion.inference import check_is_tensor, is_traced, wants_gradient
from ..fusion.own_code import has_global_hooks, own_code_obstacle
from ..layer import Layer, is_chain, join_layers
from ..nn.deployed import Deployable, DeployedMobileNetV2
from ..nn.image_bytes import ImageLayout, Normalize
from ..packing.cache import PackedCache
from ..packing.packed_layers import PackedLayers, outside_inference_mode
from ..shapes import KERNEL_SIZE
from . import reference_int8
from .reference_int8 import Convolution
from .rounding import RELU6, Grid
from .state import (
    CLASSIFIER,
    HEAD,
    STATE_LAYERS,
    STEM,
    convolution_shapes,
    layer_names,
    layers_in_float,
    layers_tensor,
    read_layers,
)

if TYPE_CHECKING:
    from torch.export import ExportedProgram

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x.clamp(min=0),
    "relu6": lambda x: x.clamp(0, RELU6),
}


class FloatConvolution(nn.Module):
    """A convolution with BatchNorm folded into it, or a linear layer; its activation is not part of it."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: Layer, name: str) -> None:
        super().__init__()
        self.layer, self.depthwise = layer, name == "depthwise"
        shape = convolution_shapes(layer)[name]
        self.register_buffer("weight", torch.zeros(shape))
        self.register_buffer("bias", torch.zeros(shape[0]))

    @property
    def slides(self) -> bool:
        """Whether it has a window, with the layer's stride and padding."""
        return self.weight.shape[-1] == KERNEL_SIZE and self.weight.dim() == 4

    def forward(self, x: Tensor) -> Tensor:
        """Float32 (N, C, H, W), or (N, in_features) if linear."""
        if self.weight.dim() == 2:
            return F.linear(x, self.weight, self.bias)
        if not self.slides:
            return F.conv2d(x, self.weight, self.bias)
        height, width = x.shape[2:]
        top, left, bottom, right = self.layer.padding_for(height, width)
        x = F.pad(x, (left, right, top, bottom))
        groups = len(self.weight) if self.depthwise else 1
        return F.conv2d(x, self.weight, self.bias, self.layer.stride, groups=groups)


def _converted(x: Tensor, grid: Grid, takes: tuple[torch.dtype, ...]) -> Tensor:
    if x.dim() not in (2, 4) or x.shape[1] != len(grid.scale):
        raise ValueError(f"expected (N, {len(grid.scale)}, ...), got shape {tuple(x.shape)}")
    if not (x.is_floating_point() or x.dtype == torch.uint8):
        raise TypeError(f"expected bytes (uint8) or floats, got {x.dtype}")
    if x.dtype in takes:
        return x
    if torch.float32 in takes:
        return x.float() if x.is_floating_point() else grid.real(x)
    return grid.bytes_of(x)


class _AnyLayer(nn.Module):
    """Base of both kinds of layers: grids of the result, which a linear layer has not, and a stem's image."""

    is_float: ClassVar[bool]
    scale: Tensor
    zero_point: Tensor
    image_scale: Tensor
    image_zero_point: Tensor

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        if layer.kind == STEM:
            self.register_buffer("image_scale", torch.ones(layer.in_channels))
            self.register_buffer("image_zero_point", torch.zeros(layer.in_channels))
        if layer.kind != CLASSIFIER:
            self.register_buffer("scale", torch.ones(layer.out_channels))
            self.register_buffer("zero_point", torch.zeros(layer.out_channels, dtype=torch.uint8))

    @property
    def grid(self) -> Grid:
        return Grid(self.scale, self.zero_point.float())

    def set_grid(self, grid: Grid) -> None:
        self.scale, self.zero_point = grid.scale, grid.zero_point.to(torch.uint8)

    @property
    def image_grid(self) -> Grid:
        """What the bytes of a stem's image stand for."""
        return Grid(self.image_scale, self.image_zero_point)

    def set_image_grid(self, grid: Grid) -> None:
        self.image_scale, self.image_zero_point = grid.scale, grid.zero_point

    @property
    def takes(self) -> tuple[torch.dtype, ...]:
        """What it reads; a stem in int8 makes bytes of floats itself."""
        if self.is_float:
            return (torch.float32,)
        return (torch.uint8, torch.float32) if self.layer.kind == STEM else (torch.uint8,)

    def convert(self, x: Tensor, grid: Grid) -> Tensor:
        """x as this layer reads it: bytes on ``grid``, or float32."""
        return _converted(x, grid, self.takes)

    def extra_repr(self) -> str:
        return str(self.layer)


class FloatLayer(_AnyLayer):
    """A layer in float32, by torch's functions."""

    is_float = True

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        for name in convolution_shapes(layer):
            self.add_module(name, FloatConvolution(layer, name))

    def convolutions(self) -> Iterator[tuple[str, FloatConvolution]]:
        """By the names of ``convolution_shapes``."""
        for name, conv in self.named_children():
            yield name, cast(FloatConvolution, conv)

    def forward(self, x: Tensor, visit: Callable[[str, Tensor], Any] | None = None) -> Tensor:
        """Float32 in and out; ``visit`` sees the result of every convolution after its activation."""
        y = x
        for name, conv in self.convolutions():
            y = self.activate(name, conv(y), x)
            if visit is not None:
                visit(name, y)
        return y.mean((2, 3)) if self.layer.kind == HEAD else y

    def activate(self, name: str, y: Tensor, x: Tensor) -> Tensor:
        """What follows a convolution: its activation, or the shortcut from the layer's input x."""
        if name == "project":
            return x + y if self.layer.residual else y
        return y if self.layer.kind == CLASSIFIER else ACTIVATIONS[self.layer.activation](y)


class QuantizedConvolution(nn.Module):
    """The int8 weights of a convolution or linear layer, and what its sums are scaled with."""

    weight: Tensor
    multiplier: Tensor
    bias: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(shape, dtype=torch.int8))
        self.register_buffer("multiplier", torch.zeros(shape[0]))
        self.register_buffer("bias", torch.zeros(shape[0]))

    @property
    def tensors(self) -> Convolution:
        return Convolution(self.weight, self.multiplier, self.bias)

    def fill(self, tensors: Convolution) -> None:
        self.weight, self.multiplier, self.bias = tensors


class QuantizedLayer(_AnyLayer):
    """A layer in int8, by the kernels of this machine."""

    is_float = False
    pad: Tensor
    pool: Tensor
    shortcut: Tensor

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        self._cache = PackedCache(_pack_layer)
        for name, shape in convolution_shapes(layer).items():
            self.add_module(name, QuantizedConvolution(shape))
        if layer.kind == STEM:
            self.register_buffer("pad", torch.zeros(layer.in_channels, dtype=torch.uint8))
        if layer.kind == HEAD:
            self.register_buffer("pool", torch.ones(1))
        if layer.residual:
            self.register_buffer("shortcut", torch.ones(layer.out_channels))

    def convolution(self, name: str) -> QuantizedConvolution:
        return cast(QuantizedConvolution, self.get_submodule(name))

    def packed_tensors(self) -> list[Tensor | None]:
        """As mnv2::pack takes them."""
        tensors: list[Tensor | None] = [] if self.layer.expand else [None, None, None]
        for name in convolution_shapes(self.layer):
            tensors += self.convolution(name).tensors
        own = {STEM: ("pad", "image_scale", "image_zero_point"), "block": ("shortcut",), HEAD: ("pool",)}
        return tensors + [getattr(self, name, None) for name in own.get(self.layer.kind, ())]

    def forward(self, x: Tensor) -> Tensor:
        """uint8, of a stem float32, too, to uint8, of a linear layer to float32."""
        packed = None if is_traced() else self._cache.lookup(self)
        return _pack_and_run([self], x) if packed is None else packed(x)

    def reference(self, x: Tensor) -> Tensor:
        """The same by ``reference_int8``, in plain torch."""
        layer = self.layer
        if x.is_floating_point():
            x = self.image_grid.bytes_of(x)
        convolutions = [self.convolution(name).tensors for name in convolution_shapes(layer)]
        if layer.kind == CLASSIFIER:
            return reference_int8.linear(x, convolutions[0])
        if layer.kind == HEAD:
            return reference_int8.head_pool(x, convolutions[0], self.pool)
        height, width = x.shape[2:]
        padding = layer.padding_for(height, width)
        if layer.kind == STEM:
            return reference_int8.stem(x, convolutions[0], self.pad, stride=layer.stride, padding=padding)
        *expand, depthwise, project = convolutions
        return reference_int8.fused_block(
            x,
            expand[0] if expand else None,
            depthwise,
            project,
            self.shortcut if layer.residual else None,
            stride=layer.stride,
            padding=padding,
        )


def _pack_layer(layer: QuantizedLayer) -> PackedLayers:
    return _packed([layer])


def _packed(layers: Sequence[QuantizedLayer], portable: bool = False) -> PackedLayers:
    """One operator for layers that follow each other."""
    described, tensors = _described(layers)
    with outside_inference_mode():
        packed = torch.ops.mnv2.pack.default(tensors, layers=join_layers(described), portable=portable)
    return PackedLayers(described, packed)


def _pack_and_run(layers: Sequence[QuantizedLayer], x: Tensor) -> Tensor:
    """For a trace, in which nothing may outlive the call."""
    described, tensors = _described(layers)
    text = join_layers(described)
    packed = torch.ops.mnv2.pack.default(tensors, layers=text)
    return torch.ops.mnv2.run.default(x, packed, layers=text)


def _described(layers: Sequence[QuantizedLayer]) -> tuple[list[Layer], list[Tensor | None]]:
    """Layers and tensors as mnv2::pack takes them."""
    described = [replace(layer.layer, arithmetic="int8") for layer in layers]
    return described, [tensor for layer in layers for tensor in layer.packed_tensors()]


AnyLayer = FloatLayer | QuantizedLayer


class QuantizedMobileNetV2(Deployable):
    """What ``quantize`` returns: a MobileNetV2 with int8 weights and activations.

    A call on the CPU runs int8 kernels, equal to ``reference_int8`` to the bit on any processor, one operator
    for int8 layers that follow each other. Other devices have no such kernels: a RuntimeError. Weights take
    a quarter of float32's memory.

    Its ``state_dict()`` holds the int8 weights, multipliers and biases, scales and zero points, and a text of
    the layers as bytes. It belongs to no machine: save it with safetensors, and ``from_state_dict`` makes the
    network of it.

    Args:
        layers: stem, blocks, head and linear layer.
        in_float: names of those kept in float32, ``features.3`` or ``classifier``.

    Raises ValueError for other layers, and for names that are none.
    """

    def __init__(self, layers: Sequence[Layer], in_float: Sequence[str] = ()) -> None:
        super().__init__()
        kinds = [layer.kind for layer in layers]
        if kinds[:1] + kinds[-2:] != [STEM, HEAD, CLASSIFIER] or not is_chain(layers):
            raise ValueError(f"layers: expected a stem, blocks, a head and a linear layer, got {layers}")
        names = layer_names(layers)
        in_float = (in_float,) if isinstance(in_float, str) else in_float
        if unknown := {*in_float} - {*names}:
            raise ValueError(f"expected names of layers to keep in float, {[*names]}, got {min(unknown)!r}")
        units: list[AnyLayer] = [
            FloatLayer(layer) if name in in_float else QuantizedLayer(layer) for name, layer in names.items()
        ]
        self.features = nn.Sequential(*units[:-1])
        self.classifier = units[-1]
        self.register_buffer(STATE_LAYERS, layers_tensor(layers))
        self._cache = PackedCache(_pack_network)
        self.eval()

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor]) -> QuantizedMobileNetV2:
        """The network that a state_dict of this class belongs to. Raises ValueError for any other."""
        layers = read_layers(state_dict)
        network = cls(layers, layers_in_float(state_dict, layers))
        own = network.state_dict()
        for name, tensor in state_dict.items():
            if name not in own:
                continue  # load_state_dict refuses it
            if tensor.dtype != own[name].dtype:
                raise ValueError(f"{name}: expected {own[name].dtype}, got {tensor.dtype}")
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise ValueError(f"{name}: expected finite numbers, got others")
            # The kernels read no scale of these: a damaged one would show in reports and ONNX files only.
            if name.endswith("scale") and not (tensor > 0).all():
                raise ValueError(f"{name}: expected numbers above 0, got others")
        try:
            network.load_state_dict(state_dict)
        except RuntimeError as error:
            raise ValueError(f"expected a QuantizedMobileNetV2's state_dict: {error}") from None
        return network

    @classmethod
    def from_torchvision(cls, source: nn.Module | Mapping[str, Any]) -> QuantizedMobileNetV2:
        """The integers of torchvision's quantised ``mobilenet_v2``: the converted module or its state_dict.

        A state_dict does not tell strides, so that it has to be of the usual 17 blocks. Floats are what this
        network takes; its bytes are those of the grid that torchvision's calibration chose, not an image's.
        Raises ValueError, naming the layer, for what is not converted or no MobileNetV2.
        """
        from .interchange.torchvision import torchvision_state

        return cls.from_state_dict(torchvision_state(source))

    @classmethod
    def from_exported(cls, program: ExportedProgram) -> QuantizedMobileNetV2:
        """The integers of ``torch.export.export`` of what PT2E's ``convert_pt2e`` gave, torchao's or torch's.

        Raises ValueError, naming the node, for a graph that is no quantised MobileNetV2. Images are taken as
        by ``from_torchvision``.
        """
        from .interchange.exported import exported_state

        return cls.from_state_dict(exported_state(program))

    @classmethod
    def from_onnx(cls, path: str | PathLike[str]) -> QuantizedMobileNetV2:
        """The network of an ONNX file in QDQ form: of ``to_onnx``, equal to the bit, or of another tool.

        Raises ValueError, naming the node, for a graph that is no quantised MobileNetV2, and ImportError
        without the package onnx. Images are taken as by ``from_torchvision`` if another tool wrote the file.
        """
        from .interchange.onnx_reader import onnx_state

        return cls.from_state_dict(onnx_state(path))

    def to_onnx(self, path: str | PathLike[str], size: int | tuple[int, int]) -> None:
        """Writes an ONNX file in QDQ form, which ONNX Runtime and OpenVINO run.

        It takes float32 ``images`` (N, C, height, width), as the float network does, of any N.

        Args:
            path: of the file.
            size: of the images, (height, width) or one number for both.

        Raises ValueError where a layer is kept in float, and ImportError without the package onnx.
        """
        from .interchange.onnx_writer import write_onnx

        write_onnx(self.state_dict(), path, size)

    @property
    def image_grid(self) -> Grid:
        """What the bytes of an image stand for: the stem's."""
        return self._stem.image_grid

    def set_image_grid(self, grid: Grid) -> None:
        self._stem.set_image_grid(grid)

    @property
    def _stem(self) -> AnyLayer:
        return cast(AnyLayer, self.features[0])

    def named_layers(self) -> Iterator[tuple[str, AnyLayer]]:
        """``features.0`` and so on, and ``classifier``, in the order in which they run."""
        for index, layer in enumerate(self.features):
            yield f"features.{index}", cast(AnyLayer, layer)
        yield "classifier", self.classifier

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) images to float32 (N, num_classes) logits.

        Images are bytes (uint8), or floats as the float network takes them, which the stem makes bytes of.
        """
        check_is_tensor(x, "(N, C, H, W)")
        if wants_gradient(x):
            raise RuntimeError(
                "a quantised network has no derivative along its images: ask the network it was made of"
            )
        each_by_itself = is_traced() or has_global_hooks()
        steps = None if each_by_itself else self._cache.lookup(self)
        return _run_steps(self._single_steps() if steps is None else steps, x)

    def deploy(
        self, *, portable: bool = False, normalize: Normalize | None = None, layout: ImageLayout = "NCHW"
    ) -> DeployedMobileNetV2:
        """A lean copy for inference, of packed weights: it does not look for changes of them.

        ``portable`` and ``layout``: as FusedMobileNetV2's. There is nothing to ``normalize``: the network
        knows what bytes stand for.

        Raises RuntimeError where a layer has hooks or other code of its own, ValueError for a ``normalize``.
        """
        if normalize is not None:
            raise ValueError("normalize: expected None, as an int8 network reads bytes as they are")
        steps = _pack_network(self, portable)
        if steps is None:
            raise RuntimeError("deploy: expected layers without hooks and code of their own")
        return DeployedMobileNetV2(_Steps(steps), None, layout)

    def packed_chain(self) -> PackedLayers | None:
        """All layers as one operator, packed now; None where some are in float."""
        layers = [layer for _, layer in self.named_layers()]
        chain = [layer for layer in layers if isinstance(layer, QuantizedLayer)]
        return _packed(chain) if len(chain) == len(layers) else None

    def reference(self, x: Tensor) -> Tensor:
        """The same by ``reference_int8``: the specification in plain torch, many times slower."""
        for layer, grid in self.with_input_grids():
            x = layer.convert(x, grid)
            x = layer.reference(x) if isinstance(layer, QuantizedLayer) else layer(x)
        return x

    def _single_steps(self) -> list[_Step]:
        """Each layer by itself: what records calls sees them, and hooks run."""
        return [_Step(grid, layer.takes, layer) for layer, grid in self.with_input_grids()]

    def with_input_grids(self) -> Iterator[tuple[AnyLayer, Grid]]:
        """Each layer with the grid of what it reads."""
        _, layers = zip(*self.named_layers(), strict=True)
        yield layers[0], self.image_grid
        for before, layer in pairwise(layers):
            yield layer, before.grid

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *rest: Any) -> None:
        text = state_dict.get(prefix + STATE_LAYERS)
        if text is not None and not torch.equal(text, self.get_buffer(STATE_LAYERS)):
            raise ValueError(f"{STATE_LAYERS}: expected a state of these layers, got one of others")
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedMobileNetV2:
        # .half() and .double() would round the multipliers, and so change what is computed.
        if fn(self.image_grid.scale).dtype != torch.float32:
            raise TypeError("a quantised network has no other dtype than its own")
        return super()._apply(fn, recurse)


class _Step(NamedTuple):
    """A layer in float, or a chain of int8 layers; ``grid`` is that of what it reads."""

    grid: Grid
    takes: tuple[torch.dtype, ...]
    run: nn.Module


def _run_steps(steps: Sequence[_Step], x: Tensor) -> Tensor:
    for grid, takes, run in steps:
        x = run(_converted(x, grid, takes))
    return x


class _Steps(nn.Module):
    """The steps by themselves, without the network that they were made of."""

    def __init__(self, steps: Sequence[_Step]) -> None:
        super().__init__()
        self.steps = copy.deepcopy(steps)
        self.held = nn.ModuleList(step.run for step in self.steps)

    def forward(self, x: Tensor) -> Tensor:
        return _run_steps(self.steps, x)


def _pack_network(network: QuantizedMobileNetV2, portable: bool = False) -> list[_Step] | None:
    """None where a layer has to be called by itself: hooks, or other code of its own."""
    layers = [*network.with_input_grids()]
    known = {True: FloatLayer, False: QuantizedLayer}
    parts = [(network.features, nn.Sequential), *((layer, known[layer.is_float]) for layer, _ in layers)]
    if any(own_code_obstacle(part, whose) for part, whose in parts):
        return None
    steps = []
    for is_float, group in groupby(layers, key=lambda pair: pair[0].is_float):
        chain, grids = zip(*group, strict=True)
        if is_float:
            steps += [_Step(grid, layer.takes, layer) for layer, grid in zip(chain, grids, strict=True)]
        else:
            steps.append(_Step(grids[0], chain[0].takes, _packed(chain, portable)))
    return steps
