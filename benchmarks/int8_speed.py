"""Times a trained network in int8, checked first, beside our float32 and OpenVINO's int8, all in turn.

    python benchmarks/int8_speed.py imagenet [--batch 1] [--threads 1] [--rounds 200]

Both int8 networks are calibrated on the photographs of MNV2_DATA and their mirror images. Needs openvino and
nncf.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Annotated, Any, Literal

import openvino
import torch
import typer
from rich.table import Table
from torch import Tensor, nn

from mnv2_kernels import quantize
from mnv2_kernels.bench.int8_engines import openvino_int8
from mnv2_kernels.bench.setting import torch_threads
from mnv2_kernels.bench.subject import to_openvino
from mnv2_kernels.cli.console import show
from mnv2_kernels.nn.networks import eager_copy
from mnv2_kernels.timing import interleaved_times
from mnv2_kernels.weights.photos import load_photos
from mnv2_kernels.weights.sources import data_photos, load_network


def by_openvino(model: nn.Module, views: Tensor, batch: int, threads: int) -> Callable[[Tensor], Tensor]:
    """The network quantised by NNCF's defaults, for batches of this size."""
    whole = views[: len(views) // batch * batch]
    quantised = openvino_int8(to_openvino(model, whole[:batch]), whole, batch)
    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(quantised, "CPU", options).create_infer_request()

    def run(x: Tensor) -> Tensor:
        results: Any = request.infer({0: x.numpy()}, share_inputs=True)
        return torch.from_numpy(results[0])

    return run


@torch.no_grad()
def main(
    name: Literal["imagenet", "dogs"],
    batch: Annotated[int, typer.Option(min=1, max=12)] = 1,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    rounds: Annotated[int, typer.Option(min=1)] = 200,
) -> None:
    network = load_network(name)
    photos = load_photos(data_photos(), network.settings.size, network.settings.preprocess)
    views = torch.cat([photos, photos.flip(3), photos.flip(2)])
    quantised = quantize(network.model, [views], progress=False)
    x = views[:batch].contiguous()
    as_bytes = quantised.image_grid.bytes_of(x)
    int8, floats = quantised.deploy(), network.model.deploy()
    wanted = quantised.reference(as_bytes)
    if not (torch.equal(int8(as_bytes), wanted) and torch.equal(int8(x), wanted)):
        raise SystemExit("int8 results are not the reference's")
    eager = eager_copy(network.model)
    torch.testing.assert_close(floats(x), eager(x), rtol=1e-3, atol=1e-3)
    peer = by_openvino(eager, views, batch, threads)
    if peer(x).argmax(1).ne(eager(x).argmax(1)).all():
        raise SystemExit("OpenVINO's results are another network's")
    with torch_threads(threads):
        times = interleaved_times(
            {
                "fused, int8": lambda: int8(as_bytes),
                "fused, int8, of floats": lambda: int8(x),
                "OpenVINO, int8": lambda: peer(x),
                "fused, float32": lambda: floats(x),
            },
            rounds,
        )
    table = Table("engine", "best, ms an image", "median", "of ours")
    ours = min(times["fused, int8"])
    for engine, each in times.items():
        best, middle = (value / batch for value in (min(each), median(each)))
        table.add_row(engine, f"{best:.2f}", f"{middle:.2f}", f"{min(each) / ours:.2f}x")
    show(table)


if __name__ == "__main__":
    typer.run(main)
