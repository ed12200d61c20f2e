"""The command line's results as rich tables, each readable at 80 columns and without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .classify import Classification, Comparison, PhotoResult, Timing
from .export import Exported
from .info import Info
from .profile import LayerProfile, Profile
from .verify import Verification

PASS = Text("ok", style="green")
FAIL = Text("FAILED", style="bold red")

LOADED_BY = {"export": "for torch.export.load", "aoti": "for aoti_load_package and C++"}


def classification(result: Classification) -> RenderableType:
    """Top five of every photograph, then how fused and eager compare."""
    facts: dict[str, str | Text] = {
        "network": f"{result.weights}, {result.classes} classes, {result.size} x {result.size}, "
        f"padding {result.padding}, preprocess {result.preprocess}, eps {result.eps:g}",
        "machine": f"{machine(result.isa, result.threads)}, float32, batch 1",
        "fused - eager": agreement(result.largest_difference, result.agrees),
    }
    if result.expected is not None:
        facts["expected.json"] = _comparison(result.expected)
    if result.timing is not None:
        facts["time"] = timing(result.timing)
    facts["not stored"] = f"{result.expanded_bytes / 1e6:.1f} MB of expanded tensors a photograph"
    return spaced(photos_table(result.photos), facts_table(facts))


def machine(isa: str, threads: int) -> str:
    return f"CPU {isa}, {count(threads, 'thread')}"


def agreement(largest_difference: float, agrees: bool) -> Text:
    return Text.assemble(f"largest logit difference {largest_difference:.1e}: ", verdict(agrees))


def photos_table(photos: Sequence[PhotoResult]) -> Table:
    """Five lines for each."""
    table = new_table(texts=["photo"])
    table.add_column("class")
    for name in ("share", "fused", "eager"):
        table.add_column(name, justify="right", no_wrap=True)
    for photo in photos:
        _add_photo(table, photo)
    return table


def _add_photo(table: Table, photo: PhotoResult) -> None:
    for rank, guess in enumerate(photo.top):
        table.add_row(
            PurePath(photo.photo).name if rank == 0 else "",
            # Cut rather than wrapped, and the first column to give way: the numbers stay whole.
            Text(guess.label, no_wrap=True, overflow="ellipsis"),
            f"{guess.probability:.1%}",
            f"{guess.logit:.4f}",
            f"{guess.eager_logit:.4f}",
            style="bold" if rank == 0 else None,
            end_section=rank == len(photo.top) - 1,
        )


def _comparison(comparison: Comparison) -> Text:
    return Text.assemble(
        f"{comparison.logits} logits, largest deviation {comparison.largest_deviation:.1e} ",
        f"(allowed {comparison.tolerance:.0e}): ",
        verdict(comparison.agrees),
    )


def timing(timing: Timing) -> Text:
    return Text.assemble(
        f"fused {timing.fused_ms:.2f} ms, eager channels_last {timing.eager_ms:.2f} ms: ",
        (f"{timing.speedup:.2f} times as fast", "bold"),
        f"\n(median of {timing.rounds} interleaved rounds)",
    )


def verification(result: Verification, more: Mapping[str, str] | None = None) -> RenderableType:
    """One line for every part of the network; ``more`` facts of it."""
    parts = new_table(texts=["part", "shape"], numbers=["fused error", "eager error", "ratio"])
    parts.add_column("", no_wrap=True)
    for part in result.parts:
        parts.add_row(
            part.name,
            part.shape,
            f"{part.fused_error:.2e}",
            f"{part.eager_error:.2e}",
            f"{part.ratio:.2f}",
            verdict(part.passed),
        )
    facts: dict[str, str | Text] = {
        "network": f"{result.weights}, {result.dtype}, batch {result.batch}",
        **(more or {}),
        "machine": machine(result.isa, result.threads),
        "errors": f"largest against float64, over {_inputs(result)}",
        "rule": f"fused at most {result.eager_factor:g} times eager, or a few float32 roundings",
        "verdict": verdict(result.passed),
    }
    return spaced(parts, facts_table(facts))


def _inputs(result: Verification) -> str:
    random = result.inputs - result.photos
    counts = ((result.photos, "photograph"), (random, "random image"))
    return " and ".join(count(number, noun) for number, noun in counts if number)


def profile(result: Profile) -> RenderableType:
    """One line for every kernel call of a network."""
    facts = {
        **profile_facts(result),
        "sum": f"{sum(layer.ms for layer in result.layers):.2f} ms, {result.share:.0%} of the peak",
    }
    return spaced(profile_layers(result.layers), facts_table(facts))


def profile_layers(profiles: Sequence[LayerProfile]) -> Table:
    """One line for each."""
    layers = new_table(texts=["layer", "shape", "plan"], numbers=["ms", "GFLOP/s", "of peak", "scratch KiB"])
    for layer in profiles:
        layers.add_row(
            layer.kind,
            layer.shape,
            layer.plan,
            f"{layer.ms:.3f}",
            f"{layer.gflops:.1f}",
            f"{layer.share:.0%}",
            f"{layer.scratch_bytes / 1024:.0f}",
        )
    return layers


def profile_facts(result: Profile) -> dict[str, str]:
    """What ran where."""
    return {
        "network": f"{result.weights}, {result.size} x {result.size}, {result.dtype}",
        "machine": machine(result.isa, result.threads),
        "peak": f"{result.peak_gflops:.1f} GFLOP/s a thread, measured in this run",
        "times": f"medians of {count(result.rounds, 'call')}, batch {result.batch}",
    }


def installation(info: Info) -> RenderableType:
    """Versions and states, then the ISAs, the operators, and the CUDA kernels of MobileNetV2's blocks."""
    facts = {
        **info.versions,
        "built": str(info.build["summary"]),
        "processor": info.processor,
        "threads": f"{info.threads} of {count(info.logical_cpus, 'logical CPU')}",
        "ISA": f"{info.selected_isa}: {info.selection_reason}",
        "CUDA": info.cuda,
        "Triton": info.triton,
    }

    isas = new_table("ISA", "in this build", "on this processor", "used for weights of")
    for isa in info.isas:
        dtypes = [dtype for dtype, selected in info.selected_isas.items() if selected == isa.name]
        isas.add_row(isa.name, _yes_no(isa.compiled), _yes_no(isa.supported), ", ".join(dtypes))

    ops = new_table("operator", "CPU", "GPU")
    for op in info.ops:
        ops.add_row(op.op, op.cpu or "-", op.gpu or "-")

    blocks = new_table(f"block on {info.cuda_gpu}, float16", "batch", "CUDA kernel", "why")
    for block in info.cuda_blocks:
        blocks.add_row(block.stage, str(block.batch), block.kernel, block.reason)
    return spaced(facts_table(facts), isas, ops, blocks)


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def verdict(passed: bool) -> Text:
    """ok or FAILED."""
    return PASS if passed else FAIL


def new_table(*columns: str, texts: Sequence[str] = (), numbers: Sequence[str] = ()) -> Table:
    """``columns`` may wrap, which those of texts and numbers do not."""
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def exported(result: Exported) -> RenderableType:
    facts: dict[str, str | Text] = {
        "network": result.weights,
        "written": f"{result.out}, {result.out_bytes / 1e6:.1f} MB, {LOADED_BY[result.format]}",
        "takes": result.images,
        "gives": f"{result.result}, verified against the network",
    }
    if result.config is not None:
        facts["server"] = result.config
    return facts_table(facts)


def facts_table(facts: Mapping[str, str | Text]) -> Table:
    """A line for each: its name and what it is."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, fact in facts.items():
        table.add_row(name, fact)
    return table


def spaced(*tables: RenderableType) -> Group:
    """The tables with an empty line behind each."""
    return Group(*(each for table in tables for each in (table, "")))
