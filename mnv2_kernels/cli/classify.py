"""The main job: photographs through the fused network and the eager one, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import _native
from ..nn.networks import eager_copy, network_shape
from ..timing import interleaved_medians
from ..weights import expected
from ..weights.photos import load_photo
from ..weights.settings import Settings
from ..weights.sources import Network

TOP = 5
ROUNDS = 21

# Two float32 networks that sum in another order differ by some 1e-6 of the largest logit; 1e-3 is a defect.
AGREEMENT = 1e-3


@dataclass(frozen=True)
class Guess:
    """One class of a photograph's top five, by the fused network's logits."""

    index: int
    label: str
    probability: float
    logit: float
    eager_logit: float


@dataclass(frozen=True)
class PhotoResult:
    """One photograph; `agrees` says whether all logits of fused and eager do."""

    photo: str
    top: tuple[Guess, ...]
    largest_difference: float
    agrees: bool


@dataclass(frozen=True)
class Comparison:
    """Top-five logits against an expected.json."""

    file: str
    logits: int
    largest_deviation: float
    tolerance: float
    agrees: bool


@dataclass(frozen=True)
class Timing:
    """Medians of interleaved rounds, one photograph at a time."""

    rounds: int
    fused_ms: float
    eager_ms: float
    speedup: float


@dataclass(frozen=True)
class Classification:
    """Everything `mnv2 classify` shows; without a timing where the two networks disagree."""

    weights: str
    classes: int
    padding: str
    preprocess: str
    size: int
    eps: float
    isa: str
    threads: int
    photos: tuple[PhotoResult, ...]
    largest_difference: float
    agrees: bool
    expected: Comparison | None
    timing: Timing | None
    expanded_bytes: int

    @property
    def passed(self) -> bool:
        return self.agrees and (self.expected is None or self.expected.agrees)

    def as_json(self) -> dict[str, object]:
        """A dictionary that json can write."""
        return {**asdict(self), "passed": self.passed}


@torch.inference_mode()
def classify_photos(network: Network, photos: Sequence[Path]) -> Classification:
    """Runs photographs, at least one, through the fused network and its eager copy; times both if they agree.

    Raises PhotoError where one cannot be read, WeightsError where the network's images are no photographs.
    """
    network.check_takes_photos()
    settings = network.settings
    eager = eager_copy(network.model)
    images = [_input(photo, settings) for photo in photos]
    fused_logits = [network.model(image)[0] for image in images]
    eager_logits = [eager(image)[0] for image in images]
    results = tuple(map(partial(photo_result, network.labels), photos, fused_logits, eager_logits))
    agrees = all(result.agrees for result in results)
    return Classification(
        weights=network.name,
        classes=len(network.labels),
        padding=settings.padding,
        preprocess=settings.preprocess,
        size=settings.size,
        eps=settings.eps,
        isa=_native.selected_isa(),
        threads=torch.get_num_threads(),
        photos=results,
        largest_difference=largest(result.largest_difference for result in results),
        agrees=agrees,
        expected=_compare(network, photos, fused_logits),
        timing=time_both(network.model, eager, images) if agrees else None,
        expanded_bytes=network_shape(network.model, settings.size).expanded_bytes(torch.float32),
    )


def _input(photo: Path, settings: Settings) -> Tensor:
    image = load_photo(photo, settings.size, settings.preprocess)
    return image[None].contiguous(memory_format=torch.channels_last)


def photo_result(labels: Sequence[str], photo: Path, fused: Tensor, eager: Tensor) -> PhotoResult:
    """The top five of a photograph's logits (classes,)."""
    indices = fused.topk(min(TOP, len(fused))).indices.tolist()
    values = (tensor[indices].tolist() for tensor in (fused.softmax(0), fused, eager))
    top = tuple(map(Guess, indices, [labels[index] for index in indices], *values))
    difference = (fused - eager).abs().max().item()
    allowed = AGREEMENT * max(1.0, eager.abs().max().item())
    return PhotoResult(str(photo), top, difference, difference <= allowed)


def _compare(network: Network, photos: Sequence[Path], fused_logits: Sequence[Tensor]) -> Comparison | None:
    if network.expected is None:
        return None
    deviations = list(map(partial(network.expected.deviation, network.name), photos, fused_logits))
    known = [deviation for deviation in deviations if deviation is not None]
    if not known:
        return None
    worst = largest(deviation for _, deviation in known)
    return Comparison(
        file=str(network.expected.path),
        logits=sum(count for count, _ in known),
        largest_deviation=worst,
        tolerance=expected.TOLERANCE,
        agrees=worst <= expected.TOLERANCE,
    )


def largest(values: Iterable[float]) -> float:
    """The maximum; unlike max(), NaN if any is."""
    return torch.tensor(list(values), dtype=torch.float64).max().item()


def time_both(fused: nn.Module, eager: nn.Module, images: Sequence[Tensor]) -> Timing:
    """One image a call, in turn."""
    turns = {"fused": cycle(images), "eager": cycle(images)}
    medians = interleaved_medians(
        {"fused": lambda: fused(next(turns["fused"])), "eager": lambda: eager(next(turns["eager"]))}, ROUNDS
    )
    return Timing(ROUNDS, medians["fused"], medians["eager"], medians["eager"] / medians["fused"])
