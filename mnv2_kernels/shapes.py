"""Shapes of the operators and of MobileNetV2: sizes, multiply-accumulates and bytes.

The dataclasses mirror the parameter structs of ``csrc/core/block.h``. A multiply-accumulate (MAC) is one
multiplication with its addition; scale, bias, activation, shortcut and pooling are not counted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import _native

if TYPE_CHECKING:
    import torch

Padding = tuple[int, int, int, int]

ACTIVATIONS: tuple[str, ...] = _native.activation_names()
GATE_ACTIVATIONS: tuple[str, ...] = _native.gate_activation_names()
KERNEL_SIZES = (3, 5, 7)  # of csrc/core/block.h
KERNEL_SIZE = 3  # of MobileNetV2
MAX_CHANNELS = 2**20  # of csrc/core/block.h
SYMMETRIC_PADDING: Padding = (1, 1, 1, 1)

# Expansion, output channels, repeats and the stride of the first repeat (table 2 of arXiv 1801.04381).
INVERTED_RESIDUAL_SETTING = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Multipliers with published weights, the usual one first; a file of weights does not name its own.
PUBLISHED_WIDTHS = (1.0, 1.4, 1.3, 0.75, 0.5, 0.35, 0.25, 0.1, 1.2, 1.1)

BYTE_VALUES = 256
FLOAT_BYTES = 4

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
CHANNEL_DIVISOR = 8


def make_divisible(value: float, divisor: int = CHANNEL_DIVISOR) -> int:
    """``value`` rounded to a multiple of ``divisor``, at least that and 90 % of ``value``."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def output_size(size: int, before: int, after: int, stride: int, kernel: int = KERNEL_SIZE) -> int:
    """Outputs of a convolution along one dimension; 0 or less where the padded input is too small."""
    return (size + before + after - kernel) // stride + 1


def same_output_size(size: int, stride: int) -> int:
    """Outputs of a convolution with SAME padding along one dimension."""
    return -(-size // stride)


def same_padding(size: int, stride: int, kernel: int = KERNEL_SIZE) -> tuple[int, int]:
    """(before, after) of TensorFlow's SAME padding for a convolution along a dimension of ``size``."""
    outputs = same_output_size(size, stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def same_padding_2d(height: int, width: int, stride: int, kernel: int = KERNEL_SIZE) -> Padding:
    """SAME padding of an image in the order of the ops: (top, left, bottom, right)."""
    (top, bottom), (left, right) = same_padding(height, stride, kernel), same_padding(width, stride, kernel)
    return top, left, bottom, right


def symmetric_padding(kernel: int) -> Padding:
    """That with which a convolution of stride 1 keeps an image's size."""
    return (kernel // 2,) * 4


class _ImageLayer(ABC):
    """A layer of images: its bytes."""

    batch: int
    height: int
    width: int
    in_channels: int
    out_channels: int

    @property
    @abstractmethod
    def out_height(self) -> int: ...

    @property
    @abstractmethod
    def out_width(self) -> int: ...

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Weights, and a scale and a bias for every channel of every convolution."""

    @property
    def _values(self) -> int:
        return self.batch * self.in_channels * self.height * self.width

    def input_bytes(self, dtype: torch.dtype) -> int:
        return self._values * dtype.itemsize

    def output_bytes(self, dtype: torch.dtype) -> int:
        return self.batch * self.out_channels * self.out_height * self.out_width * dtype.itemsize

    def weight_bytes(self, dtype: torch.dtype) -> int:
        return self.parameters * dtype.itemsize

    def floor_bytes(self, dtype: torch.dtype) -> int:
        """What any run has to move: input, output and weights, each once."""
        return self.input_bytes(dtype) + self.output_bytes(dtype) + self.weight_bytes(dtype)


class _ConvolvedImage(_ImageLayer):
    """Output size of what slides a window over an image."""

    stride: int
    padding: Padding
    kernel: int

    @property
    def out_height(self) -> int:
        return output_size(self.height, self.padding[0], self.padding[2], self.stride, self.kernel)

    @property
    def out_width(self) -> int:
        return output_size(self.width, self.padding[1], self.padding[3], self.stride, self.kernel)

    @property
    def taps(self) -> int:
        return self.kernel * self.kernel


@dataclass(frozen=True)
class BlockShape(_ConvolvedImage):
    """An inverted residual: 1x1 expand, depthwise, gate, 1x1 project, shortcut; all but two are optional.

    ``padding`` is (top, left, bottom, right), each up to half of ``kernel``. Without ``expand``,
    ``expanded_channels`` equals ``in_channels``; ``residual`` demands stride 1, ``symmetric_padding`` and
    equal channels. ``depthwise_activation`` of None is ``activation``, which the expand has. There is a gate
    where ``squeezed_channels`` are not 0: they lie between its two 1x1 convolutions. Raises ValueError where
    these rules are broken.
    """

    batch: int
    height: int
    width: int
    in_channels: int
    expanded_channels: int
    out_channels: int
    stride: int = 1
    padding: Padding = SYMMETRIC_PADDING
    activation: str = "relu6"
    project_activation: str = "none"
    residual: bool = False
    expand: bool = True
    kernel: int = KERNEL_SIZE
    depthwise_activation: str | None = None
    squeezed_channels: int = 0
    squeeze_activation: str = "relu"
    excite_activation: str = "sigmoid"

    def __post_init__(self) -> None:
        if not self.expand and self.expanded_channels != self.in_channels:
            raise ValueError(
                f"without expand, expanded_channels must equal in_channels: "
                f"{self.expanded_channels} and {self.in_channels}"
            )
        padding = symmetric_padding(self.kernel)
        if self.residual and not (
            self.stride == 1 and self.padding == padding and self.in_channels == self.out_channels
        ):
            raise ValueError(f"a residual demands stride 1, padding {padding[0]} and equal channels: {self}")

    @property
    def accumulation_depth(self) -> int:
        """The longest sum of products behind one value of any of the three convolutions."""
        expand = self.in_channels if self.expand else 0
        return max(expand, self.taps, self.expanded_channels, self.squeezed_channels)

    @property
    def macs(self) -> int:
        in_pixels = self.batch * self.height * self.width
        out_pixels = self.batch * self.out_height * self.out_width
        expand = in_pixels * self.in_channels * self.expanded_channels if self.expand else 0
        depthwise = out_pixels * self.expanded_channels * self.taps
        gate = 2 * self.batch * self.expanded_channels * self.squeezed_channels
        project = out_pixels * self.expanded_channels * self.out_channels
        return expand + depthwise + gate + project

    @property
    def parameters(self) -> int:
        expanded, squeezed = self.expanded_channels, self.squeezed_channels
        expand = (self.in_channels + 2) * expanded if self.expand else 0
        gate = (expanded + 1) * squeezed + (squeezed + 1) * expanded if squeezed else 0
        return expand + (self.taps + 2) * expanded + gate + (expanded + 2) * self.out_channels

    def depthwise_out_bytes(self, dtype: torch.dtype) -> int:
        """The depthwise convolution's output."""
        return self.batch * self.out_height * self.out_width * self.expanded_channels * dtype.itemsize

    def floor_bytes(self, dtype: torch.dtype) -> int:
        """What any run has to move.

        A gate needs the whole depthwise output before the project: it is written and read once.
        """
        passes = 2 if self.squeezed_channels else 0
        return super().floor_bytes(dtype) + passes * self.depthwise_out_bytes(dtype)

    def expanded_bytes(self, dtype: torch.dtype) -> int:
        """What an unfused run writes and a fused one does not: the expand's output and the depthwise's."""
        in_pixels = self.batch * self.height * self.width if self.expand else 0
        return in_pixels * self.expanded_channels * dtype.itemsize + self.depthwise_out_bytes(dtype)

    def unfused_bytes(self, dtype: torch.dtype) -> int:
        """What three convolutions, the gate's pool and product, and the shortcut move.

        Each moves its inputs, its output and its weights once.
        """
        shortcut = self.input_bytes(dtype) if self.residual else 0
        pool = self.depthwise_out_bytes(dtype) if self.squeezed_channels else 0
        return self.floor_bytes(dtype) + 2 * self.expanded_bytes(dtype) + pool + shortcut


@dataclass(frozen=True)
class StemShape(_ConvolvedImage):
    """A dense convolution of an image with few channels; ``padding`` is (top, left, bottom, right).

    ``bytes_as``: the dtype of the numbers that the bytes of an image stand for, by a table; None where the
    image is of numbers.
    """

    batch: int
    height: int
    width: int
    in_channels: int
    out_channels: int
    stride: int = 2
    padding: Padding = SYMMETRIC_PADDING
    activation: str = "relu6"
    kernel: int = KERNEL_SIZE
    bytes_as: str | None = None

    def input_bytes(self, dtype: torch.dtype) -> int:
        return super().input_bytes(dtype) if self.bytes_as is None else self._values

    def weight_bytes(self, dtype: torch.dtype) -> int:
        table = 0 if self.bytes_as is None else self.in_channels * BYTE_VALUES * FLOAT_BYTES
        return super().weight_bytes(dtype) + table

    @property
    def accumulation_depth(self) -> int:
        return self.in_channels * self.taps

    @property
    def macs(self) -> int:
        return self.batch * self.out_height * self.out_width * self.out_channels * self.accumulation_depth

    @property
    def parameters(self) -> int:
        return (self.accumulation_depth + 2) * self.out_channels

    def expanded_bytes(self, dtype: torch.dtype) -> int:
        """0: one convolution has nothing between its input and its output."""
        return 0


@dataclass(frozen=True)
class HeadShape(_ImageLayer):
    """A 1x1 convolution, its activation and the mean over all pixels."""

    batch: int
    height: int
    width: int
    in_channels: int
    out_channels: int
    activation: str = "relu6"
    out_height: int = field(default=1, init=False)
    out_width: int = field(default=1, init=False)

    @property
    def accumulation_depth(self) -> int:
        return self.in_channels

    @property
    def macs(self) -> int:
        return self.batch * self.height * self.width * self.in_channels * self.out_channels

    @property
    def parameters(self) -> int:
        return (self.in_channels + 2) * self.out_channels

    def expanded_bytes(self, dtype: torch.dtype) -> int:
        """What an unfused run writes and a fused one does not: the convolution's output before the pool."""
        return self.batch * self.height * self.width * self.out_channels * dtype.itemsize


@dataclass(frozen=True)
class ClassifierShape:
    """A fully connected layer behind the pool."""

    batch: int
    in_features: int
    out_features: int
    activation: str = "none"

    @property
    def macs(self) -> int:
        return self.batch * self.in_features * self.out_features

    @property
    def parameters(self) -> int:
        return (self.in_features + 1) * self.out_features


LayerShape = StemShape | BlockShape | HeadShape | ClassifierShape


def describe(shape: LayerShape) -> str:
    """A layer in a few characters: ``56x56 24-144-24 s1``, where it has them with `` k5`` and `` gate 6``."""
    if isinstance(shape, ClassifierShape):
        return f"{shape.in_features}-{shape.out_features}"
    channels = [shape.in_channels, shape.out_channels]
    if isinstance(shape, BlockShape) and shape.expand:
        channels.insert(1, shape.expanded_channels)
    window = "" if isinstance(shape, HeadShape) else f" s{shape.stride}"
    if not isinstance(shape, HeadShape) and shape.kernel != KERNEL_SIZE:
        window += f" k{shape.kernel}"
    if isinstance(shape, BlockShape) and shape.squeezed_channels:
        window += f" gate {shape.squeezed_channels}"
    return f"{shape.height}x{shape.width} {'-'.join(map(str, channels))}{window}"


@dataclass(frozen=True)
class NetworkShape:
    """A whole MobileNetV2."""

    stem: StemShape
    blocks: tuple[BlockShape, ...]
    head: HeadShape
    classifier: ClassifierShape

    @property
    def layers(self) -> tuple[LayerShape, ...]:
        return (self.stem, *self.blocks, self.head, self.classifier)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    def expanded_bytes(self, dtype: torch.dtype) -> int:
        """Bytes that an unfused forward pass writes to memory and a fused one does not."""
        return sum(block.expanded_bytes(dtype) for block in self.blocks) + self.head.expanded_bytes(dtype)


def mobilenet_v2(
    width_mult: float = 1.0,
    resolution: int = 224,
    batch: int = 1,
    padding: str = "torch",
    num_classes: int = 1000,
) -> NetworkShape:
    """The shapes of MobileNetV2 with channels rounded as torchvision rounds them.

    ``padding`` is "torch" (1 on every side) or "same" (TensorFlow's, which depends on the size). Raises
    ValueError for any other.
    """
    if padding not in ("torch", "same"):
        raise ValueError(f"padding: expected 'torch' or 'same', got {padding!r}")

    def pad(size: int, stride: int) -> Padding:
        return SYMMETRIC_PADDING if padding == "torch" else same_padding_2d(size, size, stride)

    channels = make_divisible(STEM_CHANNELS * width_mult)
    stem = StemShape(batch, resolution, resolution, 3, channels, padding=pad(resolution, 2))
    size = stem.out_height
    blocks = []
    for expansion, base_channels, repeats, first_stride in INVERTED_RESIDUAL_SETTING:
        out_channels = make_divisible(base_channels * width_mult)
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            block = BlockShape(
                batch,
                size,
                size,
                channels,
                channels * expansion,
                out_channels,
                stride=stride,
                padding=pad(size, stride),
                residual=stride == 1 and channels == out_channels,
                expand=expansion != 1,
            )
            blocks.append(block)
            channels, size = out_channels, block.out_height
    head_channels = make_divisible(HEAD_CHANNELS * max(1.0, width_mult))
    head = HeadShape(batch, size, size, channels, head_channels)
    return NetworkShape(stem, tuple(blocks), head, ClassifierShape(batch, head_channels, num_classes))
