"""A fused model's time: the layers of what runs fused, the modules that stay eager, and the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from ... import _native
from ...bench import BenchError
from ...bench.setting import random_images
from ...dropin.report import FusionReport
from ...dtypes import DtypeName
from ...nn.deploying import deploy
from ...packing.packed_layers import PackedLayers
from ...weights.models import Model, results
from ..profile import WARM_UP_ROUNDS, LayerProfile, Profile, median_seconds, profiled_layers


@dataclass(frozen=True)
class EagerProfile:
    """A module that torch runs; ``ms`` is the median of its time in a call of the model."""

    name: str
    kind: str
    ms: float


@dataclass(frozen=True)
class ModelProfile(Profile):
    """``layers``: those of all pieces that run fused, which take ``fused_ms`` of the ``call_ms`` of a call.

    What neither these nor ``eager_modules`` take, functions between modules do.
    """

    call_ms: float
    fused_ms: float
    eager_modules: tuple[EagerProfile, ...]
    report: FusionReport

    @property
    def eager_ms(self) -> float:
        return sum(each.ms for each in self.eager_modules)


@torch.inference_mode()
def profile_model(model: Model, batch: int, dtype: DtypeName, rounds: int) -> ModelProfile:
    """Times a deployed copy on random images, with torch's threads.

    Raises BenchError where there can be none.
    """
    try:
        network = deploy(deepcopy(model.fused).to(getattr(torch, dtype))).network
    except RuntimeError as error:
        raise BenchError(f"{model.name}: {error}") from error
    x = random_images(batch, model.size).to(getattr(torch, dtype))
    leaves = {name: each for name, each in network.named_modules() if not any(each.children())}
    with _inputs(leaves) as inputs:
        results(network, x)
    called = {name: leaves[name] for name in inputs}
    call_ms, times = _times(network, x, called, rounds)
    peak, threads = _native.measure_fma_peak(), torch.get_num_threads()
    fused = {name: each for name, each in called.items() if isinstance(each, PackedLayers)}
    layers: list[LayerProfile] = []
    for name, piece in fused.items():
        seconds = median_seconds(piece, inputs[name], rounds)
        layers += profiled_layers(piece, inputs[name], threads, seconds, peak)
    return ModelProfile(
        weights=model.name,
        isa=_native.selected_isa(dtype),
        dtype=dtype,
        batch=batch,
        size=model.size,
        threads=threads,
        rounds=rounds,
        peak_gflops=peak,
        layers=tuple(layers),
        call_ms=call_ms,
        fused_ms=sum(times[name] for name in fused),
        eager_modules=tuple(
            EagerProfile(name, type(each).__name__, times[name])
            for name, each in called.items()
            if name not in fused
        ),
        report=model.report,
    )


@contextmanager
def _inputs(leaves: dict[str, nn.Module]) -> Iterator[dict[str, Any]]:
    """The first argument of modules, by their names in the order of their first calls."""
    seen: dict[str, Any] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            seen.setdefault(name, *args[:1])

        return hook

    hooks = [each.register_forward_pre_hook(note(name)) for name, each in leaves.items()]
    yield seen
    for hook in hooks:
        hook.remove()


def _times(
    network: nn.Module, x: Tensor, leaves: dict[str, nn.Module], rounds: int
) -> tuple[float, dict[str, float]]:
    """Medians in milliseconds: of a call, and of all calls of a module in it."""
    calls: list[float] = []
    in_modules: list[dict[str, float]] = []
    for _ in range(WARM_UP_ROUNDS + rounds):
        began = time.perf_counter()
        results(network, x)
        calls.append(time.perf_counter() - began)
        with _stopwatch(leaves) as seconds:
            results(network, x)
        in_modules.append(seconds)
    counted = in_modules[WARM_UP_ROUNDS:]
    times = {name: median(each[name] for each in counted) * 1e3 for name in leaves}
    return median(calls[WARM_UP_ROUNDS:]) * 1e3, times


@contextmanager
def _stopwatch(leaves: dict[str, nn.Module]) -> Iterator[dict[str, float]]:
    seconds = dict.fromkeys(leaves, 0.0)

    def start(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            seconds[name] -= time.perf_counter()

        return hook

    def stop(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            seconds[name] += time.perf_counter()

        return hook

    hooks = [each.register_forward_pre_hook(start(name)) for name, each in leaves.items()]
    hooks += [each.register_forward_hook(stop(name)) for name, each in leaves.items()]
    yield seconds
    for hook in hooks:
        hook.remove()
