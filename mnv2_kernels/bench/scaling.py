"""How the fused network's time grows: an image's by batch, resolution and width, a call's by threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import shapes
from ..nn.mobilenet_v2 import FusedMobileNetV2
from ..timing import interleaved_times
from ..weights.sources import random_model
from .accuracy import require_right
from .setting import Setting, Spread, random_images, torch_threads

BATCHES = (1, 2, 4, 8, 16, 32)
SIZES = (96, 128, 160, 192, 224, 320, 512)
WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.4)
# With more threads: one image, whose layers they share, and many, which they take one by one.
THREADED_BATCHES = (1, 32)
BASE = Setting("float32", threads=1, batch=1)

# From this size on, a multiply-accumulate is to take as long as BASE's, within this share.
FLAT_FROM = 128
FLAT_SHARE = 0.15


@dataclass(frozen=True)
class ScalingRow:
    """One setting of the deployed float32 network; ``macs`` and the times in milliseconds are of an image."""

    KIND: ClassVar[str] = "scaling"
    threads: int
    batch: int
    size: int
    width: float
    macs: int
    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float
    best_ms: float

    @property
    def ps_per_mac(self) -> float:
        """Of the best call: other work on the machine delays some settings more than others."""
        return 1e9 * self.best_ms / self.macs

    @property
    def spread(self) -> Spread:
        return Spread(self.median_ms, self.lower_quartile_ms, self.upper_quartile_ms, self.best_ms)

    @property
    def setting(self) -> Setting:
        return Setting(BASE.dtype, self.threads, self.batch, self.size, self.width)


def base_row(rows: Sequence[ScalingRow]) -> ScalingRow:
    """What the others are compared with: width 1, 224 x 224, one image, one thread."""
    return next(row for row in rows if row.setting == BASE)


def has_to_be_flat(row: ScalingRow) -> bool:
    """Whether its multiply-accumulates are to take as long as the base's."""
    return row.threads == BASE.threads and row.size >= FLAT_FROM


def is_flat(row: ScalingRow, base: ScalingRow) -> bool:
    """Whether they do."""
    return abs(row.ps_per_mac / base.ps_per_mac - 1) <= FLAT_SHARE


def measure_scaling(rounds: int, all_threads: int) -> Iterator[ScalingRow]:
    """Rows of one thread by batch, size and width, then of more threads; those of equal threads in turn.

    Raises WrongResultError where a network is wrong.
    """
    with torch.inference_mode():
        for threads in threads_up_to(all_threads):
            yield from _measure(_settings(threads), threads, rounds)


def threads_up_to(all_threads: int) -> list[int]:
    """1, 2, 4 and so on, and all."""
    powers = (1 << power for power in range(all_threads.bit_length()))
    return [*dict.fromkeys((*powers, all_threads))]


def _settings(threads: int) -> list[Setting]:
    if threads > 1:
        return [replace(BASE, threads=threads, batch=batch) for batch in THREADED_BATCHES]
    by_batch = (replace(BASE, batch=batch) for batch in BATCHES)
    by_size = (replace(BASE, size=size) for size in SIZES)
    by_width = (replace(BASE, width=width) for width in WIDTHS)
    return [*dict.fromkeys((*by_batch, *by_size, *by_width))]


def _measure(settings: Sequence[Setting], threads: int, rounds: int) -> Iterator[ScalingRow]:
    with torch_threads(threads):
        calls = {str(setting): _verified_call(setting) for setting in settings}
        times = interleaved_times(calls, rounds, settings[0].pause_s)
    for setting in settings:
        spread = Spread.of(times[str(setting)], per=setting.batch)
        yield ScalingRow(
            threads=setting.threads,
            batch=setting.batch,
            size=setting.size,
            width=setting.width,
            macs=shapes.mobilenet_v2(setting.width, setting.size).macs,
            median_ms=spread.median,
            lower_quartile_ms=spread.lower,
            upper_quartile_ms=spread.upper,
            best_ms=spread.best,
        )


def _verified_call(setting: Setting) -> Callable[[], Tensor]:
    """The network on its input; the first image stands for all, whose bits depend on no other."""
    model, deployed = _network(setting.width)
    x = random_images(setting.batch, setting.size)
    require_right(f"fused, {setting},", deployed(x)[:1], model, x[:1])
    return lambda: deployed(x)


@cache
def _network(width: float) -> tuple[FusedMobileNetV2, nn.Module]:
    model = random_model(width)
    return model, model.deploy()
