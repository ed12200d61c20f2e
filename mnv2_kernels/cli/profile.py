"""A network layer by layer: how it is cut, how long it takes, and how near that is to the machine's limit."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from .. import _native
from ..bench.random_layers import pack_random
from ..bench.setting import random_images
from ..dtypes import dtype_name
from ..layer import layer_shapes
from ..networks import IMAGE_CHANNELS, layers_of
from ..nn.mobilenet_v2 import FusedMobileNetV2
from ..nn.networks import image_channels
from ..packing.packed_layers import PackedLayers
from ..packing.plans import describe_plan, layer_plans
from ..shapes import BlockShape, ClassifierShape, HeadShape, LayerShape, StemShape, describe

WARM_UP_ROUNDS = 3

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
    network = copy.deepcopy(model).to(dtype).deploy().network
    assert isinstance(network, PackedLayers)  # all of it is on the CPU
    return _profile(name, network, random_images(batch, size, image_channels(model)).to(dtype), rounds)


def profile_layers(network: str, size: int, batch: int, dtype: torch.dtype, rounds: int) -> Profile:
    """The same for one of networks.NETWORKS, with random weights."""
    packed = pack_random(layers_of(network), dtype)
    return _profile(network, packed, random_images(batch, size, IMAGE_CHANNELS).to(dtype), rounds)


def _profile(name: str, network: PackedLayers, x: Tensor, rounds: int) -> Profile:
    threads = torch.get_num_threads()
    seconds = median_seconds(network, x, rounds)
    peak = _native.measure_fma_peak()
    return Profile(
        weights=name,
        isa=_native.selected_isa(dtype_name(x.dtype)),
        dtype=dtype_name(x.dtype),
        batch=len(x),
        size=x.shape[-1],
        threads=threads,
        rounds=rounds,
        peak_gflops=peak,
        layers=tuple(profiled_layers(network, x, threads, seconds, peak)),
    )


def median_seconds(network: PackedLayers, x: Tensor, rounds: int) -> list[float]:
    """Of each layer of a chain, over some calls; 0 where it runs inside the next one."""
    with torch.inference_mode():
        runs = [
            torch.ops.mnv2.run_seconds(x, network.packed, layers=network.text)
            for _ in range(WARM_UP_ROUNDS + rounds)
        ]
    return torch.stack(runs[WARM_UP_ROUNDS:]).median(0).values.tolist()


def profiled_layers(
    network: PackedLayers, x: Tensor, threads: int, seconds: list[float], peak: float
) -> Iterator[LayerProfile]:
    """The kernel calls of a chain by the seconds of its layers."""
    images, used = (x[:1], 1) if len(x) >= threads else (x, threads)
    shapes = list(layer_shapes(network.layers, len(images), *x.shape[2:]))
    plans = layer_plans(network.packed, images, used)
    whole_batch = layer_plans(network.packed, x, threads)
    for index, layer in enumerate(network.layers):
        if layer.kind == "linear":
            shapes[index], plans[index] = layer.shape(len(x), 1, 1), whole_batch[index]
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
