"""The range of each tensor over the calibration images, and the grid that it gets."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from .network import FloatLayer
from .reference_int8 import HIGHEST
from .rounding import Grid
from .state import CLASSIFIER, HEAD

SAMPLED_PIXELS = 40  # of each image and tensor, for the least squared error
LEAST_FACTOR, FACTORS = 0.4, 31  # of the extremes, from this to 1
# What the pooled features may exceed the largest seen by: the classifier's input has little noise of its own.
POOLED_MARGIN = 1.1


class Observed:
    """The extremes of one tensor's channels over all images, and some pixels of each image."""

    def __init__(self) -> None:
        self._low: list[Tensor] = []
        self._high: list[Tensor] = []
        self._samples: list[Tensor] = []

    def add(self, x: Tensor, generator: torch.Generator) -> None:
        """x float32 (N, C, H, W) or (N, C)."""
        pixels = x.reshape(*x.shape[:2], -1)
        self._low.append(pixels.amin((0, 2)))
        self._high.append(pixels.amax((0, 2)))
        chosen = torch.randint(pixels.shape[2], (min(SAMPLED_PIXELS, pixels.shape[2]),), generator=generator)
        self._samples.append(pixels[:, :, chosen])

    @property
    def low(self) -> Tensor:
        return torch.stack(self._low).amin(0)

    @property
    def high(self) -> Tensor:
        return torch.stack(self._high).amax(0)

    def by_channel(self) -> Grid:
        """A scale and zero point for each channel, from its extremes."""
        return Grid.of_range(self.low, self.high)

    def by_tensor(self) -> Grid:
        """One scale and zero point, of the share of the extremes whose squared error is least."""
        low, high = self.low.amin().view(1), self.high.amax().view(1)
        sample = torch.cat([each.flatten() for each in self._samples])
        factors = torch.linspace(LEAST_FACTOR, 1, FACTORS)
        errors = [_squared_error(sample, Grid.of_range(low * factor, high * factor)) for factor in factors]
        factor = factors[int(torch.tensor(errors).argmin())]
        channels = len(self.low)
        return Grid.of_range((low * factor).expand(channels), (high * factor).expand(channels))

    def of_pooled(self) -> Grid:
        """One scale with a margin; the zero point of what a clamp at 0 has passed is 0."""
        high = (self.high.amax() * POOLED_MARGIN).expand_as(self.high)
        return Grid.of_range(torch.zeros_like(high), high)


def _squared_error(x: Tensor, grid: Grid) -> float:
    level = (x / grid.scale + grid.zero_point).round_().clamp_(0, HIGHEST)
    return (level.sub_(grid.zero_point).mul_(grid.scale) - x).square_().sum(dtype=torch.float64).item()


Key = tuple[str, str]  # the names of a layer and of a convolution, or POOLED
POOLED = "pooled"


def observe(layers: dict[str, FloatLayer], batches: Iterable[Tensor]) -> dict[Key, Observed]:
    """The tensors whose ranges depend on the images, over batches of these in float32."""
    generator = torch.Generator().manual_seed(0)
    observed: dict[Key, Observed] = {}
    for x in batches:
        for name, layer in layers.items():

            def visit(conv: str, y: Tensor, name: str = name, layer: FloatLayer = layer) -> None:
                if conv == "project" or layer.layer.activation == "relu":
                    observed.setdefault((name, conv), Observed()).add(y, generator)

            x = layer(x, visit)
            if layer.layer.kind == HEAD:
                observed.setdefault((name, POOLED), Observed()).add(x, generator)
    return observed


def grids_of(
    layers: dict[str, FloatLayer], observed: dict[Key, Observed], per_channel: bool
) -> dict[Key, Grid]:
    """The grid of every convolution's output, and of the pooled features; none for the logits."""
    grids: dict[Key, Grid] = {}
    for name, layer in layers.items():
        if layer.layer.kind == CLASSIFIER:
            continue
        for conv, convolution in layer.convolutions():
            key = name, conv
            if key not in observed:
                grids[key] = Grid.of_relu6(len(convolution.bias))
            elif conv == "project" and per_channel:
                grids[key] = observed[key].by_channel()
            else:
                grids[key] = observed[key].by_tensor()
        if layer.layer.kind == HEAD:
            grids[name, POOLED] = observed[name, POOLED].of_pooled()
    return grids
