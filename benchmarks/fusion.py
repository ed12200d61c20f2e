"""What ``mnv2_kernels.fuse`` finds in models of other libraries, and gains: the tables of docs/fuse.md.

python benchmarks/fusion.py                # every model whose library is installed (the extra zoo)
python benchmarks/fusion.py --time timm    # models whose name has "timm", with times: one thread, batch 1
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections import Counter

import torch
from torch import nn

from mnv2_kernels import fuse, fusion_report
from mnv2_kernels.bench.accuracy import is_right, relative_error
from mnv2_kernels.bench.zoo import ZOO, Entry, prepared, with_statistics
from mnv2_kernels.weights.models import results

ROUNDS, CALLS = 7, 4
SIZE = (224, 224)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*")
    parser.add_argument("--time", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    times = ["eager", "fused", "gain"] if options.time else []
    names = ["model", "blocks", "fused", "the others need", *times]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for name, entry in ZOO.items():
        if not options.words or any(word in name for word in options.words):
            try:
                print(f"| {' | '.join([name, *row(entry, options.time)])} |", flush=True)
            except ImportError as missing:
                print(f"| {name} | {missing} |")


def row(entry: Entry, timed: bool) -> list[str]:
    # Statistics of another size would let errors grow from layer to layer, in every engine.
    eager = with_statistics(entry.build, SIZE) if timed else prepared(entry)
    eager = eager.to(memory_format=torch.channels_last)
    fused = fuse(copy.deepcopy(eager))
    report = fusion_report(fused)
    reasons = Counter(report.eager.values())
    needs = "; ".join(f"{count} {words}" for words, count in reasons.items())
    cells = [str(len(report.fused) + len(report.eager)), str(len(report.fused)), needs]
    return [*cells, *milliseconds(eager, fused)] if timed else cells


@torch.no_grad()
def milliseconds(eager: nn.Module, fused: nn.Module) -> list[str]:
    """Of an image of 224 x 224: medians of calls in turn, and how many times faster; checked first."""
    x = torch.randn(1, 3, *SIZE).to(memory_format=torch.channels_last)
    exact = results(copy.deepcopy(eager).double(), x.double())
    for ours, wanted in zip(results(fused, x), exact, strict=True):
        if not is_right(error := relative_error(ours, wanted), "float32"):
            raise SystemExit(f"a fused result is off by {error:.2g} of the largest number")
    seconds: dict[nn.Module, list[float]] = {eager: [], fused: []}
    for _ in range(ROUNDS):
        for model, measured in seconds.items():
            results(model, x)
            began = time.perf_counter()
            for _ in range(CALLS):
                results(model, x)
            measured.append((time.perf_counter() - began) / CALLS)
    slow, fast = (statistics.median(each) for each in seconds.values())
    return [f"{slow * 1e3:.1f} ms", f"{fast * 1e3:.1f} ms", f"{slow / fast:.2f}"]


if __name__ == "__main__":
    main()
