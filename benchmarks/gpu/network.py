"""Times the network on a GPU by every engine, each verified first: a line of JSON for each, as it comes.

    python benchmarks/gpu/network.py [fused] [layers] [eager] [channels_last] [max-autotune]

All but the last by default; torch.compile with max-autotune takes minutes to compile. Fused is by the backend
of MNV2_GPU_BACKEND, layers the same with an operator for each layer. Times are of CUDA graphs, us_call
of plain calls. Float32 is exact for all: TF32 is off.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import replay
import torch
import typer
from torch import nn

from mnv2_kernels.bench import peers
from mnv2_kernels.bench.accuracy import is_right, relative_error
from mnv2_kernels.bench.peers import Function
from mnv2_kernels.bench.setting import Setting
from mnv2_kernels.bench.subject import Subject
from mnv2_kernels.ops import gpu
from mnv2_kernels.packing.packed_layers import pack_layers

# The most wanted variants come first, as the time may end.
SETTINGS = (
    *(("float16", 256), ("float16", 1), ("float32", 1), ("float32", 256)),
    *(("float16", 8), ("float16", 64), ("float32", 8), ("float32", 64)),
)
VERIFIED_IMAGES = 8  # of a batch

Make = Callable[[Subject, Setting], Function]


def layers(subject: Subject, setting: Setting) -> Function:
    model = peers.fused(subject, setting)
    return nn.Sequential(*(pack_layers([unit.fusion()]) for unit in (*model.features, model.classifier)))


ENGINES: dict[str, Make] = {
    "fused": peers.fused,
    "layers": layers,
    "eager": peers.eager,
    "channels_last": peers.eager_channels_last,
    # It makes no graphs of its own: all variants are captured here.
    "max-autotune": partial(peers.torch_compile, mode="max-autotune-no-cudagraphs"),
}
QUICK = ("fused", "layers", "eager", "channels_last")


def title(engine: str) -> str:
    """With the backend of those that have several."""
    return f"{engine}, {gpu.backend()}" if engine in ("fused", "layers") else engine


def measure(variants: dict[str, Make], subject: Subject, setting: Setting) -> Iterator[dict[str, Any]]:
    """A row for each variant; those that fail or are wrong have an obstacle instead of times."""
    x = subject.input_for(setting)
    inputs = replay.rotated(x)
    exact = copy.deepcopy(subject.model).to(setting.device, torch.float64)
    expected = exact(x[:VERIFIED_IMAGES].double()).cpu()
    rows = {name: {"variant": name, "dtype": setting.dtype, "batch": setting.batch} for name in variants}
    graphs, functions = {}, {}
    for name, make in variants.items():
        row = rows[name]
        try:
            function = make(subject, setting)
            row["error"] = relative_error(function(x)[:VERIFIED_IMAGES], expected)
            if is_right(row["error"], setting.dtype):
                graphs[name], functions[name] = replay.capture(function, inputs), function
            else:
                row["obstacle"] = f"wrong: off by {row['error']:.2g} of the largest logit"
        except Exception as error:  # whatever an engine fails with
            row["obstacle"] = replay.obstacle(error)
    try:
        for name, times in replay.replay_times(graphs, len(inputs)).items():
            rows[name] |= {"runs": len(inputs), **replay.spread(times, setting.batch)}
        for name, times in replay.call_times(functions, inputs).items():
            rows[name]["us_call"] = round(median(times), 3)
    except Exception as error:  # of one of them: which, no error of a GPU tells
        for name in graphs:
            rows[name].setdefault("obstacle", replay.obstacle(error))
    yield from rows.values()


def main(engines: list[str] = typer.Argument(None, help=f"Of {', '.join(ENGINES)}.")) -> None:  # noqa: B008
    """Prints rows."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    variants = {title(engine): ENGINES[engine] for engine in engines or QUICK}
    with torch.no_grad():
        for dtype, batch in SETTINGS:
            setting = Setting(dtype, 1, batch, device="cuda")
            for row in measure(variants, Subject(setting.width, setting.size, batch), setting):
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    typer.run(main)
