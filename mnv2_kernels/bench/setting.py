"""What a network is timed on, and what every comparison does around it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import quantiles

import torch
from torch import Tensor

# Threads that wait for more work keep a core busy for a while (libgomp's for 6 ms): nobody is to be timed in
# that while.
PAUSE_S = 0.01

INPUT_SEED = 0


@dataclass(frozen=True)
class Setting:
    """Images of size x size, ``batch`` at a time, by a network of one width."""

    dtype: str
    threads: int
    batch: int
    size: int = 224
    width: float = 1.0
    device: str = "cpu"

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def pause_s(self) -> float:
        return PAUSE_S if self.threads > 1 else 0.0

    @property
    def call(self) -> str:
        """Where one runs, and on how many images."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{threads if self.device == 'cpu' else self.device}, batch {self.batch}"

    @property
    def brief(self) -> str:
        """Without the network's width and the images' size."""
        return f"{self.dtype}, {self.call}"

    def __str__(self) -> str:
        return f"width {self.width:g}, {self.size} x {self.size}, {self.brief}"


@dataclass(frozen=True)
class Spread:
    """Median, quartiles and best of some times."""

    median: float
    lower: float
    upper: float
    best: float

    def __str__(self) -> str:
        """The distance of the quartiles, of the median."""
        return f"{(self.upper - self.lower) / self.median:.0%}"

    @classmethod
    def of(cls, times: Sequence[float], per: int = 1) -> Spread:
        """Of the times of calls, each divided by ``per`` images."""
        if len(times) == 1:
            return cls(*4 * (times[0] / per,))
        lower, middle, upper = (time / per for time in quantiles(times, n=4, method="inclusive"))
        return cls(middle, lower, upper, min(times) / per)


def random_images(batch: int, size: int, channels: int = 3) -> Tensor:
    """Always the same ones, float32: (batch, channels, size, size)."""
    generator = torch.Generator().manual_seed(INPUT_SEED)
    return torch.randn(batch, channels, size, size, generator=generator)


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def silence() -> Iterator[None]:
    """Sends what libraries print, from C++ as well, nowhere."""
    with tempfile.TemporaryFile() as nowhere:
        streams = [stream for stream in (sys.stdout, sys.stderr) if stream is not None]
        for stream in streams:
            stream.flush()
        saved = [(number, os.dup(number)) for number in (1, 2)]
        try:
            for number, _ in saved:
                os.dup2(nowhere.fileno(), number)
            yield
        finally:
            for stream in streams:
                stream.flush()
            for number, copy in saved:
                os.dup2(copy, number)
                os.close(copy)
