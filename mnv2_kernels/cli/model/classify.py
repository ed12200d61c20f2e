"""Photographs through a fused model and the eager one, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from ... import _native
from ...dropin.report import FusionReport
from ...weights.models import Model, logits_of, results
from ..classify import PhotoResult, Timing, largest, photo_result, time_both


@dataclass(frozen=True)
class ModelClassification:
    """Everything `mnv2 classify --model` shows; without a timing where fused and eager disagree."""

    model: str
    report: FusionReport
    classes: int
    size: int
    isa: str
    threads: int
    photos: tuple[PhotoResult, ...]
    largest_difference: float
    agrees: bool
    timing: Timing | None

    @property
    def passed(self) -> bool:
        return self.agrees

    def as_json(self) -> dict[str, object]:
        """A dictionary that json can write."""
        return {**asdict(self), "passed": self.passed}


@torch.inference_mode()
def classify_by_model(model: Model, photos: Sequence[Path]) -> ModelClassification:
    """Runs photographs, at least one, through both; times both if they agree.

    Raises PhotoError where one cannot be read, WeightsError where the model's first result is no logits, or
    the labels asked for are others in number.
    """
    images = model.images(photos).contiguous(memory_format=torch.channels_last).split(1)
    fused, eager = model.fused, model.eager.to(memory_format=torch.channels_last)
    fused_logits = [logits_of(model.name, results(fused, image)[0])[0] for image in images]
    eager_logits = [results(eager, image)[0][0] for image in images]
    labels = model.labels_of(len(fused_logits[0]))
    found = tuple(map(partial(photo_result, labels), photos, fused_logits, eager_logits))
    agrees = all(photo.agrees for photo in found)
    return ModelClassification(
        model=model.name,
        report=model.report,
        classes=len(labels),
        size=model.size,
        isa=_native.selected_isa(),
        threads=torch.get_num_threads(),
        photos=found,
        largest_difference=largest(photo.largest_difference for photo in found),
        agrees=agrees,
        timing=time_both(fused, eager, images) if agrees else None,
    )
