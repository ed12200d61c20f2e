"""An int8 network layer by layer: times, and the share of the peak of products of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ... import _native
from ...layer import layer_shapes
from ...packing.packed_layers import PackedLayers
from ...shapes import LayerShape, describe
from ...weights.checkpoints import WeightsError
from ...weights.sources import Int8Network
from ..profile import KINDS, median_seconds

SEED = 0


@dataclass(frozen=True)
class Int8LayerProfile:
    """One kernel call: a layer, or a stem with the block behind it.

    ``shape`` is the last one's, ``ms`` a median, ``gops`` counts two operations a multiply-accumulate,
    ``share`` is that of the peak of the threads that work on it.
    """

    kind: str
    shape: str
    ms: float
    gops: float
    share: float


@dataclass(frozen=True)
class Int8Profile:
    """All layers; ``peak_gops`` is a thread's, measured in the same run.

    Where there are as many images as threads or more, each thread takes whole images: the times are then
    those of one image by one thread.
    """

    weights: str
    isa: str
    batch: int
    size: int
    threads: int
    rounds: int
    peak_gops: float
    layers: tuple[Int8LayerProfile, ...]

    @property
    def share(self) -> float:
        """Of the peak, over all layers."""
        return sum(layer.share * layer.ms for layer in self.layers) / sum(layer.ms for layer in self.layers)

    def as_json(self) -> dict[str, object]:
        """A dictionary that json can write."""
        return {**asdict(self), "share": self.share}


def profile_int8(network: Int8Network, batch: int, rounds: int) -> Int8Profile:
    """Times every layer on random bytes, with torch's threads.

    Raises WeightsError where a layer is kept in float: torch's own functions run it, one by one.
    """
    chain = network.model.packed_chain()
    if chain is None:
        kept = [name for name, layer in network.model.named_layers() if layer.is_float]
        raise WeightsError(f"{network.name}: profile times int8 layers, and {', '.join(kept)} are in float")
    size, threads = network.settings.size, torch.get_num_threads()
    generator = torch.Generator().manual_seed(SEED)
    shape = (batch, network.layers[0].in_channels, size, size)
    x = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    seconds = median_seconds(chain, x, rounds)
    peak = _native.measure_dot_peak()
    return Int8Profile(
        weights=network.name,
        isa=_native.selected_int8_isa(),
        batch=batch,
        size=size,
        threads=threads,
        rounds=rounds,
        peak_gops=peak,
        layers=tuple(_layers(chain, x, threads, seconds, peak)),
    )


def _layers(
    chain: PackedLayers, x: Tensor, threads: int, seconds: list[float], peak: float
) -> Iterator[Int8LayerProfile]:
    workers = 1 if len(x) >= threads else threads
    joined: list[LayerShape] = []
    for shape, time in zip(layer_shapes(chain.layers, 1, *x.shape[2:]), seconds, strict=True):
        joined.append(shape)
        if time == 0:  # it runs inside the next one
            continue
        gops = 2e-9 * sum(each.macs for each in joined) / time
        kind = " + ".join(KINDS[type(each)] for each in joined)
        yield Int8LayerProfile(kind, describe(shape), time * 1e3, gops, gops / (peak * workers))
        joined = []
