"""Every part of a network, fused against eager and against float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from math import inf, isfinite, isnan
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import _native
from ..accuracy import EAGER_FACTOR, MINIMUM_INPUTS, largest_allowed_error
from ..bench.setting import random_images, torch_threads
from ..dtypes import DtypeName
from ..fusion.eager_layers import global_average_pool
from ..nn.mobilenet_v2 import FusedMobileNetV2
from ..nn.networks import eager_copy, image_channels, network_shape
from ..shapes import describe
from ..weights.photos import load_photos
from ..weights.sources import Network


@dataclass(frozen=True)
class PartResult:
    """The largest errors of one part of the network against float64, and the largest that is allowed."""

    name: str
    shape: str
    fused_error: float
    eager_error: float
    ratio: float
    allowed_error: float
    passed: bool


@dataclass(frozen=True)
class Verification:
    """Everything `mnv2 verify` shows."""

    weights: str
    dtype: str
    batch: int
    inputs: int
    photos: int
    isa: str
    threads: int
    eager_factor: float
    parts: tuple[PartResult, ...]

    @property
    def passed(self) -> bool:
        return all(part.passed for part in self.parts)

    def as_json(self) -> dict[str, object]:
        """A dictionary that json can write."""
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True)
class Part:
    """One part as functions of the same input: fused, eager, exact."""

    name: str
    shape: str
    fused: Callable[[Tensor], Tensor]
    eager: Callable[[Tensor], Tensor]
    exact: Callable[[Tensor], Tensor]


@torch.no_grad()
def verify_network(
    network: Network, photos: Sequence[Path], dtype: DtypeName = "float32", batch: int = 1
) -> Verification:
    """Compares stem, blocks, head and the whole network, each part on what the eager network feeds it.

    Random images make up for fewer than eight photographs, and fill the last batch. Raises PhotoError where
    a photograph cannot be read, WeightsError where the network's images are none, NotFusable where a part of
    it has no kernel.
    """
    images = _images(network, photos, batch).to(getattr(torch, dtype))
    model = deepcopy(network.model).to(images.dtype)
    return Verification(
        weights=network.name,
        dtype=dtype,
        batch=batch,
        inputs=len(images),
        photos=len(photos),
        isa=_native.selected_isa(dtype),
        threads=torch.get_num_threads(),
        eager_factor=EAGER_FACTOR,
        parts=tuple(compare_parts(model, images.split(batch))),
    )


def _images(network: Network, photos: Sequence[Path], batch: int) -> Tensor:
    if photos:
        network.check_takes_photos()
    settings = network.settings
    inputs = -(-max(len(photos), MINIMUM_INPUTS) // batch) * batch
    noise = random_images(inputs - len(photos), settings.size, image_channels(network.model))
    return torch.cat([load_photos(photos, settings.size, settings.preprocess), noise]) if photos else noise


def compare_parts(model: FusedMobileNetV2, batches: Sequence[Tensor]) -> Iterator[PartResult]:
    """Stem, blocks, head and the whole network, each on what the eager network makes of square images."""
    *chain, whole = _parts(model, batches[0].shape[-1])
    inputs = batches
    for part in chain:
        outputs = [part.eager(x) for x in inputs]
        yield compare_part(part, inputs, outputs)
        inputs = outputs
    yield compare_part(whole, batches, [whole.eager(x) for x in batches])


def _parts(model: FusedMobileNetV2, size: int) -> list[Part]:
    eager = eager_copy(model)
    exact = eager_copy(model).double()
    shape = network_shape(model, size)
    fused: Iterable[Any] = model.features
    *inner, heads = zip(fused, eager.features, exact.features, strict=True)
    parts = [
        Part(f"features.{index}", describe(layer), *modules)
        for index, (layer, modules) in enumerate(zip(shape.layers, inner, strict=False))
    ]
    fused_head, *others = heads
    name = f"features.{len(inner)}, pool"
    parts.append(Part(name, describe(shape.head), fused_head.pooled, *map(_pooled, others)))
    parts.append(Part("network", f"{size}x{size} to logits", model, eager, exact))
    return parts


def _pooled(head: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: global_average_pool(head(x))


def compare_part(part: Part, inputs: Sequence[Tensor], eager_outputs: Sequence[Tensor]) -> PartResult:
    """The largest errors over all inputs, by the accuracy rule."""
    fused_error = eager_error = largest_value = 0.0
    for x, eager_output in zip(inputs, eager_outputs, strict=True):
        # In torch's float64 convolution threads meet at every group: two can be 20 times slower than one.
        with torch_threads(1):
            truth = part.exact(x.double())
        fused_error = max(fused_error, _error(part.fused(x), truth))
        eager_error = max(eager_error, _error(eager_output, truth))
        largest_value = max(largest_value, truth.abs().max().item())
    ratio = _ratio(fused_error, eager_error)
    allowed = largest_allowed_error(eager_error, largest_value, inputs[0].dtype)
    passed = isfinite(fused_error) and fused_error <= allowed
    return PartResult(part.name, part.shape, fused_error, eager_error, ratio, allowed, passed)


def _ratio(fused_error: float, eager_error: float) -> float:
    if eager_error:
        return fused_error / eager_error
    return inf if fused_error else 0.0


def _error(actual: Tensor, truth: Tensor) -> float:
    # A NaN that only one of the two has is an error without bound; max() alone would drop it.
    difference = (actual.double() - truth).abs().max().item()
    return inf if isnan(difference) else difference
