"""Writes the README's tables of peers from their results files, between markers; --check only compares.

python benchmarks/readme.py [--check]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mnv2_kernels.bench.compare import PeerRow
from mnv2_kernels.bench.peers import FUSED, INT8
from mnv2_kernels.bench.results import Results, read_results
from mnv2_kernels.bench.setting import Setting

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results" / "peers.json"
INT8_RESULTS = RESULTS.with_name("int8.json")
# The results files by the names of their markers.
TABLES = {"peers": RESULTS, "int8": INT8_RESULTS}


def generate(results: Results[PeerRow]) -> str:
    """A line for what it was measured on, and the table: peers that ran down, settings across."""
    by_setting: dict[Setting, dict[str, PeerRow]] = {}
    for row in results.rows:
        by_setting.setdefault(row.setting, {})[row.peer] = row
    header = results.header
    kept = {row.peer: f"{row.sqnr:.1f}" for row in results.rows if row.sqnr is not None}
    columns = ["", *(setting.brief for setting in by_setting), *(["SQNR, dB"] if kept else [])]
    last = (lambda peer: [kept.get(peer, "-")]) if kept else (lambda _: [])
    titles = {row.peer: row.title for row in results.rows if row.median_ms is not None or row.wrong}
    lines = [
        f"{header.where}; {header.when}, `{header.command}`:",
        "",
        _line(columns),
        "|" + "---|" * len(columns),
        *(_line([title, *_cells(by_setting, peer), *last(peer)]) for peer, title in titles.items()),
        *(
            _line(
                [
                    f"share of the peak, {titles[peer]}",
                    *(_share(rows[peer]) for rows in by_setting.values()),
                    *last(""),
                ]
            )
            for peer in (FUSED, INT8)
            if peer in titles
        ),
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


def between_markers(readme: str, name: str, table: str) -> str:
    """The README with this table in place of the one that it has."""
    begin, end = f"<!-- {name}: python benchmarks/readme.py -->", f"<!-- /{name} -->"
    replaced, count = re.subn(
        f"{begin}.*{end}", lambda _: f"{begin}\n{table}\n{end}", readme, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"{README}: expected the markers {begin} and {end} once")
    return replaced


def with_tables(readme: str) -> str:
    """The README with the tables of the results files."""
    for name, results in TABLES.items():
        readme = between_markers(readme, name, generate(read_results(results, PeerRow)))
    return readme


def main(
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 where they differ.")] = False,
) -> None:
    readme = README.read_text()
    generated = with_tables(readme)
    if check and generated != readme:
        raise SystemExit(f"{README} differs from the results: run python benchmarks/readme.py")
    README.write_text(generated)


if __name__ == "__main__":
    typer.run(main)
