"""A network layer by layer: how it is cut, how long it takes, and how near that is to the machine's limit."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from . import _native
from .fusion import PackedOperator
from .modules import FusedMobileNetV2
from .networks import image_channels
from .ops import dtype_name
from .packed_network import layer_plans, layer_shapes
from .shapes import BlockShape, ClassifierShape, HeadShape, LayerShape, StemShape, describe

WARM_UP_ROUNDS = 3
RANDOM_SEED = 0

KINDS = {StemShape: "stem", BlockShape: "block", HeadShape: "head", ClassifierShape: "linear"}


@dataclass(frozen=True)
class LayerProfile:
    """One kernel call: a layer, or a stem with the block behind it.

    ``shape`` is the last one's, ``ms`` a median, ``gflops`` counts two operations a multiply-accumulate,
    ``share`` is that of the peak of the threads that work on it, ``scratch_bytes`` are a thread's.
    """

    kind: str
    shape: str
    plan: str
    ms: float
    gflops: float
    share: float
    scratch_bytes: int


@dataclass(frozen=True)
class Profile:
    """All layers; ``peak_gflops`` is a thread's, measured in the same run.

    Where there are as many images as threads or more, each thread takes whole images: the times are then
    those of one image by one thread, the linear layer's those of the batch by all threads.
    """

    weights: str
    isa: str
    dtype: str
    batch: int
    size: int
    threads: int
    rounds: int
    peak_gflops: float
    layers: tuple[LayerProfile, ...]

    @property
    def share(self) -> float:
        """Of the peak, over all layers."""
        return sum(layer.share * layer.ms for layer in self.layers) / sum(layer.ms for layer in self.layers)

    def as_json(self) -> dict[str, object]:
        """A dictionary that json can write."""
        return {**asdict(self), "share": self.share}


def profile_network(
    name: str, model: FusedMobileNetV2, size: int, batch: int, dtype: torch.dtype, rounds: int
) -> Profile:
    """Times every layer of the deployed network on random images, with torch's threads.

    Raises RuntimeError where a part of the network has no kernel.
    """
    threads = torch.get_num_threads()
    network: PackedOperator = copy.deepcopy(model).to(dtype).deploy().network
    generator = torch.Generator().manual_seed(RANDOM_SEED)
    x = torch.randn(batch, image_channels(model), size, size, generator=generator).to(dtype)
    seconds = _median_seconds(network, x, rounds)
    peak = _native.measure_fma_peak()
    return Profile(
        weights=name,
        isa=_native.selected_isa(dtype_name(dtype)),
        dtype=dtype_name(dtype),
        batch=batch,
        size=size,
        threads=threads,
        rounds=rounds,
        peak_gflops=peak,
        layers=tuple(_layers(network.packed, x, threads, seconds, peak)),
    )


def _median_seconds(network: PackedOperator, x: Tensor, rounds: int) -> list[float]:
    with torch.inference_mode():
        runs = [
            torch.ops.mnv2.network_seconds(x, network.packed, **network.options)
            for _ in range(WARM_UP_ROUNDS + rounds)
        ]
    return torch.stack(runs[WARM_UP_ROUNDS:]).median(0).values.tolist()


def _layers(
    packed: Tensor, x: Tensor, threads: int, seconds: list[float], peak: float
) -> Iterator[LayerProfile]:
    images, used = (x[:1], 1) if len(x) >= threads else (x, threads)
    shapes, plans = layer_shapes(packed, images), layer_plans(packed, images, used)
    if isinstance(shapes[-1], ClassifierShape):
        shapes[-1], plans[-1] = layer_shapes(packed, x)[-1], layer_plans(packed, x, threads)[-1]
    joined: list[LayerShape] = []
    scratch_bytes = 0
    for shape, plan, time in zip(shapes, plans, seconds, strict=True):
        joined.append(shape)
        scratch_bytes += plan["scratch_bytes"]
        if time == 0:  # it runs inside the next one
            continue
        workers = threads if isinstance(shape, ClassifierShape) else used
        gflops = 2e-9 * sum(each.macs for each in joined) / time
        yield LayerProfile(
            kind=" + ".join(KINDS[type(each)] for each in joined),
            shape=describe(shape),
            plan=describe_plan(plan),
            ms=time * 1e3,
            gflops=gflops,
            share=gflops / (peak * workers),
            scratch_bytes=scratch_bytes,
        )
        joined, scratch_bytes = [], 0


def describe_plan(plan: dict[str, Any]) -> str:
    """``14 rows x 32``: 32 expanded channels at a time; ``4 rows, ring``: all, and strips share rows."""
    parts = []
    if "strip_rows" in plan:
        rows = f"{plan['strip_rows']} rows"
        parts.append(f"{rows}, ring" if plan["shares_rows"] else f"{rows} x {plan['chunk_channels']}")
    if plan["segments"] > 1:
        by_channels = plan.get("splits_channels", "strip_rows" not in plan)
        parts.append(f"{plan['segments']} by {'channels' if by_channels else 'rows'}")
    return ", ".join(parts)
