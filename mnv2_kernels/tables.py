"""The command line's results as rich tables, each readable at 80 columns and without colour."""

from __future__ import annotations

from pathlib import PurePath

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .classify import Classification, Comparison, PhotoResult, Timing
from .info import Info
from .verify import Verification

PASS = Text("ok", style="green")
FAIL = Text("FAILED", style="bold red")


def classification(result: Classification) -> RenderableType:
    """Top five of every photograph, then how fused and eager compare."""
    photos = _table("photo", "class", probability="right", fused="right", eager="right")
    for photo in result.photos:
        _add_photo(photos, photo)
    summary = _facts()
    summary.add_row("network", _network(result))
    summary.add_row("machine", f"CPU {result.isa}, {_count(result.threads, 'thread')}, float32, batch 1")
    summary.add_row("fused - eager", _difference(result))
    if result.expected is not None:
        summary.add_row("expected.json", _comparison(result.expected))
    if result.timing is not None:
        summary.add_row("time", _timing(result.timing))
    summary.add_row("not stored", f"{result.expanded_bytes / 1e6:.1f} MB of expanded tensors a photograph")
    return Group(photos, summary)


def _add_photo(table: Table, photo: PhotoResult) -> None:
    for rank, guess in enumerate(photo.top):
        table.add_row(
            PurePath(photo.photo).name if rank == 0 else "",
            guess.label,
            f"{guess.probability:.1%}",
            f"{guess.logit:.4f}",
            f"{guess.eager_logit:.4f}",
            style="bold" if rank == 0 else None,
            end_section=rank == len(photo.top) - 1,
        )


def _network(result: Classification) -> str:
    return (
        f"{result.weights}, {result.classes} classes, {result.size} x {result.size}, "
        f"padding {result.padding}, preprocess {result.preprocess}, eps {result.eps:g}"
    )


def _difference(result: Classification) -> Text:
    return Text.assemble(
        f"largest logit difference {result.largest_difference:.1e}: ", _verdict(result.agrees)
    )


def _comparison(comparison: Comparison) -> Text:
    return Text.assemble(
        f"{comparison.logits} logits, largest deviation {comparison.largest_deviation:.1e} "
        f"(allowed {comparison.tolerance:.0e}): ",
        _verdict(comparison.agrees),
    )


def _timing(timing: Timing) -> Text:
    return Text.assemble(
        f"fused {timing.fused_ms:.2f} ms, eager channels_last {timing.eager_ms:.2f} ms: ",
        (f"{timing.speedup:.2f} times as fast", "bold"),
        f"\n(median of {timing.rounds} interleaved rounds)",
    )


def verification(result: Verification) -> RenderableType:
    """One line for every part of the network."""
    table = _table(
        "part", "shape", **{"fused error": "right", "eager error": "right", "ratio": "right", "": "left"}
    )
    for part in result.parts:
        table.add_row(
            part.name,
            part.shape,
            f"{part.fused_error:.2e}",
            f"{part.eager_error:.2e}",
            f"{part.ratio:.2f}",
            _verdict(part.passed),
        )
    summary = _facts()
    summary.add_row("network", f"{result.weights}, {result.dtype}, batch {result.batch}")
    summary.add_row("machine", f"CPU {result.isa}, {_count(result.threads, 'thread')}")
    summary.add_row("errors", f"largest against float64, over {result.photos} photographs{_extra(result)}")
    summary.add_row("rule", f"fused at most {result.allowed_ratio:g} times eager")
    summary.add_row("verdict", _verdict(result.passed))
    return Group(table, summary)


def installation(info: Info) -> RenderableType:
    """Versions and states, then the ISAs, then the operators."""
    facts = _facts()
    for name, version in info.versions.items():
        facts.add_row(name, version)
    facts.add_row("processor", info.processor)
    facts.add_row("threads", f"{info.threads} of {_count(info.logical_cpus, 'logical CPU')}")
    facts.add_row("ISA", f"{info.selected_isa}: {info.selection_reason}")
    facts.add_row("CUDA", info.cuda)
    facts.add_row("Triton", info.triton)
    facts.add_row("built", str(info.build["summary"]))

    isas = _table("ISA", "in this build", "on this processor", "used")
    for isa in info.isas:
        used = "yes" if isa.name == info.selected_isa else ""
        isas.add_row(isa.name, _yes_no(isa.compiled), _yes_no(isa.supported), used)

    ops = _table("operator", "CPU", "CUDA")
    for op in info.ops:
        ops.add_row(op.op, op.cpu or "-", op.cuda or "-")
    return Group(facts, isas, ops)


def _extra(result: Verification) -> str:
    random = result.inputs - result.photos
    return f" and {random} random images" if random else ""


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _verdict(passed: bool) -> Text:
    return PASS if passed else FAIL


def _table(*left: str, **others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in left:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for name, justify in others.items():
        table.add_column(name, justify=justify, no_wrap=True)
    return table


def _facts() -> Table:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    return facts
