"""`mnv2 traffic` and `mnv2 memory`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import RenderableType

from ..verify import DtypeName
from . import tables
from .callgrind import TrafficError
from .memory import DeviceName, MemoryUseError, measure_memory, measure_splits
from .results import AnyRow, ResultsError, collect, write_results
from .traffic import measure_traffic, parse_bytes

# What ends in one line on stderr.
ERRORS = (TrafficError, MemoryUseError, ResultsError)

JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write results there, too.")]
Show = Callable[[RenderableType], None]


def add_traffic(app: typer.Typer, show: Show) -> None:
    @app.command()
    def traffic(
        cache: Annotated[
            str, typer.Option(metavar="BYTES", help="Last-level cache, a power of two, such as 256K or 32M.")
        ] = "1M",
        eager: Annotated[bool, typer.Option(help="Count torch's layers, too: takes some minutes.")] = True,
        json: JsonFile = None,
    ) -> None:
        """Count the memory traffic of every block in a simulated cache: fused, unfused and torch eager."""
        rows = measure_traffic(parse_bytes(cache), eager=eager)
        show(tables.traffic(rows))
        _write(json, rows, 1, "traffic", "--cache", cache, *([] if eager else ["--no-eager"]))


def add_memory(app: typer.Typer, show: Show) -> None:
    @app.command()
    def memory(
        dtype: Annotated[DtypeName, typer.Option(help="Type of weights and activations.")] = "float16",
        device: Annotated[DeviceName, typer.Option(help="Where to run.")] = "cpu",
        split: Annotated[
            bool,
            typer.Option("--split", help="Time blocks with their expanded channels in 1 to 8 parts."),
        ] = False,
        rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Timed calls of --split.")] = 50,
        json: JsonFile = None,
    ) -> None:
        """Show the memory of a forward pass by resolution: fused, eager, and the paper's table 3."""
        if split:
            splits = list(measure_splits(rounds))
            show(tables.splits(splits))
            _write(json, splits, rounds, "memory", "--split", "--rounds", str(rounds))
        else:
            rows = measure_memory(getattr(torch, dtype), device)
            show(tables.memory(rows))
            _write(json, rows, 1, "memory", "--dtype", dtype, "--device", device)


def _write(path: Path | None, rows: Sequence[AnyRow], rounds: int, *command: str) -> None:
    if path is not None:
        write_results(path, collect(rows, rounds, shlex.join(["mnv2", *command])))
