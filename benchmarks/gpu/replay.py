"""Times of runs over inputs that together exceed the second-level cache, by CUDA graphs or plain calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import quantiles

import torch
from torch import Tensor

WARM_UP_ROUNDS = 3
ROUNDS = 12
CACHES = 2  # that the inputs fill
MOST_INPUTS = 256
CALLS = 8  # a round, as eager takes milliseconds each


def input_count(bytes_of_one: int, cache_bytes: int) -> int:
    """How many inputs to rotate."""
    return min(max(-(-CACHES * cache_bytes // bytes_of_one), 2), MOST_INPUTS)


def rotated(x: Tensor) -> list[Tensor]:
    """Copies of x, enough to exceed its GPU's second-level cache."""
    cache_bytes = torch.cuda.get_device_properties(x.device).L2_cache_size
    return [x.clone() for _ in range(input_count(x.nbytes, cache_bytes))]


def capture(function: Callable[[Tensor], object], inputs: Sequence[Tensor]) -> torch.cuda.CUDAGraph:
    """A graph that runs the function on each input in turn."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_ROUNDS):
            function(inputs[0])
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for x in inputs:
            function(x)
    return graph


def replay_times(graphs: Mapping[str, torch.cuda.CUDAGraph], runs: int) -> dict[str, list[float]]:
    """Microseconds of one run of each graph's many, a graph after the other in every round."""
    return _times({name: graph.replay for name, graph in graphs.items()}, runs)


def call_times(
    functions: Mapping[str, Callable[[Tensor], object]], inputs: Sequence[Tensor]
) -> dict[str, list[float]]:
    """Microseconds of calls one after the other, as users make them: the longer of host's and GPU's work."""

    inputs = inputs[:CALLS]

    def calls(function: Callable[[Tensor], object]) -> None:
        for x in inputs:
            function(x)

    return _times({name: partial(calls, function) for name, function in functions.items()}, len(inputs))


def _times(runs_of: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in runs_of}
    for _ in range(WARM_UP_ROUNDS + ROUNDS):
        for name, run in runs_of.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            end.synchronize()
            times[name].append(begin.elapsed_time(end) * 1e3 / runs)
    return {name: each[WARM_UP_ROUNDS:] for name, each in times.items()}


def spread(times: Sequence[float], batch: int) -> dict[str, float]:
    """A row's columns of times."""
    lower, median, upper = quantiles(times, n=4, method="inclusive")
    return {
        "us": round(median, 3),
        "us_lower": round(lower, 3),
        "us_upper": round(upper, 3),
        "us_image": round(median / batch, 4),
        "images_per_s": round(batch * 1e6 / median),
    }


def obstacle(error: Exception) -> str:
    """Why a row has no times, in a line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
