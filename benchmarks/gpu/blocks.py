"""Times MobileNetV2's different blocks on a GPU, fused, in float16, each verified first: JSON, a line each.

    python benchmarks/gpu/blocks.py [--once --batch 64]

Fused is by the backend of MNV2_GPU_BACKEND. With --once each runs once, between marks for Nsight Compute
(ncu.py), and nothing is timed.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import replay
import torch
import typer
from torch import Tensor, nn

from mnv2_kernels.bench import peers
from mnv2_kernels.bench.accuracy import is_right, relative_error
from mnv2_kernels.bench.setting import Setting
from mnv2_kernels.bench.subject import Subject
from mnv2_kernels.ops import gpu
from mnv2_kernels.shapes import BlockShape, describe, mobilenet_v2

DTYPE = "float16"
BATCHES = (1, 256)
VERIFIED_IMAGES = 2  # of a batch


def blocks(setting: Setting) -> Iterator[tuple[BlockShape, nn.Module]]:
    """Each different shape, with a module of the fused network that has it."""
    model = peers.fused(Subject(setting.width, setting.size, 1), setting)
    shapes = mobilenet_v2(batch=setting.batch).blocks
    units = list(model.features)[1 : 1 + len(shapes)]
    yield from dict(zip(shapes, units, strict=True)).items()


def row_of(shape: BlockShape, setting: Setting) -> dict[str, Any]:
    repeats = Counter(mobilenet_v2(batch=setting.batch).blocks)[shape]
    floor = shape.floor_bytes(setting.torch_dtype)
    return {
        "variant": f"fused, {gpu.backend()}",
        **{"block": describe(shape), "blocks": repeats, "dtype": setting.dtype, "batch": setting.batch},
        "floor_bytes": floor,
    }


def input_of(shape: BlockShape, setting: Setting) -> Tensor:
    size = (shape.batch, shape.in_channels, shape.height, shape.width)
    x = torch.rand(size, device=setting.device, dtype=setting.torch_dtype)
    return x.contiguous(memory_format=torch.channels_last)


def run_once(setting: Setting) -> Iterator[dict[str, Any]]:
    for shape, block in blocks(setting):
        x = input_of(shape, setting)
        block(x)  # packs
        torch.cuda.synchronize()
        torch.cuda.profiler.start()
        with torch.cuda.nvtx.range(describe(shape)):
            block(x)
        torch.cuda.synchronize()
        torch.cuda.profiler.stop()
        yield row_of(shape, setting)


def error_of(block: nn.Module, x: Tensor) -> float:
    """The largest error of a block's first images over its largest output, against its layers in float64."""
    layers = copy.deepcopy(block.conv).double()
    image = x[:VERIFIED_IMAGES].double()
    expected = layers(image) + image if block.use_res_connect else layers(image)
    return relative_error(block(x)[:VERIFIED_IMAGES], expected.cpu())


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    """A row for each block; one that fails or is wrong has an obstacle instead of times."""
    for shape, block in blocks(setting):
        row = row_of(shape, setting)
        try:
            row |= time_block(shape, block, setting)
        except Exception as error:  # whatever its kernel fails with: the other blocks are to be timed
            row["obstacle"] = replay.obstacle(error)
        yield row


def time_block(shape: BlockShape, block: nn.Module, setting: Setting) -> dict[str, Any]:
    """The columns of what is measured."""
    x = input_of(shape, setting)
    error = error_of(block, x)
    if not is_right(error, setting.dtype):
        return {"error": error, "obstacle": f"wrong: off by {error:.2g} of the largest output"}
    inputs = replay.rotated(x)
    times = replay.replay_times({"fused": replay.capture(block, inputs)}, len(inputs))["fused"]
    columns = replay.spread(times, shape.batch)
    gb_per_s = shape.floor_bytes(setting.torch_dtype) * 1e-3 / columns["us"]
    return {"error": error, **columns, "gb_per_s": round(gb_per_s, 1)}


def main(
    once: bool = typer.Option(False, "--once", help="Run each once, for Nsight Compute."),
    batch: list[int] = typer.Option(list(BATCHES), help="Images."),  # noqa: B008
) -> None:
    """Prints rows."""
    with torch.no_grad():
        for images in batch:
            for row in (run_once if once else measure)(Setting(DTYPE, 1, images, device="cuda")):
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    typer.run(main)
