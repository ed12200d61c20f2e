"""How much of a trained network's logits int8 keeps, on photographs other than the calibration's.

    python benchmarks/int8_accuracy.py dogs [--views 40] [--calibration 300] [--extra FOLDER]

Photographs are those of MNV2_DATA, of scikit-image and scikit-learn if they are installed, and of a folder.
They are split in halves, each evaluated by what crops of the other calibrated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, get_args

import torch
import typer
from rich import box
from rich.table import Table
from torch import Tensor, nn

from mnv2_kernels import quantize
from mnv2_kernels.bench.int8_engines import onnx_int8, openvino_int8
from mnv2_kernels.bench.subject import to_onnx
from mnv2_kernels.cli.console import show
from mnv2_kernels.nn.networks import eager_copy
from mnv2_kernels.quantization.agreement import Agreement, agreement
from mnv2_kernels.quantization.quantize import Recipe
from mnv2_kernels.weights.sources import data_photos, load_network
from mnv2_kernels.weights.views import packaged_photos, photos_of, random_views

BATCH = 4

RECIPES: tuple[Recipe, ...] = get_args(Recipe)
ROWS = ("bfloat16", *RECIPES, "OpenVINO, NNCF", "ONNX Runtime")

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
    return [*data_photos(), *packaged_photos(), *(photos_of(extra) if extra else ())]


def halves(files: Sequence[Path], size: int, calibration: int, evaluation: int) -> list[Half]:
    parts = [files[0::2], files[1::2]]
    return [
        Half(
            random_views(parts[1 - index], size, calibration, seed),
            random_views(parts[index], size, evaluation // 2, seed + 10),
        )
        for index, seed in ((0, 1), (1, 2))
    ]


@torch.no_grad()
def logits_of(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([network(batch).float() for batch in images.split(BATCH)])


def peers(exact: nn.Module, images: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """The network quantised by other libraries on float32 images; both take one a call."""
    import onnxruntime
    import openvino

    one = images[:1].contiguous()
    converted = openvino.convert_model(exact, example_input=one, input=[tuple(one.shape)])
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(openvino_int8(converted, images), "CPU", options)
    session = onnxruntime.InferenceSession(
        onnx_int8(to_onnx(exact, one), images), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return {
        "OpenVINO, NNCF": lambda x: torch.from_numpy(compiled(x.numpy())[0].copy()),
        "ONNX Runtime": lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0]),
    }


def one_by_one(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.cat([run(image) for image in x.contiguous().split(1)])


def measure(weights: str, files: Sequence[Path], views: int, calibration: int) -> dict[str, Agreement]:
    """Agreement with the float network by what computed the logits, over both halves."""
    network = load_network(weights)
    exact = eager_copy(network.model)
    half_precision = eager_copy(network.model).to(torch.bfloat16)
    logits: dict[str, list[Tensor]] = {}
    for half in halves(files, network.settings.size, calibration, views):
        ours = {recipe: quantize(network.model, [half.calibration], recipe=recipe) for recipe in RECIPES}
        real = next(iter(ours.values())).image_grid.real
        on_floats: dict[str, Callable[[Tensor], Tensor]] = {
            "float32": exact,
            "bfloat16": lambda x: half_precision(x.to(torch.bfloat16)),
            **{name: one_by_one(run) for name, run in peers(exact, real(half.calibration)).items()},
        }
        for name, run in on_floats.items():
            logits.setdefault(name, []).append(logits_of(run, real(half.evaluation)))
        for recipe, run in ours.items():
            logits.setdefault(recipe, []).append(logits_of(run, half.evaluation))
    together = {name: torch.cat(each) for name, each in logits.items()}
    want = together.pop("float32")
    return {name: agreement(together[name], want) for name in ROWS}


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
            cells = [*score_cells(measured.get(name)), *score_cells(recorded.get(name))]
            table.add_row(weights, name, *cells)
    show(table)
    print(
        f"{views} views of {len(files)} photographs, calibrated on {calibration} of the other half. "
        "Recorded: 293 photographs, 300. bfloat16 is torch eager."
    )


def score_cells(scores: Agreement | tuple[float, float, float] | None) -> list[str]:
    if scores is None:
        return ["-"] * 3
    if isinstance(scores, Agreement):
        scores = (scores.sqnr, scores.divergence, 100 * scores.kept)
    ratio, divergence, kept = scores
    return [f"{ratio:.1f}", f"{divergence:.4f}", f"{kept:.1f}"]


if __name__ == "__main__":
    typer.run(main)
