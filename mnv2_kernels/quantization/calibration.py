"""Layer after layer into int8, on images that went through the layers already quantised."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .network import AnyLayer, FloatLayer, QuantizedLayer, QuantizedMobileNetV2
from .ranges import POOLED, Key
from .reference_int8 import NO_PADDING, accumulate, average, requantise
from .rounding import Grid, RoundedWeights
from .state import CLASSIFIER, HEAD

BATCH = 8  # images that a layer takes at a time
CORRECTED_IMAGES = 128  # all are in memory at once

LEAST_GAIN, MOST_GAIN = 0.5, 1.5
# A variance below this share of the mean square is the float64 sums' rounding.
NO_VARIANCE = 1e-12

LOGITS = Grid(torch.ones(1), torch.zeros(1))


class Passing(NamedTuple):
    """Batches of images on their way through the float network and through the one that is quantised."""

    exact: list[Tensor]
    quantised: list[Tensor]


def calibrate(
    network: QuantizedMobileNetV2,
    floats: dict[str, FloatLayer],
    grids: dict[Key, Grid],
    images: Tensor,
    track: Callable[[list[Any]], Iterable[Any]],
) -> None:
    """Fills the layers of the network; ``images`` are bytes (N, C, H, W), ``track`` shows how far it is."""
    spread = torch.linspace(0, len(images) - 1, min(len(images), CORRECTED_IMAGES)).long()
    batches = [*images[spread].split(BATCH)]
    passing = Passing([network.image_grid.real(batch) for batch in batches], batches)
    source = network.image_grid
    for name, layer in track([*network.named_layers()]):
        own, kind = floats[name], layer.layer.kind
        if kind != CLASSIFIER:
            layer.set_grid(grids[name, {"block": "project", HEAD: POOLED}.get(kind, "conv")])
        passing = passing._replace(quantised=[layer.convert(x, source) for x in passing.quantised])
        targets = {conv: grids.get((name, conv), LOGITS) for conv, _ in own.convolutions()}
        try:
            passing = _fill(layer, own, source, targets, passing)
        except ValueError as error:
            raise ValueError(f"quantize: {name}: {error}") from None
        if kind != CLASSIFIER:
            source = layer.grid


def _fill(
    layer: AnyLayer,
    own: FloatLayer,
    source: Grid,
    targets: dict[str, Grid],
    images: Passing,
) -> Passing:
    """Fills a layer that reads ``source`` and whose convolutions write ``targets``; the images behind it."""
    if isinstance(layer, FloatLayer):
        for name, conv in own.convolutions():
            layer.get_submodule(name).load_state_dict(conv.state_dict())
        return Passing([own(x) for x in images.exact], [layer(x) for x in images.quantised])
    if layer.layer.kind == CLASSIFIER:
        for name, linear in own.convolutions():
            weights = RoundedWeights.nearest(linear.weight, linear.bias, source)
            layer.convolution(name).fill(weights.onto(LOGITS)[0])
        return images
    if layer.layer.kind == "stem":
        layer.pad = source.pad
    passing = _fill_convolutions(layer, own, source, targets, images)
    if layer.layer.kind != HEAD:
        return passing
    layer.pool = (targets["conv"].scale[:1].double() / layer.scale[:1].double()).float()
    return Passing(
        [x.mean((2, 3)) for x in passing.exact], [average(x, layer.pool) for x in passing.quantised]
    )


def _fill_convolutions(
    layer: QuantizedLayer, own: FloatLayer, source: Grid, targets: dict[str, Grid], images: Passing
) -> Passing:
    passing, grid = images, source
    for name, conv in own.convolutions():
        adds = name == "project" and layer.layer.residual
        weights = RoundedWeights.nearest(conv.weight, conv.bias, grid, conv.depthwise)
        window: dict[str, Any] = {"stride": 1, "padding": NO_PADDING}
        if conv.slides:
            height, width = passing.exact[0].shape[2:]
            window = {"stride": layer.layer.stride, "padding": layer.layer.padding_for(height, width)}
            window |= {"depthwise": conv.depthwise, "pad": None if conv.depthwise else layer.pad}
        sums = [accumulate(x, weights.weight, **window) for x in passing.quantised]
        exact = [conv(x) for x in passing.exact]
        wanted = exact
        if adds:
            # The shortcut's own error is known, so that the project makes up for it, too.
            differences = (x - source.real(q) for x, q in zip(*images, strict=True))
            wanted = [y + each for y, each in zip(exact, differences, strict=True)]
        weights = corrected(weights, sums, wanted)
        convolution, shortcut = weights.onto(targets[name], source if adds else None)
        layer.convolution(name).fill(convolution)
        if shortcut is not None:
            layer.shortcut = shortcut
        passing, grid = Passing([], []), targets[name]
        for x, q in zip(*images, strict=True):
            # Taken out of their lists, which otherwise hold a gigabyte for longer than is needed.
            passing.exact.append(own.activate(name, exact.pop(0), x))
            passing.quantised.append(requantise(sums.pop(0), convolution, q, shortcut))
    return passing


def corrected(weights: RoundedWeights, sums: list[Tensor], wanted: list[Tensor]) -> RoundedWeights:
    """The weights with gain and bias of each channel such that results are nearest to those wanted.

    Rounded weights err by a mean where inputs are never negative, and means add up from layer to layer.
    ``sums`` are int32 (N, out, H, W), ``wanted`` float32 results without an activation.
    """
    totals = torch.zeros(4, len(weights.scale), dtype=torch.float64)
    count = 0
    for a, y in zip(sums, wanted, strict=True):
        a, y = (each.double().transpose(0, 1).flatten(1) for each in (a, y))
        totals += torch.stack([a.sum(1), y.sum(1), a.square().sum(1), (a * y).sum(1)])
        count += a.shape[1]
    mean, wanted_mean, square, product = totals / count
    variance = square - mean.square()
    covariance = product - mean * wanted_mean
    varies = variance > NO_VARIANCE * square
    gain = covariance / (weights.scale * variance.clamp(min=torch.finfo(torch.float64).tiny))
    gain = torch.where(varies, gain.clamp(LEAST_GAIN, MOST_GAIN), 1.0)
    scale = weights.scale * gain
    return replace(weights, scale=scale, bias=wanted_mean - scale * (mean - weights.zero_sum))
