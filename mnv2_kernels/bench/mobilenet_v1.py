"""MobileNetV1 (arXiv 1704.04861), whose block is the fused one's without expand and shortcut.

It is here to be compared with, as `mnv2 headlines` does; the package serves V2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..fusion.eager_layers import ConvNormActivation, global_average_pool, read_layer
from ..fusion.fused_layer import Fusion
from ..matching.known import block_fusion
from ..nn.building import NormLayer
from ..nn.units import FusedClassifier, FusedStem, FusedUnit
from ..packing.packed_layers import pack_layers
from ..shapes import KERNEL_SIZE, BlockShape, ClassifierShape, LayerShape, StemShape

STEM_CHANNELS, CLASSES = 32, 1000
# Output channels and stride of each block.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *5 * ((512, 1),), (1024, 2), (1024, 1))


@dataclass(frozen=True)
class V1Shape:
    """The shapes of the whole network."""

    stem: StemShape
    blocks: tuple[BlockShape, ...]
    classifier: ClassifierShape

    @property
    def layers(self) -> tuple[LayerShape, ...]:
        return (self.stem, *self.blocks, self.classifier)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)


def mobilenet_v1(resolution: int = 224) -> V1Shape:
    """The shapes of MobileNetV1 1.0."""
    stem = StemShape(1, resolution, resolution, 3, STEM_CHANNELS)
    channels, size = stem.out_channels, stem.out_height
    blocks = []
    for out_channels, stride in BLOCKS:
        block = BlockShape(
            *(1, size, size, channels, channels, out_channels),
            stride=stride,
            project_activation="relu6",
            expand=False,
        )
        blocks.append(block)
        channels, size = out_channels, block.out_height
    return V1Shape(stem, tuple(blocks), ClassifierShape(1, channels, CLASSES))


class SeparableBlock(FusedUnit, nn.Sequential):
    """A depthwise and a 1x1 convolution, each normalised and activated: mnv2::fused_block in eval mode."""

    _eager_class = nn.Sequential

    def __init__(self, channels: int, out_channels: int, stride: int, norm_layer: NormLayer) -> None:
        depthwise = nn.Conv2d(channels, channels, KERNEL_SIZE, stride, 1, groups=channels, bias=False)
        pointwise = nn.Conv2d(channels, out_channels, 1, bias=False)
        super().__init__(_activated(depthwise, norm_layer), _activated(pointwise, norm_layer))

    def fusion(self) -> Fusion:
        layers = [read_layer(name, layer) for name, layer in self.named_children()]
        return block_fusion(layers, residual=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, out_channels, H', W')."""
        return self._infer(x, super().forward)


class MobileNetV1(nn.Module):
    """MobileNetV1 1.0: its layers in train mode, fused in eval mode."""

    def __init__(self, norm_layer: NormLayer) -> None:
        super().__init__()
        shape = mobilenet_v1()
        stem = nn.Conv2d(3, STEM_CHANNELS, KERNEL_SIZE, 2, 1, bias=False)
        self.features = nn.Sequential(
            FusedStem(*_activated(stem, norm_layer)),
            *(
                SeparableBlock(block.in_channels, block.out_channels, block.stride, norm_layer)
                for block in shape.blocks
            ),
        )
        self.classifier = FusedClassifier(nn.Linear(shape.classifier.in_features, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) images to (N, num_classes) logits."""
        return self.classifier(global_average_pool(self.features(x)))

    def deploy(self) -> nn.Module:
        """An operator with its packed weights for each layer."""
        units: Iterable[Any] = self.features
        features = [pack_layers([unit.fusion()]) for unit in units]
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(*features, pool, pack_layers([self.classifier.fusion()]))


def _activated(conv: nn.Conv2d, norm_layer: NormLayer) -> ConvNormActivation:
    return ConvNormActivation(conv, norm_layer(conv.out_channels), nn.ReLU6(inplace=True))
