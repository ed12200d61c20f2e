"""What the operators are tested on: shapes, random tensors for a shape, and memory layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

import torch
from torch import Tensor

from mnv2_kernels import reference
from mnv2_kernels.accuracy import MINIMUM_INPUTS
from mnv2_kernels.layer import layer_of
from mnv2_kernels.shapes import BlockShape, HeadShape, StemShape, make_divisible, mobilenet_v2

Shape = BlockShape | StemShape | HeadShape

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
CLAMPS = ("none", "relu", "relu6")  # the activations that every backend has
WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
# With fewer values than this the largest error of eager is a matter of luck.
MIN_POOLED_PIXELS = 2048

_OPS = {BlockShape: "fused_block", StemShape: "stem", HeadShape: "head_pool"}
_OPTIONS = (
    "stride",
    "padding",
    "residual",
    "activation",
    "project_activation",
    "depthwise_activation",
    "squeeze_activation",
    "excite_activation",
)


def options_of(shape: Shape) -> dict[str, Any]:
    """The keyword arguments of its operator."""
    return {name: getattr(shape, name) for name in _OPTIONS if hasattr(shape, name)}


@dataclass(frozen=True)
class Case:
    """Arguments of one operator: ``op(x, *weights, **options)``."""

    shape: Shape
    x: Tensor
    weights: tuple[Tensor | None, ...]

    @property
    def op(self) -> str:
        return _OPS[type(self.shape)]

    @property
    def options(self) -> dict[str, Any]:
        return options_of(self.shape)

    @property
    def layers(self) -> str:
        """The text of the one layer."""
        return str(layer_of(self.shape))

    def run(self, x: Tensor | None = None) -> Tensor:
        return getattr(torch.ops.mnv2, self.op)(self.x if x is None else x, *self.weights, **self.options)

    def pack(self) -> Tensor:
        return torch.ops.mnv2.pack(self.weights, layers=self.layers)

    def run_packed(self, packed: Tensor, x: Tensor | None = None) -> Tensor:
        return torch.ops.mnv2.run(self.x if x is None else x, packed, layers=self.layers)

    def reference(self, dtype: torch.dtype | None = None, x: Tensor | None = None) -> Tensor:
        """The plain-torch result, computed in ``dtype`` (x's own where None)."""
        x = self.x if x is None else x
        dtype = x.dtype if dtype is None else dtype
        weights = [None if weight is None else weight.to(dtype) for weight in self.weights]
        return getattr(reference, self.op)(x.to(dtype), *weights, **self.options)

    def magnitude(self) -> Tensor:
        """The float64 result of absolute values without activations: the scale of rounding errors."""
        activations = ("activation", "project_activation", "depthwise_activation")
        linear = {name: "none" for name in activations if hasattr(self.shape, name)}
        weights = tuple(None if weight is None else weight.abs() for weight in self.weights)
        return Case(replace(self.shape, **linear), self.x.abs(), weights).reference(torch.float64)


def make_case(
    shape: Shape, dtype: torch.dtype = torch.float32, *, scale: bool = True, bias: bool = True
) -> Case:
    """Random tensors for ``shape``, the same for the same arguments.

    Weights keep the variance of what they multiply: every activation clips some values and passes others.
    """
    generator = torch.Generator().manual_seed(
        hash((shape.batch, shape.height, shape.width, shape.in_channels))
    )

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    def convolution(out_channels: int, in_channels: int, kernel: int) -> tuple[Tensor | None, ...]:
        weight = (
            2 * normal(out_channels, in_channels, kernel, kernel) / (in_channels * kernel * kernel) ** 0.5
        )
        scales = 0.5 + torch.rand(out_channels, generator=generator) if scale else None
        biases = normal(out_channels) if bias else None
        return weight, scales, biases

    if isinstance(shape, BlockShape):
        expand = (
            convolution(shape.expanded_channels, shape.in_channels, 1) if shape.expand else (None, None, None)
        )
        depthwise = convolution(shape.expanded_channels, 1, shape.kernel)
        weights = (*expand, *depthwise, *convolution(shape.out_channels, shape.expanded_channels, 1))
        if shape.squeezed_channels:
            squeeze, _, squeeze_bias = convolution(shape.squeezed_channels, shape.expanded_channels, 1)
            excite, _, excite_bias = convolution(shape.expanded_channels, shape.squeezed_channels, 1)
            weights = (*weights, squeeze, squeeze_bias, excite, excite_bias)
    else:
        kernel = shape.kernel if isinstance(shape, StemShape) else 1
        weights = convolution(shape.out_channels, shape.in_channels, kernel)
    x = normal(shape.batch, shape.in_channels, shape.height, shape.width)
    return Case(shape, x.to(dtype), tuple(None if weight is None else weight.to(dtype) for weight in weights))


@lru_cache(maxsize=64)
def measured_case(shape: Shape, dtype: torch.dtype) -> tuple[Case, Tensor, Tensor]:
    """A case with its eager result in ``dtype`` and its float64 result, kept for the next instruction set."""
    case = make_case(shape, dtype)
    return case, case.reference(), case.reference(torch.float64)


# --- shapes ---


def network_blocks(
    width: float, resolution: int, padding: str = "torch", batch: int = MINIMUM_INPUTS
) -> list[BlockShape]:
    """The distinct blocks of MobileNetV2; a small ``resolution`` gives the same channels for less time."""
    return list(dict.fromkeys(mobilenet_v2(width, resolution, batch, padding).blocks))


def _odd_images() -> Iterator[tuple[int, int, int]]:
    """(batch, height, width) of sizes that no strip or vector divides."""
    for height, width in ((1, 1), (2, 3), (7, 5), (15, 17)):
        yield max(MINIMUM_INPUTS, MIN_POOLED_PIXELS // (height * width)), height, width


def odd_blocks() -> Iterator[BlockShape]:
    """Blocks whose sizes and channels no vector width divides."""
    all_channels = ((1, 3, 1), (3, 17, 51), (17, 51, 17), (51, 3, 8), (8, 48, 17), (17, 136, 24))
    for image, channels, stride in product(_odd_images(), all_channels, (1, 2)):
        residual = stride == 1 and channels[0] == channels[2]
        yield BlockShape(*image, *channels, stride=stride, residual=residual)


def odd_stems() -> Iterator[StemShape]:
    for image, channels, stride in product(_odd_images(), ((1, 3), (3, 17), (4, 51), (7, 8)), (1, 2)):
        yield StemShape(*image, *channels, stride=stride)


def odd_heads() -> Iterator[HeadShape]:
    for image, channels in product(_odd_images(), ((1, 1), (3, 17), (17, 51), (51, 3), (200, 24))):
        yield HeadShape(*image, *channels)


def channel_sweep() -> Iterator[BlockShape]:
    """Channel counts from 8 to 960 in steps of 8 and off them, on a small image."""
    for channels in range(8, 961, 8):
        narrow = make_divisible(channels / 6)
        odd = 1 + channels // 8 % 7
        yield BlockShape(MINIMUM_INPUTS, 4, 5, narrow, channels, narrow)
        yield BlockShape(MINIMUM_INPUTS, 4, 5, narrow + odd, channels - odd, narrow - odd)


def shape_id(shape: Shape) -> str:
    """A readable test id, e.g. ``16-96-24_56x56_s2``."""
    channels = [shape.in_channels, shape.out_channels]
    if isinstance(shape, BlockShape):
        channels.insert(1, shape.expanded_channels if shape.expand else "direct")
    text = f"{'-'.join(map(str, channels))}_{shape.height}x{shape.width}"
    return text if isinstance(shape, HeadShape) else f"{text}_s{shape.stride}"


# --- layouts: the same values elsewhere in memory ---


def _poison(x: Tensor) -> float:
    """What lies around the values of x; images of bytes have no NaN."""
    return float("nan") if x.is_floating_point() else 0


def _offset(x: Tensor) -> Tensor:
    """NCHW, one element behind the start of its storage and off every vector's alignment."""
    storage = x.new_full((x.numel() + 2,), _poison(x))
    return storage[1:-1].view(x.shape).copy_(x)


def _sliced(x: Tensor) -> Tensor:
    """The middle of a larger NHWC tensor of NaN: what lies around and between is poison."""
    n, c, h, w = x.shape
    larger = x.new_full((n + 2, c + 3, h + 2, w + 2), _poison(x)).to(memory_format=torch.channels_last)
    return larger[1:-1, 1:-2, 1:-1, 1:-1].copy_(x)


def _stepped(x: Tensor) -> Tensor:
    """Every second element of every dimension of an NCHW tensor of NaN."""
    larger = x.new_full([2 * size for size in x.shape], _poison(x))
    return larger[::2, ::2, ::2, ::2].copy_(x)


def _transposed(x: Tensor) -> Tensor:
    """Columns before rows before batch, channels innermost but one."""
    return x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "nchw": lambda x: x.contiguous(),
    "nhwc": lambda x: x.contiguous(memory_format=torch.channels_last),
    "offset": _offset,
    "sliced": _sliced,
    "stepped": _stepped,
    "transposed": _transposed,
}
