"""Writes the README's table of peers from its results file, between two markers; --check only compares.

python benchmarks/readme.py [--check]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mnv2_kernels.bench.compare import PeerRow
from mnv2_kernels.bench.peers import FUSED
from mnv2_kernels.bench.results import Results, read_results
from mnv2_kernels.bench.setting import Setting

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results" / "peers.json"
BEGIN, END = "<!-- peers: python benchmarks/readme.py -->", "<!-- /peers -->"


def generate(results: Results[PeerRow]) -> str:
    """A line for what it was measured on, and the table: peers that ran down, settings across."""
    by_setting: dict[Setting, dict[str, PeerRow]] = {}
    for row in results.rows:
        by_setting.setdefault(row.setting, {})[row.peer] = row
    header = results.header
    columns = ["", *(setting.brief for setting in by_setting)]
    titles = {row.peer: row.title for row in results.rows if row.median_ms is not None or row.wrong}
    lines = [
        f"{header.where}; {header.when}, `{header.command}`:",
        "",
        _line(columns),
        "|" + "---|" * len(columns),
        *(_line([title, *_cells(by_setting, peer)]) for peer, title in titles.items()),
        _line(["share of the peak, fused", *(_share(rows[FUSED]) for rows in by_setting.values())]),
    ]
    return "\n".join(lines)


def _cells(by_setting: dict[Setting, dict[str, PeerRow]], peer: str) -> list[str]:
    return [_cell(rows[peer]) for rows in by_setting.values()]


def _cell(row: PeerRow) -> str:
    if row.median_ms is None:
        return "wrong" if row.wrong else "-"
    return f"{row.median_ms:.2f}" + ("" if row.peer == FUSED else f" ({row.ratio:.2f}x)")


def _share(row: PeerRow) -> str:
    return "-" if row.share is None else f"{row.share:.0%}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def between_markers(readme: str, table: str) -> str:
    """The README with this table in place of the one that it has."""
    replaced, count = re.subn(
        f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table}\n{END}", readme, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"{README}: expected the markers {BEGIN} and {END} once")
    return replaced


def main(
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 where they differ.")] = False,
) -> None:
    readme = README.read_text()
    generated = between_markers(readme, generate(read_results(RESULTS, PeerRow)))
    if check and generated != readme:
        raise SystemExit(f"{README} differs from {RESULTS}: run python benchmarks/readme.py")
    README.write_text(generated)


if __name__ == "__main__":
    typer.run(main)
