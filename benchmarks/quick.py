"""Prints the whole network, fused and deployed, against torch's own ways of running it.

    python benchmarks/quick.py [--rounds 40] [--size 224]

All variants run the same weights in one process, in turn; each is compared with a float64 run before it is
timed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from statistics import median
from typing import Annotated

import torch
import torchvision
import typer
from torch import Tensor, nn
from torch._inductor import config as inductor

from mnv2_kernels import FusedMobileNetV2, _native, shapes
from mnv2_kernels.timing import interleaved_times

FUSED = "fused"
# Logits of a network with random weights are about 1; a wrong kernel is off by more, rounding by far less.
LARGEST_ERROR = 1e-3


def compiled(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """torch.compile with the weights as constants, which lets it prepack them."""
    inductor.freezing = True
    return torch.compile(model)


def variants(model: nn.Module) -> dict[str, Callable[[Tensor], Tensor]]:
    channels_last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    fused = FusedMobileNetV2.from_model(model).eval()
    return {
        FUSED: fused,
        "deploy()": fused.deploy(),
        "eager": model,
        "eager, channels_last": lambda x: channels_last(x.contiguous(memory_format=torch.channels_last)),
        "torch.compile, freezing": compiled(copy.deepcopy(model)),
    }


def model_with_statistics() -> nn.Module:
    """torchvision's network with random weights and BatchNorm statistics that belong to them."""
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v2().train()
    model(torch.randn(8, 3, 96, 96))
    return model.eval()


def check(functions: dict[str, Callable[[Tensor], Tensor]], x: Tensor, expected: Tensor) -> None:
    for name, function in functions.items():
        error = (function(x).double() - expected).abs().max().item()
        if not error < LARGEST_ERROR:
            raise SystemExit(f"{name}: logits are off by {error:.2g}")


def row(functions: dict[str, Callable[[Tensor], Tensor]], x: Tensor, rounds: int, macs: int) -> str:
    """A line of the table: median ms an image, times slower than fused, fused's share of the peak."""
    threads = torch.get_num_threads()
    calls = {name: (lambda function=function: function(x)) for name, function in functions.items()}
    times = interleaved_times(calls, rounds)
    fused = median(times[FUSED])
    peak = _native.measure_fma_peak() * threads
    share = 2e-6 * macs / min(times[FUSED]) / peak
    cells = [f"{fused / len(x):.2f}"]
    cells += [
        f"{median(values) / len(x):.2f} ({median(values) / fused:.2f}x)"
        for name, values in times.items()
        if name != FUSED
    ]
    return f"| {threads} | {len(x)} | " + " | ".join(cells) + f" | {100 * share:.0f} % |"


def main(
    rounds: Annotated[int, typer.Option(help="Timed calls of each variant.", min=1)] = 40,
    size: Annotated[int, typer.Option(help="Height and width of the images.", min=32)] = 224,
) -> None:
    model = model_with_statistics()
    functions = variants(model)
    print(f"MobileNetV2 1.0, {size}x{size}, float32, {_native.selected_isa()}, torch {torch.__version__};")
    print("median ms an image (times slower than fused); share: fused, best call, of the measured FMA peak")
    print("| threads | batch | " + " | ".join(functions) + " | share |")
    print("|" + "---|" * (len(functions) + 3))
    with torch.inference_mode():
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for batch in (1, 8):
                x = torch.randn(batch, 3, size, size)
                check(functions, x, copy.deepcopy(model).double()(x.double()))
                macs = shapes.mobilenet_v2(resolution=size, batch=batch).macs
                print(row(functions, x, rounds, macs), flush=True)


if __name__ == "__main__":
    typer.run(main)
