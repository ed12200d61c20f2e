"""How much of a trained network's activations is zero: of what its blocks expand, and of what they return."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...nn.networks import eager_copy
from ...weights.photos import load_photos
from ...weights.sources import Network

# A channel that is zero for more pixels is mostly zero.
MOSTLY = 0.9


@dataclass(frozen=True)
class ZerosRow:
    """A block of a network, over all pixels of some photographs.

    ``expanded_zero``: share of the expanded values that ReLU6 made zero; ``half_zero``, ``mostly_zero`` and
    ``all_zero``: expanded channels that are zero for half of the pixels or more, for nine of ten, for all.
    ``linear_zero``: share of zeros of what the linear project returns; ``relu_zero`` and
    ``relu_mostly_zero``: share of zeros and such channels, if a ReLU6 came behind it.
    """

    KIND: ClassVar[str] = "bottleneck"

    network: str
    photos: int
    size: int
    block: str
    expanded_channels: int
    expanded_zero: float
    half_zero: int
    mostly_zero: int
    all_zero: int
    channels: int
    linear_zero: float
    relu_zero: float
    relu_mostly_zero: int


@torch.inference_mode()
def count_zeros(network: Network, photos: Sequence[Path]) -> Iterator[ZerosRow]:
    """A row for each block that expands, by torch's own layers.

    Raises PhotoError where a photograph cannot be read.
    """
    settings = network.settings
    x = load_photos(photos, settings.size, settings.preprocess)
    features: Any = eager_copy(network.model).features
    for index, block in enumerate(features):
        convolutions = getattr(block, "conv", None)
        if convolutions is not None and len(convolutions) > 3:  # one without an expand has three
            expanded = _zero_shares(convolutions[0](x))
            returned = convolutions(x)
            rectified = _zero_shares(returned.relu())
            yield ZerosRow(
                network=network.name,
                photos=len(photos),
                size=settings.size,
                block=f"features.{index}",
                expanded_channels=len(expanded),
                expanded_zero=expanded.mean().item(),
                half_zero=int((expanded >= 0.5).sum()),
                mostly_zero=int((expanded >= MOSTLY).sum()),
                all_zero=int((expanded == 1).sum()),
                channels=len(rectified),
                linear_zero=_zero_shares(returned).mean().item(),
                relu_zero=rectified.mean().item(),
                relu_mostly_zero=int((rectified >= MOSTLY).sum()),
            )
        x = block(x)


def _zero_shares(x: Tensor) -> Tensor:
    """(channels,): of the pixels of all images."""
    return (x == 0).double().mean((0, 2, 3))
