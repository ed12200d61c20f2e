"""The layers of well-known networks whose blocks are inverted residuals, as data.

Each is a chain: a stem, blocks, a head with its pool, linear layers. Sources are the papers' tables, as
torchvision and timm have them: MobileNetV2 (arXiv 1801.04381), MobileNetV3 (1905.02244), MnasNet
(1807.11626), FBNet (1812.03443), EfficientNet (1905.11946) and its Lite form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from .layer import SAME, Layer, layer_of
from .shapes import make_divisible, mobilenet_v2, symmetric_padding

IMAGE_CHANNELS, CLASSES = 3, 1000

# Kernel, expansion, output channels, repeats and the stride of the first repeat.
Stages = tuple[tuple[int, int, int, int, int], ...]

_EFFICIENTNET: Stages = (
    (3, 1, 16, 1, 1),
    (3, 6, 24, 2, 2),
    (5, 6, 40, 2, 2),
    (3, 6, 80, 3, 2),
    (5, 6, 112, 3, 1),
    (5, 6, 192, 4, 2),
    (3, 6, 320, 1, 1),
)
_MNASNET_B1: Stages = (
    (3, 1, 16, 1, 1),
    (3, 3, 24, 3, 2),
    (5, 3, 40, 3, 2),
    (5, 6, 80, 3, 2),
    (3, 6, 96, 2, 1),
    (5, 6, 192, 4, 2),
    (3, 6, 320, 1, 1),
)
_FBNET_C: Stages = (
    (3, 1, 16, 1, 1),
    (3, 6, 24, 1, 2),
    (3, 1, 24, 2, 1),
    (5, 6, 32, 1, 2),
    (5, 3, 32, 1, 1),
    (5, 6, 32, 1, 1),
    (3, 6, 32, 1, 1),
    (5, 6, 64, 1, 2),
    (5, 3, 64, 1, 1),
    (5, 6, 64, 2, 1),
    (5, 6, 112, 3, 1),
    (5, 3, 112, 1, 1),
    (5, 6, 184, 4, 2),
    (3, 6, 352, 1, 1),
)

# Kernel, expanded and output channels, whether it has a gate, activation, stride.
Rows = tuple[tuple[int, int, int, bool, str, int], ...]

_MOBILENET_V3_LARGE: Rows = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hardswish", 2),
    (3, 200, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1),
    (3, 480, 112, True, "hardswish", 1),
    (3, 672, 112, True, "hardswish", 1),
    (5, 672, 160, True, "hardswish", 2),
    (5, 960, 160, True, "hardswish", 1),
    (5, 960, 160, True, "hardswish", 1),
)
_MOBILENET_V3_SMALL: Rows = (
    (3, 16, 16, True, "relu", 2),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hardswish", 2),
    (5, 240, 40, True, "hardswish", 1),
    (5, 240, 40, True, "hardswish", 1),
    (5, 120, 48, True, "hardswish", 1),
    (5, 144, 48, True, "hardswish", 1),
    (5, 288, 96, True, "hardswish", 2),
    (5, 576, 96, True, "hardswish", 1),
    (5, 576, 96, True, "hardswish", 1),
)


def _block(
    kernel: int, in_channels: int, expanded: int, out_channels: int, stride: int, activation: str
) -> Layer:
    """Without a gate. A block of equal input and expanded channels has no expand."""
    return Layer(
        "block",
        in_channels,
        out_channels,
        expanded,
        kernel=kernel,
        stride=stride,
        padding=symmetric_padding(kernel),
        activation=activation,
        expand=expanded != in_channels,
        residual=stride == 1 and in_channels == out_channels,
    )


def _blocks(stages: Stages, channels: int, activation: str) -> Iterator[Layer]:
    for kernel, expansion, out_channels, repeats, stride in stages:
        for repeat in range(repeats):
            first = stride if repeat == 0 else 1
            yield _block(kernel, channels, channels * expansion, out_channels, first, activation)
            channels = out_channels


def _network(stem: int, blocks: Iterator[Layer], activation: str, *head: int) -> tuple[Layer, ...]:
    """``head``: output channels of the convolution in front of the pool and of linear layers behind it."""
    chain = [Layer("stem", IMAGE_CHANNELS, stem, stride=2, activation=activation), *blocks]
    chain.append(Layer("head_pool", chain[-1].out_channels, head[0], activation=activation))
    for channels in head[1:]:
        chain.append(Layer("linear", chain[-1].out_channels, channels, activation=activation))
    return (*chain, Layer("linear", chain[-1].out_channels, CLASSES))


def _mobilenet_v2() -> tuple[Layer, ...]:
    return tuple(map(layer_of, mobilenet_v2(num_classes=CLASSES).layers))


def _efficientnet_lite0() -> tuple[Layer, ...]:
    return _network(32, _blocks(_EFFICIENTNET, 32, "relu6"), "relu6", 1280)


def _mnasnet_b1() -> tuple[Layer, ...]:
    return _network(32, _blocks(_MNASNET_B1, 32, "relu"), "relu", 1280)


def _fbnet_c() -> tuple[Layer, ...]:
    # Its expansion of 1 is a convolution, too.
    blocks = (replace(block, expand=True) for block in _blocks(_FBNET_C, 16, "relu"))
    return _network(16, blocks, "relu", 1984)


def _efficientnet_b0() -> tuple[Layer, ...]:
    def gated() -> Iterator[Layer]:
        for block in _blocks(_EFFICIENTNET, 32, "silu"):
            yield replace(block, squeezed_channels=block.in_channels // 4, squeeze_activation="silu")

    return _network(32, gated(), "silu", 1280)


def _mobilenet_v3(rows: Rows, *head: int) -> tuple[Layer, ...]:
    def blocks(channels: int) -> Iterator[Layer]:
        for kernel, expanded, out_channels, has_gate, activation, stride in rows:
            block = _block(kernel, channels, expanded, out_channels, stride, activation)
            if has_gate:
                squeezed = make_divisible(expanded // 4)
                block = replace(block, squeezed_channels=squeezed, excite_activation="hardsigmoid")
            yield block
            channels = out_channels

    return _network(16, blocks(16), "hardswish", *head)


_NETWORKS: dict[str, Callable[[], tuple[Layer, ...]]] = {
    "mobilenet_v2": _mobilenet_v2,
    "efficientnet_lite0": _efficientnet_lite0,
    "mnasnet_b1": _mnasnet_b1,
    "fbnet_c": _fbnet_c,
    "mobilenetv3_small": lambda: _mobilenet_v3(_MOBILENET_V3_SMALL, 576, 1024),
    "mobilenetv3_large": lambda: _mobilenet_v3(_MOBILENET_V3_LARGE, 960, 1280),
    "efficientnet_b0": _efficientnet_b0,
}
NETWORKS = tuple(_NETWORKS)


def layers_of(network: str, padding: str = "torch") -> tuple[Layer, ...]:
    """The layers of one of NETWORKS, first to last, for images of 3 channels and 1000 classes.

    ``padding`` is "torch" (half of the kernel on every side) or "same" (TensorFlow's). Raises ValueError for
    any other, and for a network that is none of NETWORKS.
    """
    if network not in _NETWORKS:
        raise ValueError(f"network: expected one of {', '.join(NETWORKS)}, got {network!r}")
    if padding not in ("torch", SAME):
        raise ValueError(f"padding: expected 'torch' or 'same', got {padding!r}")
    layers = _NETWORKS[network]()
    if padding == SAME:
        return tuple(
            replace(layer, padding=SAME) if layer.kind in ("stem", "block") else layer for layer in layers
        )
    return layers
