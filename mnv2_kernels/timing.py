"""Wall-clock comparison of functions that do the same work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

WARM_UP_ROUNDS = 3


def interleaved_times(
    functions: Mapping[str, Callable[[], object]], rounds: int, pause_s: float = 0.0
) -> dict[str, list[float]]:
    """Times functions in turn, so that a machine that slows down slows all of them.

    Each is called ``rounds`` times, at least once, after the warm-up; in the ``pause_s`` seconds before each
    call the threads of the one before go to sleep. Returns the time of each call in milliseconds, by name.
    """
    for _ in range(WARM_UP_ROUNDS):
        for function in functions.values():
            function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            time.sleep(pause_s)
            start = time.perf_counter()
            function()
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def interleaved_medians(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median time of one call in milliseconds, by name; see interleaved_times."""
    return {name: median(times) for name, times in interleaved_times(functions, rounds).items()}
