"""The page: its sections in order, each with where its figures are from, or with the command that makes them.

First come a few figures from all of them, since the paper makes one claim - what it expands need never reach
memory - and whether that holds here, in time and in bytes, should take one look. Below stands which machine
and commit each file is of: figures of different ones do not compare. The sections then go from what decides,
the time beside other engines, over why it is so, traffic, roofline and memory, to what the paper has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from .. import BenchError
from ..bottleneck.zeros import ZerosRow
from ..compare import PeerRow
from ..headlines import HeadlineRow
from ..memory import MemoryRow, SplitRow
from ..results import Header, Row, read_results
from ..roofline import RooflineRow
from ..scaling import ScalingRow
from ..traffic.blocks import TrafficRow
from . import space, speed
from .content import Content
from .drawing import DARK, LIGHT

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """A part of the page: its results file, the command that writes that, and what becomes of its rows."""

    title: str
    rows: type[Row]
    command: str
    make: Callable[[Sequence[Any]], Content]

    @property
    def kind(self) -> str:
        return self.rows.KIND

    def file(self, folder: Path) -> Path:
        return folder / f"{self.kind}.json"

    def full_command(self, folder: Path) -> str:
        return f"{self.command} --json {self.file(folder)}"


SECTIONS = (
    Section("Beside other engines", PeerRow, "mnv2 bench", speed.peers),
    Section("Memory traffic", TrafficRow, "mnv2 traffic", space.traffic),
    Section("Roofline", RooflineRow, "mnv2 roofline", speed.roofline),
    Section("Memory", MemoryRow, "mnv2 memory", space.memory),
    Section("The expanded channels in parts", SplitRow, "mnv2 memory --split", space.splits),
    Section("Linear bottlenecks", ZerosRow, "mnv2 bottleneck", space.bottleneck),
    Section("The paper's headlines", HeadlineRow, "mnv2 headlines", speed.headlines),
    Section("Scaling", ScalingRow, "mnv2 scaling", speed.scaling),
)


@dataclass(frozen=True)
class FilledSection:
    """A section as the template takes it; without results it has neither header nor content."""

    title: str
    kind: str
    command: str
    header: Header | None
    content: Content | None


def make_page(folder: Path) -> str:
    """The HTML of all results files in a folder. Raises BenchError where there are none that can be read."""
    if not folder.is_dir():
        raise BenchError(f"{folder}: no such folder; --results names the one with the results files")
    sections = [_fill(section, folder) for section in SECTIONS]
    if not any(section.content for section in sections):
        raise BenchError(
            f"{folder}: no results files; the first is made by: {SECTIONS[0].full_command(folder)}"
        )
    sources: dict[str, list[FilledSection]] = {}
    for section in sections:
        if section.header:
            sources.setdefault(f"{section.header.where}; {section.header.machine.caches}", []).append(section)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html").render(
        sections=sections,
        sources=sources,
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        light=LIGHT,
        dark=DARK,
    )


def _fill(section: Section, folder: Path) -> FilledSection:
    command = section.full_command(folder)
    if not section.file(folder).exists():
        return FilledSection(section.title, section.kind, command, None, None)
    results = read_results(section.file(folder), section.rows)
    return FilledSection(section.title, section.kind, command, results.header, section.make(results.rows))
