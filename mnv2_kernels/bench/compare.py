"""`mnv2 bench`: the whole network by every peer, verified, then timed in turn in one process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, ClassVar

import torch
from torch import Tensor

from .. import _native
from ..timing import interleaved_times
from ..weights.models import Model
from ..weights.sources import Int8Network, Network
from . import BenchError
from .accuracy import is_right, relative_error
from .peers import FUSED, INT8, Function, Peer
from .setting import Setting, Spread, silence, torch_threads
from .subject import OfModel, Subject, Trained, Unsupported, WellKnown

# A call of a large batch takes long, and varies less.
FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class PeerRow:
    """One peer in one setting; times are of an image, in milliseconds, and None where it was not timed.

    ``accuracy`` is what it computes in, ``error`` the largest of a logit over the largest logit, against
    float64. ``sqnr``: where that is int8, what it keeps of the float network's logits on photographs that
    did not calibrate it, in dB. ``ratio`` is its median over the fused network's; ``share`` is the best
    call's of the measured peak of multiply-adds (``peak_gflops``, all threads) in float32, or in int8 where
    it computes in that; None where in 16 bits or on a GPU. ``obstacle`` says why there is no time;
    ``wrong``, that the error is too large for its accuracy.
    """

    KIND: ClassVar[str] = "peers"

    peer: str
    title: str
    dtype: str
    threads: int
    batch: int
    size: int
    width: float
    device: str
    accuracy: str
    peak_gflops: float
    weights: str
    error: float | None = None
    sqnr: float | None = None
    wrong: bool = False
    obstacle: str | None = None
    median_ms: float | None = None
    lower_quartile_ms: float | None = None
    upper_quartile_ms: float | None = None
    best_ms: float | None = None
    images_per_s: float | None = None
    ratio: float | None = None
    share: float | None = None

    @property
    def spread(self) -> Spread | None:
        """None where it was not timed."""
        times = (self.median_ms, self.lower_quartile_ms, self.upper_quartile_ms, self.best_ms)
        known = [time for time in times if time is not None]
        return Spread(*known) if len(known) == len(times) else None

    @property
    def plain_title(self) -> str:
        """For what is not Markdown."""
        return self.title.replace("`", "")

    @property
    def setting(self) -> Setting:
        return Setting(self.dtype, self.threads, self.batch, self.size, self.width, self.device)


def standard_settings(threads: int, size: int, width: float, device: str) -> list[Setting]:
    """What the README shows: one thread and all of them, one image and many, and bfloat16."""
    chosen = (
        ("float32", 1, 1),
        ("float32", 1, 8),
        ("float32", threads, 1),
        ("float32", threads, 32),
        ("bfloat16", 1, 1),
    )
    return [Setting(*each, size, width, device) for each in dict.fromkeys(chosen)]


def chosen_settings(
    dtypes: Sequence[str],
    threads: Sequence[int],
    batches: Sequence[int],
    size: int,
    width: float,
    device: str,
) -> list[Setting]:
    """Every dtype with every number of threads with every batch."""
    return [Setting(*each, size, width, device) for each in product(dtypes, threads, batches)]


def compare(
    settings: Sequence[Setting],
    peers: Sequence[Peer],
    rounds: int,
    named: bool = False,
    network: Network | None = None,
    int8: Int8Network | None = None,
    well_known: str | None = None,
    model: Model | None = None,
) -> Iterator[list[PeerRow]]:
    """The rows of each setting, in the order of the peers.

    Each peer has ``rounds`` timed calls, fewer with large batches. ``named``: somebody asked for just these
    peers, so that one that fails is an error. ``network`` and ``int8``: what to time instead of the usual
    weights; ``well_known``: one of networks.NETWORKS, instead; or ``model``, in its own size. Raises
    BenchError for an error of a named peer, and where torchvision or timm is missing.
    """
    trained: dict[tuple[float, int], Trained] = {}
    subjects: dict[tuple[float, int, int], Subject] = {}
    for setting in settings:
        size = (setting.width, setting.size)
        key = (*size, setting.batch)
        if size not in trained:
            if model is not None:
                trained[size] = OfModel(model)
            elif well_known is not None:
                trained[size] = WellKnown(well_known, setting.size)
            else:
                trained[size] = Trained(*size, network, int8)
        if key not in subjects:
            subjects[key] = Subject(*key, trained[size])
        with torch.no_grad(), torch_threads(setting.threads):
            yield _compare(subjects[key], setting, peers, max(rounds // setting.batch, FEWEST_ROUNDS), named)


def _compare(
    subject: Subject, setting: Setting, peers: Sequence[Peer], rounds: int, named: bool
) -> list[PeerRow]:
    peaks = {"float32": _native.measure_fma_peak(), INT8: _native.measure_dot_peak()}
    x = subject.input_for(setting)
    rows: list[PeerRow] = []
    calls: dict[str, Callable[[], object]] = {}
    for peer in peers:
        accuracy = peer.accuracy or setting.dtype
        peak = peaks.get(accuracy, peaks["float32"]) * setting.threads
        weights = subject.trained.weights
        row = PeerRow(
            peer.name, peer.title, **vars(setting), accuracy=accuracy, peak_gflops=peak, weights=weights
        )
        made = _make(peer, subject, setting, x, named)
        if isinstance(made, str):
            row = replace(row, obstacle=made)
        else:
            row = _verified(row, made(x), subject.expected)
            if accuracy == INT8 and not row.wrong and len(subject.trained.photos) > 1:
                kept = subject.trained.agreement(made, setting.batch)
                row = replace(row, sqnr=kept.sqnr)
            if not row.wrong:
                calls[peer.name] = _call(made, x, setting)
        rows.append(row)
    times = interleaved_times(calls, rounds, setting.pause_s)
    spreads = {name: Spread.of(values, per=setting.batch) for name, values in times.items()}
    macs = subject.trained.macs
    return [
        _timed(row, spreads[row.peer], spreads.get(FUSED), macs) if row.peer in spreads else row
        for row in rows
    ]


def _make(peer: Peer, subject: Subject, setting: Setting, x: Tensor, named: bool) -> Function | str:
    """The peer's function after its first call, or why there is none."""
    if obstacle := peer.obstacle(setting):
        return obstacle
    if peer.name == FUSED:
        return peer.make(subject, setting)
    try:
        with silence():
            function = peer.make(subject, setting)
            function(x)
    except Unsupported as reason:
        return str(reason)
    except Exception as error:  # whatever a library fails with
        failure = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        if named:
            raise BenchError(f"peer {peer.name!r}, {setting}: {failure}") from error
        return f"failed: {failure}"
    return function


def _verified(row: PeerRow, y: Any, expected: Tensor) -> PeerRow:
    error = relative_error(y, expected)
    is_wrong = not is_right(error, row.accuracy)
    if not math.isfinite(error):
        return replace(row, wrong=True, obstacle="wrong: logits are not finite")
    obstacle = f"wrong: off by {error:.2g} of the largest logit" if is_wrong else None
    return replace(row, error=error, wrong=is_wrong, obstacle=obstacle)


def _call(function: Function, x: Tensor, setting: Setting) -> Callable[[], object]:
    if setting.device == "cpu":
        return partial(function, x)

    def call() -> None:
        function(x)
        torch.cuda.synchronize()

    return call


def _timed(row: PeerRow, spread: Spread, fused: Spread | None, macs: int) -> PeerRow:
    has_peak = row.device == "cpu" and row.accuracy in ("float32", INT8)
    return replace(
        row,
        median_ms=spread.median,
        lower_quartile_ms=spread.lower,
        upper_quartile_ms=spread.upper,
        best_ms=spread.best,
        images_per_s=1e3 / spread.median,
        ratio=spread.median / fused.median if fused else None,
        share=2e-6 * macs / spread.best / row.peak_gflops if has_peak else None,
    )
