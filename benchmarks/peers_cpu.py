"""Prints the whole network beside every CPU engine that is installed, interleaved in one process.

    python benchmarks/peers_cpu.py [--rounds 30] [--size 224] [--json FILE]

Each engine runs the same weights and is compared with a float64 run before it is timed. Engines that are not
installed are named: pip install '.[peers]' (ExecuTorch by hand, in a version that fits torch's).
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from quick import compiled, model_with_statistics
from torch import Tensor, nn

from mnv2_kernels import FusedMobileNetV2, _native, shapes
from mnv2_kernels.timing import interleaved_times

Function = Callable[[Tensor], object]

FUSED = "fused"
# (dtype, threads, batch): the rows of the table.
SETTINGS = (
    (torch.float32, 1, 1),
    (torch.float32, 1, 8),
    (torch.float32, 2, 1),
    (torch.float32, 2, 32),
    (torch.bfloat16, 1, 1),
)
# Logits of a network with random weights are about 1; a wrong engine is off by more, rounding by far less.
LARGEST_ERROR = {torch.float32: 1e-3, torch.bfloat16: 0.2}
# Threads that wait for more work keep a core busy for a while: nobody is to be timed in that while.
PAUSE_S = 0.002


@dataclass
class Row:
    """One setting: milliseconds an image by engine (median and best), and why engines are missing."""

    dtype: str
    threads: int
    batch: int
    fma_peak_gflops: float
    median_ms: dict[str, float] = field(default_factory=dict)
    best_ms: dict[str, float] = field(default_factory=dict)
    largest_error: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


# --- engines: each makes a function of an input from a model in eval mode, an example and threads ---


def fused(model: nn.Module, x: Tensor, threads: int) -> Function:
    return FusedMobileNetV2.from_model(model).eval()


def eager_channels_last(model: nn.Module, x: Tensor, threads: int) -> Function:
    model = copy.deepcopy(model).to(memory_format=torch.channels_last)
    return lambda x: model(x.contiguous(memory_format=torch.channels_last))


def torch_compile(model: nn.Module, x: Tensor, threads: int) -> Function:
    torch.compiler.reset()
    return compiled(copy.deepcopy(model))


def onnx_runtime(model: nn.Module, x: Tensor, threads: int) -> Function:
    import onnxruntime

    if x.dtype != torch.float32:
        raise NotImplementedError("its CPU kernels have no bfloat16")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(model, (x,), dynamo=True, verbose=False).save(path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x.numpy()})[0]


def openvino(model: nn.Module, x: Tensor, threads: int) -> Function:
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "bf16" if x.dtype == torch.bfloat16 else "f32",
    }
    converted = openvino.convert_model(copy.deepcopy(model).float(), example_input=x.float())
    network = openvino.Core().compile_model(converted, "CPU", options)
    return lambda x: network(x.float().numpy())[0]


def executorch(model: nn.Module, x: Tensor, threads: int) -> Function:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime

    if x.dtype != torch.float32:
        raise NotImplementedError("XNNPACK has no bfloat16")
    exported = torch.export.export(model, (x,))
    program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    _unsafe_reset_threadpool(threads)
    loaded = Runtime.get().load_program(program.buffer)
    method = loaded.load_method("forward")
    return lambda x, program=loaded: method.execute([x])[0]


ENGINES: dict[str, Callable[[nn.Module, Tensor, int], Function]] = {
    FUSED: fused,
    "eager, channels_last": eager_channels_last,
    "torch.compile, freezing": torch_compile,
    "ONNX Runtime": onnx_runtime,
    "OpenVINO": openvino,
    "ExecuTorch, XNNPACK": executorch,
}


# --- measurement ---


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure(model: nn.Module, dtype: torch.dtype, threads: int, batch: int, size: int, rounds: int) -> Row:
    x = torch.randn(batch, 3, size, size)
    expected = copy.deepcopy(model).double()(x.double())
    x, model = x.to(dtype), copy.deepcopy(model).to(dtype)
    row = Row(str(dtype).removeprefix("torch."), threads, batch, _native.measure_fma_peak())
    functions: dict[str, Callable[[], object]] = {}
    for name, make in ENGINES.items():
        try:
            function = make(model, x, threads)
            y = torch.as_tensor(function(x))
        except (ImportError, NotImplementedError, RuntimeError) as error:
            row.missing[name] = (str(error).splitlines() or [type(error).__name__])[0]
            continue
        row.largest_error[name] = (y.double() - expected).abs().max().item()
        if not row.largest_error[name] < LARGEST_ERROR[dtype]:
            raise SystemExit(f"{name}: logits are off by {row.largest_error[name]:.2g}")
        functions[name] = lambda function=function: function(x)
    pause_s = PAUSE_S if threads > 1 else 0.0
    for name, times in interleaved_times(functions, rounds, pause_s).items():
        row.median_ms[name] = median(times) / batch
        row.best_ms[name] = min(times) / batch
    return row


def line(row: Row, size: int) -> str:
    ours = row.median_ms[FUSED]
    share = 2e-6 * shapes.mobilenet_v2(resolution=size).macs / row.best_ms[FUSED] / row.fma_peak_gflops
    cells = [row.dtype, str(row.threads), str(row.batch), f"{ours:.2f}"]
    for name in ENGINES:
        if name != FUSED:
            time = row.median_ms.get(name)
            cells.append("-" if time is None else f"{time:.2f} ({time / ours:.2f}x)")
    return "| " + " | ".join([*cells, f"{share / row.threads:.0%}"]) + " |"


def main(
    rounds: Annotated[int, typer.Option(help="Timed calls of each engine.", min=1)] = 30,
    size: Annotated[int, typer.Option(help="Height and width of the images.", min=32)] = 224,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures there.")] = None,
) -> None:
    print(f"MobileNetV2 1.0, {size}x{size}, {_native.selected_isa()}, torch {torch.__version__};")
    print("median ms an image (times slower than fused); share: fused, best call, of the measured FMA peak")
    print("| dtype | threads | batch | " + " | ".join(ENGINES) + " | share |")
    print("|" + "---|" * (len(ENGINES) + 4))
    model, rows = model_with_statistics(), []
    with torch.no_grad():
        for dtype, threads, batch in SETTINGS:
            with torch_threads(threads):
                rows.append(measure(model, dtype, threads, batch, size, max(rounds // batch, 3)))
            print(line(rows[-1], size), flush=True)
    for name, reason in {name: reason for row in rows for name, reason in row.missing.items()}.items():
        print(f"without {name}: {reason}")
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
