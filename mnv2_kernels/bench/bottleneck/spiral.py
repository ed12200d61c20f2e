"""A spiral in two dimensions, sent by a random matrix into more, through a ReLU, and back."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

DIMENSIONS = (2, 3, 5, 15, 30)
POINTS = 400
TURNS = 2.5
SEED = 0
# One matrix loses by luck, the mean of many by its dimensions.
MATRICES = 1000


@dataclass(frozen=True)
class Embedding:
    """A spiral (points, 2) that was in ``dimensions`` of a random matrix and came back by its pseudo-inverse.

    ``is_lost``, (points,): fewer than two of its coordinates there are above zero, so that no inverse finds
    the point again. ``mean_lost`` is the share of these over many matrices.
    """

    dimensions: int
    restored: Tensor
    is_lost: Tensor
    mean_lost: float

    @property
    def lost(self) -> float:
        """Share of the points."""
        return self.is_lost.double().mean().item()


def spiral() -> Tensor:
    """(points, 2), from the origin to a distance of one, at even distances of the angle."""
    place = torch.linspace(0, 1, POINTS + 1, dtype=torch.float64)[1:]
    angle = 2 * pi * TURNS * place
    return torch.stack([place * angle.cos(), place * angle.sin()], 1)


def embed(dimensions: int) -> Embedding:
    """The spiral by way of so many dimensions; always the same."""
    points = spiral()
    generator = torch.Generator().manual_seed(SEED)
    matrices = torch.randn(MATRICES, dimensions, 2, generator=generator, dtype=torch.float64)
    positive = (points @ matrices.mT).relu()
    is_lost = (positive > 0).sum(2) < 2
    restored = positive[0] @ torch.linalg.pinv(matrices[0]).T
    return Embedding(dimensions, restored, is_lost[0], is_lost.double().mean().item())
