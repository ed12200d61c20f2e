"""A trained network and a folder of photographs to a file of its int8 network."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import torch

from ..quantization.agreement import Agreement, agreement
from ..quantization.quantize import (
    FEW_IMAGES,
    TENSORFLOW_IMAGES,
    TORCHVISION_IMAGES,
    Recipe,
    quantize,
)
from ..quantization.report import LayerReport, quantization_report
from ..weights.checkpoints import SAFETENSORS_SUFFIX, WeightsError
from ..weights.int8_files import About, write_int8
from ..weights.photos import PhotoError
from ..weights.sources import Network
from ..weights.views import photos_of, random_views, whole_and_views
from .options import check_out

RECIPES: tuple[Recipe, ...] = get_args(Recipe)

# Views that the report is made with, none of which calibrated: more say the same to a tenth of a dB.
REPORT_VIEWS = 64
REPORT_SEED = 1
BATCH = 8


@dataclass(frozen=True)
class Quantization:
    """Everything `mnv2 quantize` shows; ``agreement`` and the report are of views that did not calibrate."""

    weights: str
    out: str
    out_bytes: int
    size: int
    recipe: str
    images: int
    photos: int
    report_views: int
    agreement: Agreement
    layers: tuple[LayerReport, ...]

    def as_json(self) -> dict[str, object]:
        """A dictionary that json can write."""
        return asdict(self)


def quantize_network(
    network: Network,
    folder: Path,
    out: Path,
    *,
    recipe: Recipe = "default",
    keep_float: Sequence[str] = (),
    views: int = 300,
    progress: bool = True,
) -> Quantization:
    """Calibrates with ``views`` images of a folder's photographs, and writes the int8 network.

    Raises PhotoError where there is no photograph or a damaged one, WeightsError where the network cannot be
    quantised or the file not be written.
    """
    check_out(out, SAFETENSORS_SUFFIX)
    network.check_takes_photos()
    photos = _photos(folder)
    settings = network.settings
    mean, deviation = TENSORFLOW_IMAGES if settings.preprocess == "tf" else TORCHVISION_IMAGES
    images = whole_and_views(photos, settings.size, settings.preprocess, views)
    try:
        with warnings.catch_warnings(record=True) as caught:
            quantised = quantize(
                network.model,
                [images],
                recipe=recipe,
                keep_float=keep_float,
                mean=mean,
                deviation=deviation,
                progress=progress,
            )
    except ValueError as error:
        raise WeightsError(f"{network.name}: {error}") from error
    if caught or len(photos) < FEW_IMAGES:
        _warn_of_few(len(photos), views)
    others = random_views(photos, settings.size, REPORT_VIEWS, REPORT_SEED).split(BATCH)
    report = tuple(quantization_report(network.model, quantised, others))
    with torch.inference_mode():
        floats = [network.model(quantised.image_grid.real(batch)) for batch in others]
        scores = agreement(torch.cat([quantised(batch) for batch in others]), torch.cat(floats))
    about = About(
        weights=_findable(network.name),
        settings=settings,
        labels=network.labels,
        recipe=recipe,
        images=len(images),
        photos=len(photos),
        report=report,
    )
    write_int8(out, quantised, about)
    return Quantization(
        weights=network.name,
        out=str(out),
        out_bytes=out.stat().st_size,
        size=settings.size,
        recipe=recipe,
        images=len(images),
        photos=len(photos),
        report_views=REPORT_VIEWS,
        agreement=scores,
        layers=report,
    )


def _photos(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise PhotoError(f"{folder}: no such folder of photographs")
    photos = photos_of(folder)
    if not photos:
        raise PhotoError(f"{folder}: no photographs: none of its files has the suffix of an image")
    return photos


def _findable(name: str) -> str:
    """A file's path from anywhere."""
    return str(Path(name).resolve()) if Path(name).is_file() else name


def _warn_of_few(photos: int, views: int) -> None:
    print(
        f"mnv2: {photos} photographs in {views} views are few, which costs accuracy: give 300 different "
        f"photographs if possible, at least {FEW_IMAGES}",
        file=sys.stderr,
    )
