"""How much of a trained network's logits int8 keeps as ONNX files, ours and those of other tools.

    python benchmarks/int8_interchange.py dogs [--views 40] [--calibration 100]

Photographs and halves are those of int8_accuracy.py. Our file is run by ONNX Runtime and OpenVINO; files that
ONNX Runtime's quantize_static and NNCF wrote are run by themselves, and by our kernels once read. Needs onnx,
onnxscript, onnxruntime, openvino and nncf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import nncf
import numpy as np
import onnx
import onnxruntime
import openvino
import torch
import typer
from int8_accuracy import Half, halves, logits_of, photographs, score_cells
from rich import box
from rich.table import Table
from torch import Tensor

from mnv2_kernels import QuantizedMobileNetV2, quantize
from mnv2_kernels.bench.int8_engines import input_name, onnx_int8
from mnv2_kernels.bench.subject import to_onnx
from mnv2_kernels.cli.console import show
from mnv2_kernels.nn.networks import eager_copy
from mnv2_kernels.quantization.agreement import Agreement, agreement
from mnv2_kernels.weights.sources import load_network

Run = Callable[[Tensor], Tensor]


def _one_by_one(run: Callable[[np.ndarray], Any]) -> Run:
    return lambda images: torch.cat([torch.tensor(np.array(run(each.numpy()))) for each in images.split(1)])


def by_onnx_runtime(path: Path) -> Run:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return _one_by_one(lambda image: session.run(None, {name: image})[0])


def by_openvino(path: Path) -> Run:
    compiled = openvino.Core().compile_model(path, "CPU")
    return _one_by_one(lambda image: compiled(image)[0])


def runs(model: Any, half: Half, folder: Path) -> Iterator[tuple[str, Run]]:
    """What computes logits of float images, by its name."""
    size = half.evaluation.shape[-1]
    ours = quantize(model, [half.calibration], progress=False)
    yield "ours", ours
    file = folder / "ours.onnx"
    ours.to_onnx(file, size)
    yield "our file by ONNX Runtime", by_onnx_runtime(file)
    yield "our file by OpenVINO", by_openvino(file)

    source = folder / "float.onnx"
    exact = eager_copy(model).to(memory_format=torch.contiguous_format)
    source.write_bytes(to_onnx(exact, torch.zeros(1, 3, size, size)))
    name = input_name(source.read_bytes())
    calibration = ours.image_grid.real(half.calibration)
    by_itself = folder / "onnxruntime.onnx"
    by_itself.write_bytes(onnx_int8(source.read_bytes(), calibration))
    yield "ONNX Runtime's file by itself", by_onnx_runtime(by_itself)
    yield "ONNX Runtime's file, read", QuantizedMobileNetV2.from_onnx(by_itself)
    feeds = [{name: image.numpy()} for image in calibration.split(1)]
    onnx.save(nncf.quantize(onnx.load(source), nncf.Dataset(feeds)), folder / "nncf.onnx")
    yield "NNCF's file by OpenVINO", by_openvino(folder / "nncf.onnx")
    yield "NNCF's file, read", QuantizedMobileNetV2.from_onnx(folder / "nncf.onnx")


@torch.no_grad()
def measure(weights: str, views: int, calibration: int) -> dict[str, Agreement]:
    network = load_network(weights)
    exact, logits = eager_copy(network.model), {}
    for half in halves(photographs(None), network.settings.size, calibration, views):
        with TemporaryDirectory() as folder:
            for name, run in runs(network.model, half, Path(folder)):
                real = half.evaluation / 127.5 - 1
                logits.setdefault(name, []).append(logits_of(run, real))
        logits.setdefault("float32", []).append(logits_of(exact, real))
    together = {name: torch.cat(each) for name, each in logits.items()}
    want = together.pop("float32")
    return {name: agreement(got, want) for name, got in together.items()}


def main(
    networks: Annotated[list[str] | None, typer.Argument(help="dogs, imagenet; both by default.")] = None,
    views: Annotated[int, typer.Option(min=2, help="Evaluated, of both halves together.")] = 40,
    calibration: Annotated[int, typer.Option(min=1, help="Views that calibrate, of one half.")] = 100,
) -> None:
    """Prints a table of agreement with the float network, for each network."""
    for weights in networks or ("dogs", "imagenet"):
        table = Table(box=box.SIMPLE_HEAD)
        for heading in (weights, "dB", "KL", "top 1, %"):
            table.add_column(heading, justify="left" if heading == weights else "right")
        for name, scores in measure(weights, views, calibration).items():
            table.add_row(name, *score_cells(scores))
        show(table)


if __name__ == "__main__":
    typer.run(main)
