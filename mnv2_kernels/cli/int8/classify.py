"""Photographs through an int8 network, its integer reference and, where it is known, the float network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor

from ... import _native
from ...quantization.agreement import Agreement, agreement
from ...timing import interleaved_medians
from ...weights.photos import load_photo_bytes
from ...weights.sources import Int8Network, Network
from ..classify import ROUNDS, TOP


@dataclass(frozen=True)
class Int8Guess:
    """One class of a photograph's top five, by the int8 network's logits."""

    index: int
    label: str
    probability: float
    logit: float
    float_logit: float | None


@dataclass(frozen=True)
class Int8PhotoResult:
    """One photograph; ``agrees``: all logits are the reference's, to the bit."""

    photo: str
    top: tuple[Int8Guess, ...]
    agrees: bool


@dataclass(frozen=True)
class Int8Timing:
    """Medians of interleaved rounds, a photograph at a time: int8 from bytes, float from floats."""

    rounds: int
    int8_ms: float
    float_ms: float | None


@dataclass(frozen=True)
class Int8Classification:
    """Everything `mnv2 classify` shows of an int8 network; without times where its bits are wrong."""

    weights: str
    float_weights: str | None
    classes: int
    preprocess: str
    size: int
    isa: str
    threads: int
    photos: tuple[Int8PhotoResult, ...]
    agreement: Agreement | None
    timing: Int8Timing | None

    @property
    def passed(self) -> bool:
        return all(photo.agrees for photo in self.photos)

    def as_json(self) -> dict[str, object]:
        """A dictionary that json can write."""
        return {**asdict(self), "passed": self.passed}


@torch.inference_mode()
def classify_int8(network: Int8Network, floats: Network | None, photos: Sequence[Path]) -> Int8Classification:
    """Runs photographs, at least one, through all networks, and times them if the bits are right.

    Raises PhotoError where one cannot be read.
    """
    settings, model = network.settings, network.model.deploy()
    images = [load_photo_bytes(photo, settings.size, settings.preprocess)[None] for photo in photos]
    real = [network.model.image_grid.real(x).contiguous(memory_format=torch.channels_last) for x in images]
    logits = [model(x)[0] for x in images]
    float_logits: list[Tensor | None] = [None if floats is None else floats.model(x)[0] for x in real]
    known = [each for each in float_logits if each is not None]
    agrees = [torch.equal(y, network.model.reference(x)[0]) for y, x in zip(logits, images, strict=True)]
    results = map(partial(_photo_result, network), photos, logits, float_logits, agrees)
    return Int8Classification(
        weights=network.name,
        float_weights=floats.name if floats else None,
        classes=len(network.labels),
        preprocess=settings.preprocess,
        size=settings.size,
        isa=_native.selected_int8_isa(),
        threads=torch.get_num_threads(),
        photos=tuple(results),
        agreement=agreement(torch.stack(logits), torch.stack(known)) if known else None,
        timing=_time(model, floats, images, real) if all(agrees) else None,
    )


def _photo_result(
    network: Int8Network, photo: Path, logits: Tensor, floats: Tensor | None, agrees: bool
) -> Int8PhotoResult:
    indices = logits.topk(min(TOP, len(logits))).indices.tolist()
    values = (tensor[indices].tolist() for tensor in (logits.softmax(0), logits))
    beside = [None] * len(indices) if floats is None else floats[indices].tolist()
    labels = [network.labels[index] for index in indices]
    return Int8PhotoResult(str(photo), tuple(map(Int8Guess, indices, labels, *values, beside)), agrees)


def _time(
    model: torch.nn.Module, floats: Network | None, images: Sequence[Tensor], real: Sequence[Tensor]
) -> Int8Timing:
    turns = cycle(images)
    calls = {"int8": lambda: model(next(turns))}
    if floats is not None:
        deployed, float_turns = floats.model.deploy(), cycle(real)
        calls["float"] = lambda: deployed(next(float_turns))
    medians = interleaved_medians(calls, ROUNDS)
    return Int8Timing(ROUNDS, medians["int8"], medians.get("float"))
