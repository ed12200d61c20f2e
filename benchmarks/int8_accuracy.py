"""How much of a trained network's logits int8 keeps, on photographs other than the calibration's.

    python benchmarks/int8_accuracy.py dogs [--views 40] [--calibration 300] [--extra FOLDER]

Photographs are those of MNV2_DATA, of scikit-image and scikit-learn if they are installed, and of a folder.
They are split in halves, each evaluated by what crops of the other calibrated.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
import typer
from PIL import Image, ImageEnhance
from rich import box
from rich.table import Table
from torch import Tensor

from mnv2_kernels import quantize
from mnv2_kernels.cli.console import show
from mnv2_kernels.nn.networks import eager_copy
from mnv2_kernels.quantization.report import decibels
from mnv2_kernels.weights.sources import data_photos, load_network

# The packages' other images are drawings, textures and scans.
PACKAGED = {
    "skimage": ("data", ("astronaut", "camera", "chelsea", "coffee", "coins", "motorcycle_left", "rocket")),
    "sklearn": ("datasets/images", ("china", "flower")),
}
BATCH = 4

RECIPES: tuple[Literal["default", "per_channel"], ...] = ("default", "per_channel")

# Share of an image's area, width by height, and factors of brightness, contrast and colour of a view.
AREA, ASPECT, ENHANCED = (0.35, 1.0), (0.75, 1.33), (0.75, 1.3)

# SQNR, KL divergence and top 1 kept by which the recipe was chosen: 293 photographs, 300 views of one half.
RECORDED = {
    "dogs": {
        "bfloat16": (25.4, 0.0045, 91.4),
        "default": (24.7, 0.0047, 92.7),
        "per_channel": (24.9, 0.0042, 91.9),
        "not corrected": (14.4, 0.0504, 77.3),
        "OpenVINO, NNCF": (13.1, 0.0670, 75.7),
        "ONNX Runtime": (14.1, 0.0555, 77.6),
    },
    "imagenet": {
        "bfloat16": (27.0, 0.0034, 96.2),
        "per_channel": (24.7, 0.0046, 96.2),
        "not corrected": (16.5, 0.0374, 91.5),
        "OpenVINO, NNCF": (16.1, 0.0392, 90.1),
        "ONNX Runtime": (15.9, 0.0378, 89.1),
    },
}


class Half(NamedTuple):
    """Bytes (N, 3, size, size) of one half's photographs to evaluate, of the other's to calibrate."""

    calibration: Tensor
    evaluation: Tensor


def photographs(extra: Path | None) -> list[Path]:
    found = [*data_photos(), *_packaged()]
    return found + (sorted(path for path in extra.iterdir() if path.is_file()) if extra else [])


def _packaged() -> Iterator[Path]:
    for package, (folder, names) in PACKAGED.items():
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            files = (Path(place) / folder).iterdir()
            yield from sorted(path for path in files if path.stem in names)


def halves(files: Sequence[Path], size: int, calibration: int, evaluation: int) -> list[Half]:
    parts = [files[0::2], files[1::2]]
    return [
        Half(
            _views(parts[1 - index], size, calibration, seed),
            _views(parts[index], size, evaluation // 2, seed + 10),
        )
        for index, seed in ((0, 1), (1, 2))
    ]


def _views(files: Sequence[Path], size: int, count: int, seed: int) -> Tensor:
    """As many views of every photograph as make ``count`` in all, in random order."""
    generator, views = random.Random(seed), []
    for file in files:
        image = Image.open(file).convert("RGB")
        for _ in range(math.ceil(count / len(files))):
            pixels = bytearray(_view(image, size, generator).tobytes())
            views.append(torch.frombuffer(pixels, dtype=torch.uint8).view(size, size, 3))
    generator.shuffle(views)
    return torch.stack(views[:count]).permute(0, 3, 1, 2).contiguous()


def _view(image: Image.Image, size: int, generator: random.Random) -> Image.Image:
    """A random crop, mirrored half the time, with brightness, contrast and colour moved."""
    area = generator.uniform(*AREA) * image.width * image.height
    aspect = generator.uniform(*ASPECT)
    width, height = (int(side**0.5) for side in (area * aspect, area / aspect))
    width, height = min(image.width, width), min(image.height, height)
    left, top = generator.randint(0, image.width - width), generator.randint(0, image.height - height)
    box_ = (left, top, left + width, top + height)
    view = image.resize((size, size), Image.Resampling.BILINEAR, box=box_)
    if generator.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        view = enhance(view).enhance(generator.uniform(*ENHANCED))
    return view


def score(got: Tensor, want: Tensor) -> tuple[float, float, float]:
    """SQNR of the centred logits in dB, KL divergence of the softmax, share of the top 1 kept in %."""
    got, want = got.double(), want.double()
    divergence = F.kl_div(got.log_softmax(1), want.log_softmax(1), reduction="batchmean", log_target=True)
    centred, difference = want - want.mean(1, keepdim=True), got - want
    noise = (difference - difference.mean(1, keepdim=True)).square().sum().item()
    kept = (got.argmax(1) == want.argmax(1)).double().mean().item()
    return decibels(centred.square().sum().item(), noise), divergence.item(), 100 * kept


@torch.no_grad()
def _logits(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([network(batch).float() for batch in images.split(BATCH)])


def measure(weights: str, files: Sequence[Path], views: int, calibration: int) -> dict[str, tuple]:
    """Scores by what computed the logits, over both halves."""
    network = load_network(weights)
    exact = eager_copy(network.model)
    half_precision = eager_copy(network.model).to(torch.bfloat16)
    logits: dict[str, list[Tensor]] = {}
    for half in halves(files, network.settings.size, calibration, views):
        results = {recipe: quantize(network.model, [half.calibration], recipe=recipe) for recipe in RECIPES}
        real = next(iter(results.values())).image_grid.real
        runs: dict[str, Callable[[Tensor], Tensor]] = {
            "float32": lambda x, real=real: exact(real(x)),
            "bfloat16": lambda x, real=real: half_precision(real(x).to(torch.bfloat16)),
            **results,
        }
        for name, run in runs.items():
            logits.setdefault(name, []).append(_logits(run, half.evaluation))
    together = {name: torch.cat(each) for name, each in logits.items()}
    want = together.pop("float32")
    return {name: score(got, want) for name, got in together.items()}


def main(
    networks: Annotated[list[str] | None, typer.Argument(help="dogs, imagenet; both by default.")] = None,
    views: Annotated[int, typer.Option(min=2, help="Evaluated, of both halves together.")] = 300,
    calibration: Annotated[int, typer.Option(min=1, help="Views that calibrate, of one half.")] = 300,
    extra: Annotated[
        Path | None, typer.Option(help="A folder of more photographs.", show_default=False)
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 1,
) -> None:
    """Prints a table of agreement with the float network."""
    torch.set_num_threads(threads)
    files = photographs(extra)
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("network", "", "dB", "KL", "top 1, %", "recorded: dB", "KL", "top 1, %"):
        table.add_column(heading, justify="left" if heading in ("network", "") else "right")
    for weights in networks or RECORDED:
        measured, recorded = measure(weights, files, views, calibration), RECORDED.get(weights, {})
        for name in {**measured, **recorded}:
            cells = [*_cells(measured.get(name)), *_cells(recorded.get(name))]
            table.add_row(weights, name, *cells)
    show(table)
    print(
        f"{views} views of {len(files)} photographs, calibrated on {calibration} of the other half. "
        "Recorded: 293 photographs, 300. bfloat16 is torch eager."
    )


def _cells(scores: tuple[float, float, float] | None) -> list[str]:
    if scores is None:
        return ["-"] * 3
    ratio, divergence, kept = scores
    return [f"{ratio:.1f}", f"{divergence:.4f}", f"{kept:.1f}"]


if __name__ == "__main__":
    typer.run(main)
