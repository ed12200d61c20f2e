"""What the commands show of a --model, as rich tables."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from ...dropin.report import FusionReport
from ...weights.models import why_eager
from .. import tables
from ..tables import count, facts_table, new_table, spaced
from .classify import ModelClassification
from .profile import ModelProfile
from .verify import ModelVerification


def blocks(report: FusionReport) -> str:
    """A report in one line."""
    fused, eager = len(report.fused), len(report.eager)
    others = f", and {count(len(report.others), 'other layer')}" if report.others else ""
    why = f"; eager: {why_eager(report)}" if eager else ""
    return f"{fused} of {count(fused + eager, 'block')}{others}{why}"


def classification(result: ModelClassification) -> RenderableType:
    """Top five of every photograph, then how fused and eager compare."""
    facts: dict[str, str | Text] = {
        "model": f"{result.model}, {result.classes} classes, {result.size} x {result.size}",
        "fused": blocks(result.report),
        "machine": f"{tables.machine(result.isa, result.threads)}, float32, batch 1",
        "fused - eager": tables.agreement(result.largest_difference, result.agrees),
    }
    if result.timing is not None:
        facts["time"] = tables.timing(result.timing)
    return spaced(tables.photos_table(result.photos), facts_table(facts))


def verification(result: ModelVerification) -> RenderableType:
    """One line for every fused block, then the results."""
    return tables.verification(result, {"fused": blocks(result.report)})


def profile(result: ModelProfile) -> RenderableType:
    """Kernel calls, then modules that torch runs, then sums."""
    modules = new_table(texts=["torch runs", ""], numbers=["ms"])
    for each in result.eager_modules:
        modules.add_row(each.name, each.kind, f"{each.ms:.3f}")
    between = result.call_ms - result.fused_ms - result.eager_ms
    facts = {
        **tables.profile_facts(result),
        "fused": blocks(result.report),
        "sum": f"{result.call_ms:.2f} ms a call: fused {result.fused_ms:.2f}, modules that torch runs "
        f"{result.eager_ms:.2f}, the rest {between:.2f}",
        "share": f"{result.share:.0%} of the peak, over fused layers",
    }
    shown = [modules] if result.eager_modules else []
    return spaced(tables.profile_layers(result.layers), *shown, facts_table(facts))
