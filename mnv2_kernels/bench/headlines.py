"""The paper's headline table on this machine: V1 1.0, V2 1.0 and V2 1.4 by torch and fused, in turn.

One thread and one image, as the paper has one big core of a phone. Accuracy is the paper's alone: no network
is trained here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from .. import shapes
from ..nn.mobilenet_v2 import FusedMobileNetV2
from ..nn.networks import eager_copy
from ..timing import interleaved_medians
from ..weights.sources import random_model, randomised
from .accuracy import require_right
from .mobilenet_v1 import MobileNetV1, V1Shape, mobilenet_v1
from .paper import HEADLINES
from .setting import random_images, torch_threads

SIZE = 224


@dataclass(frozen=True)
class HeadlineRow:
    """A network beside the paper's figures for it: medians in milliseconds, 224 x 224, float32.

    Eager is torch's layers in channels_last. Fused is V2 in one call, V1 in a call for each layer.
    """

    KIND: ClassVar[str] = "headlines"
    network: str
    threads: int
    parameters: int
    macs: int
    eager_ms: float
    fused_ms: float
    paper_top1: float
    paper_parameters: float
    paper_macs: float
    paper_ms: float


@dataclass(frozen=True)
class Network:
    """What is timed, and its shapes."""

    make: Callable[[], MobileNetV1 | FusedMobileNetV2]
    shape: V1Shape | shapes.NetworkShape


NETWORKS = {
    "V1 1.0": Network(lambda: randomised(MobileNetV1), mobilenet_v1(SIZE)),
    "V2 1.0": Network(lambda: random_model(1.0), shapes.mobilenet_v2(1.0, SIZE)),
    "V2 1.4": Network(lambda: random_model(1.4), shapes.mobilenet_v2(1.4, SIZE)),
}


def measure_headlines(rounds: int) -> list[HeadlineRow]:
    """A row for each network of the paper's table that can be run here, verified, then timed in turn.

    Raises WrongResultError where a fused network is wrong.
    """
    x = random_images(1, SIZE)
    with torch.inference_mode(), torch_threads(1):
        calls: dict[str, Callable[[], Tensor]] = {}
        for name, network in NETWORKS.items():
            model = network.make()
            eager, fused = eager_copy(model), model.deploy()
            require_right(f"{name}, fused,", fused(x), model, x)
            calls[f"{name} eager"] = partial(eager, x)
            calls[f"{name} fused"] = partial(fused, x)
        medians = interleaved_medians(calls, rounds)
    return [_row(name, network.shape, medians) for name, network in NETWORKS.items()]


def _row(name: str, shape: V1Shape | shapes.NetworkShape, medians: Mapping[str, float]) -> HeadlineRow:
    paper = HEADLINES[name]
    return HeadlineRow(
        network=name,
        threads=1,
        parameters=shape.parameters,
        macs=shape.macs,
        eager_ms=medians[f"{name} eager"],
        fused_ms=medians[f"{name} fused"],
        paper_top1=paper.top1,
        paper_parameters=paper.parameters,
        paper_macs=paper.macs,
        paper_ms=paper.ms,
    )
