"""The results of a check as a few lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def parse_tables(text: str) -> list[dict[str, str]]:
    """Rows of Markdown tables: a dictionary by column each. One that the text ends in is none."""
    rows: list[dict[str, str]] = []
    header: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not header:
            header = cells
        elif len(cells) == len(header) and not set("".join(cells)) <= set("-: "):
            rows.append(dict(zip(header, cells, strict=True)))
    return rows


def text(rows: Mapping[str, Sequence[Row]]) -> str:
    """Tables of what was measured."""
    return "\n\n".join("\n".join(lines) for lines in map(list, _tables(rows)) if lines)


def _tables(rows: Mapping[str, Sequence[Row]]) -> Iterator[Iterator[str]]:
    yield _network(rows.get("network", ()))
    yield _blocks(rows.get("blocks", ()), rows.get("traffic", ()))


def _network(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each engine by graphs, then by plain calls; a column for each setting."""
    rows = [*rows, *map(_by_calls, (row for row in rows if "us_call" in row))]
    settings = sorted({(row["dtype"], row["batch"]) for row in rows})
    variants = dict.fromkeys(row["variant"] for row in rows)
    cells = {(row["variant"], row["dtype"], row["batch"]): _cell(row) for row in rows}
    if not settings:
        return
    width = max(map(len, variants))
    yield f"{'network, us (1000 images/s)':{width}}"
    yield " ".join(
        (f"{'':{width}}", *(f"{f'{dtype[0]}{dtype[-2:]} x {batch}':>15}" for dtype, batch in settings))
    )
    for variant in variants:
        yield " ".join(
            (f"{variant:{width}}", *(f"{cells.get((variant, *setting), ''):>15}" for setting in settings))
        )


def _by_calls(row: Row) -> Row:
    us = row["us_call"]
    return {**row, "variant": f"{row['variant']}, calls", "us": us, "images_per_s": row["batch"] * 1e6 / us}


def _cell(row: Row) -> str:
    if row.get("obstacle"):
        return "failed"
    return f"{row['us']:.0f} ({row['images_per_s'] / 1000:.1f})"


def _blocks(rows: Sequence[Row], traffic: Sequence[Row]) -> Iterator[str]:
    """A line for each block: times of the batches, and DRAM bytes over the floor."""
    ratios = {row["block"]: row["ratio"] for row in traffic}
    ways = list(dict.fromkeys((row["variant"], row["batch"]) for row in rows))
    times = {
        (row["block"], row["variant"], row["batch"]): "failed"
        if row.get("obstacle")
        else f"{row['us_image']:.3f}"
        for row in rows
    }
    if not rows and not traffic:
        return
    heads = (*(f"{variant} x {batch}" for variant, batch in ways), "DRAM / floor")
    yield " ".join((f"{'block, us an image':24}", *(f"{head:>20}" for head in heads)))
    for block in dict.fromkeys(row["block"] for row in (*rows, *traffic)):
        cells = [times.get((block, *way), "") for way in ways]
        cells.append(f"{ratios[block]:.2f}" if block in ratios else "")
        yield " ".join((f"{block:24}", *(f"{cell:>20}" for cell in cells)))
