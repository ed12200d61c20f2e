"""Results of int8 networks as rich tables, each readable at 80 columns and without colour."""

from __future__ import annotations

from pathlib import PurePath

from rich.console import RenderableType
from rich.text import Text

from ...quantization.agreement import Agreement
from ..quantize import Quantization
from ..tables import count, facts_table, new_table, spaced, verdict
from .classify import Int8Classification
from .profile import Int8Profile
from .verify import Int8Verification

NONE = "-"
NO_FLOATS = "not compared: its float weights are not known or not there; --float-weights names them"


def quantization(result: Quantization) -> RenderableType:
    """One line for every layer: what it keeps of the float network's results."""
    layers = new_table(texts=["name", "layer"], numbers=["dB", "clipped"])
    for layer in result.layers:
        layers.add_row(
            layer.name, _brief(layer.layer, layer.in_float), _decibels(layer.sqnr), f"{layer.clipped:.2%}"
        )
    facts: dict[str, str | Text] = {
        "network": f"{result.weights}, {result.size} x {result.size}",
        "calibrated": f"recipe {result.recipe}, {count(result.images, 'view')} of "
        f"{count(result.photos, 'photograph')}",
        "dB, clipped": f"signal to noise, and results outside the layer's range, on {result.report_views} "
        "other views",
        "logits": f"{result.agreement}, on the same views",
        "written": f"{result.out}, {result.out_bytes / 1e6:.1f} MB",
    }
    return spaced(layers, facts_table(facts))


def _brief(layer: str, in_float: bool) -> str:
    kind, *options = layer.split()
    channels = [option.partition("=")[2] for option in options if "_channels=" in option]
    return f"{kind} {'-'.join(channels)}{', float' if in_float else ''}"


def _decibels(sqnr: float | None) -> str:
    return NONE if sqnr is None else f"{sqnr:.1f}"


def verification(result: Int8Verification) -> RenderableType:
    """One line for every layer."""
    parts = new_table(texts=["part", "shape"], numbers=["values", "different", "dB", "dB in the file"])
    parts.add_column("", no_wrap=True)
    for part in result.parts:
        compared = ["in float", NONE] if part.in_float else [f"{part.values:,}", f"{part.different:,}"]
        outcome = "" if part.in_float else verdict(part.passed)
        decibels = map(_decibels, (part.sqnr, part.recorded_sqnr))
        parts.add_row(part.name, part.shape, *compared, *decibels, outcome)
    random = result.inputs - result.photos
    counts = ((result.photos, "photograph"), (random, "random image"))
    facts: dict[str, str | Text] = {
        "network": f"{result.weights}, batch {result.batch}",
        "machine": f"CPU {result.isa}, {count(result.threads, 'thread')}",
        "compared": "bit for bit with the integer reference, on "
        + " and ".join(count(number, noun) for number, noun in counts if number),
        "dB": "signal to noise beside the float network on these photographs, and on the file's own views",
        "float network": _agreement(result.float_weights, result.agreement, "no photographs"),
        "verdict": verdict(result.passed),
    }
    return spaced(parts, facts_table(facts))


def _agreement(weights: str | None, agreement: Agreement | None, otherwise: str) -> str:
    if weights is None:
        return NO_FLOATS
    return f"{weights}: {otherwise if agreement is None else agreement}"


def classification(result: Int8Classification) -> RenderableType:
    """Top five of every photograph, then how int8 and float compare."""
    photos = new_table(texts=["photo"])
    photos.add_column("class")
    for name in ("share", "int8", "float"):
        photos.add_column(name, justify="right", no_wrap=True)
    for photo in result.photos:
        for rank, guess in enumerate(photo.top):
            photos.add_row(
                PurePath(photo.photo).name if rank == 0 else "",
                Text(guess.label, no_wrap=True, overflow="ellipsis"),
                f"{guess.probability:.1%}",
                f"{guess.logit:.4f}",
                NONE if guess.float_logit is None else f"{guess.float_logit:.4f}",
                style="bold" if rank == 0 else None,
                end_section=rank == len(photo.top) - 1,
            )
    facts: dict[str, str | Text] = {
        "network": f"{result.weights}, {result.classes} classes, {result.size} x {result.size}, "
        f"preprocess {result.preprocess}",
        "machine": f"CPU {result.isa}, {count(result.threads, 'thread')}, int8, batch 1",
        "reference": Text.assemble("all logits, to the bit: ", verdict(result.passed)),
        "float network": _agreement(result.float_weights, result.agreement, NONE),
    }
    if result.timing is not None:
        facts["time"] = f"int8 {result.timing.int8_ms:.2f} ms"
        if result.timing.float_ms is not None:
            faster = result.timing.float_ms / result.timing.int8_ms
            facts["time"] += f", float32 {result.timing.float_ms:.2f} ms: {faster:.2f} times as fast"
        facts["time"] += f"\n(median of {result.timing.rounds} interleaved rounds)"
    return spaced(photos, facts_table(facts))


def profile(result: Int8Profile) -> RenderableType:
    """One line for every kernel call of a network."""
    layers = new_table(texts=["layer", "shape"], numbers=["ms", "GOP/s", "of peak"])
    for layer in result.layers:
        layers.add_row(layer.kind, layer.shape, f"{layer.ms:.3f}", f"{layer.gops:.1f}", f"{layer.share:.0%}")
    facts = {
        "network": f"{result.weights}, {result.size} x {result.size}, int8",
        "machine": f"CPU {result.isa}, {count(result.threads, 'thread')}",
        "peak": f"{result.peak_gops:.1f} GOP/s a thread by {result.isa}, measured in this run",
        "times": f"medians of {count(result.rounds, 'call')}, batch {result.batch}",
        "sum": f"{sum(layer.ms for layer in result.layers):.2f} ms, {result.share:.0%} of the peak",
    }
    return spaced(layers, facts_table(facts))
