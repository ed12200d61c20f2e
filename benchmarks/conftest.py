"""What the pytest-benchmark suites share: verified, timed with torch's threads, and what extra_info says.

pytest benchmarks --benchmark-only [-k quick]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from mnv2_kernels import _native
from mnv2_kernels.bench.results import instruction_sets
from mnv2_kernels.bench.setting import torch_threads

ALL_THREADS = torch.get_num_threads()
THREADS = tuple(dict.fromkeys((1, ALL_THREADS)))


@pytest.fixture(autouse=True, scope="session")
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """torch's, by a parameter."""
    with torch_threads(request.param):
        yield request.param


@cache
def peak_gflops() -> float:
    """A thread's, of float32 multiply-adds."""
    return _native.measure_fma_peak()


@pytest.fixture
def timed(benchmark: BenchmarkFixture) -> Callable[[Callable[[], object], int, int, int], None]:
    """Times a verified function: timed(function, macs, bytes it reads and writes, threads)."""

    def run(function: Callable[[], object], macs: int, bytes_moved: int, threads: int) -> None:
        benchmark(function)
        seconds = benchmark.stats.stats.min
        peak = peak_gflops() * threads
        benchmark.extra_info.update(
            macs=macs,
            bytes=bytes_moved,
            gflops=2e-9 * macs / seconds,
            gb_per_s=1e-9 * bytes_moved / seconds,
            share_of_peak=2e-9 * macs / seconds / peak,
            peak_gflops=peak,
            threads=threads,
            isa=instruction_sets(),
        )

    return run
