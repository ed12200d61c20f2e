"""Results files: JSON of one kind of measurement, with what it was measured on, by which command and when.

    {"schema": 1, "kind": "peers", "header": {...}, "rows": [{...}, ...]}

A kind's rows are a frozen dataclass of numbers, strings, booleans and None, with the kind's name as KIND::

    @dataclass(frozen=True)
    class TrafficRow:
        KIND: ClassVar[str] = "traffic"
        stage: str
        fused_bytes: int | None

    write_results(path, collect([TrafficRow(...), ...], rounds=30, command="mnv2 traffic"))
    read_results(path, TrafficRow).rows
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch

from .. import __version__, _native
from ..dtypes import DTYPE_NAMES
from ..processor import processor
from . import BenchError

SCHEMA = 1
UNKNOWN = "unknown"

# A change of anything else, such as the results themselves, leaves the figures what they were.
MEASURED = ("mnv2_kernels", "csrc", "cmake", "CMakeLists.txt", "setup.py")

CHECKOUT = Path(__file__).resolve().parents[2]
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


class ResultsError(BenchError):
    """A results file is missing, or holds something else than it should."""


class Row(Protocol):
    """A dataclass with the name of its kind."""

    KIND: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


AnyRow = TypeVar("AnyRow", bound=Row)


@dataclass(frozen=True)
class Machine:
    """A processor: its model, how many of its logical CPUs this process may use, its caches' sizes."""

    processor: str
    cpus: int
    caches: str  # as "L1d 32 KiB, L2 512 KiB, L3 32768 KiB"

    def __str__(self) -> str:
        return f"{self.processor}, {self.cpus} CPU{'s' if self.cpus > 1 else ''}"


@dataclass(frozen=True)
class Header:
    """What the rows were measured on, by which command and when.

    ``commit`` is git's, with "-dirty" behind it where the sources differ from it; "unknown" where the package
    lies in no checkout of its own. ``date`` is UTC, as ISO 8601 has it. ``rounds`` is how often each thing
    was measured; 1 for what is the same every time.
    """

    machine: Machine
    isa: str  # float32's, and in brackets other dtypes' where theirs differ
    torch: str
    version: str
    commit: str
    date: str
    rounds: int
    command: str

    @property
    def where(self) -> str:
        """The machine and what ran on it, in a line."""
        return f"{self.machine}, {self.isa}, torch {self.torch}"

    @property
    def when(self) -> str:
        return f"{self.date[:10]}, commit {self.commit}"


@dataclass(frozen=True)
class Results(Generic[AnyRow]):
    """The rows of one kind with their header."""

    header: Header
    rows: tuple[AnyRow, ...]

    @property
    def kind(self) -> str:
        return self.rows[0].KIND


def collect(rows: Sequence[AnyRow], rounds: int, command: str) -> Results[AnyRow]:
    """The rows, with a header of here and now."""
    header = Header(
        machine=Machine(processor(), _usable_cpus(), _caches()),
        isa=instruction_sets(),
        torch=str(torch.__version__),  # of a subclass
        version=__version__,
        commit=commit(),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        rounds=rounds,
        command=command,
    )
    return Results(header, tuple(rows))


def instruction_sets() -> str:
    """What kernels run on this machine, as "avx512 (bfloat16: amx_bf16)" has it."""
    selected = {dtype: _native.selected_isa(dtype) for dtype in DTYPE_NAMES}
    usual = selected.pop("float32")
    others = ", ".join(f"{dtype}: {isa}" for dtype, isa in selected.items() if isa != usual)
    return f"{usual} ({others})" if others else usual


def write_results(path: Path, results: Results[AnyRow]) -> None:
    """Writes a file that read_results reads; ResultsError where it cannot be written.

    Raises ValueError where a row holds NaN, infinity or another type than declared, or there is no row.
    """
    content = {
        "schema": SCHEMA,
        "kind": results.kind if results.rows else None,
        "header": asdict(results.header),
        "rows": [asdict(row) for row in results.rows],
    }
    try:
        _parse(content, type(results.rows[0]) if results.rows else None)
    except ResultsError as error:
        raise ValueError(str(error)) from error
    try:
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}") from error


def read_results(path: Path, row_type: type[AnyRow]) -> Results[AnyRow]:
    """The results in a file; ResultsError where it is none that write_results wrote for the kind."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ResultsError(f"{path}: not JSON: {error}") from error
    try:
        return _parse(content, row_type)
    except ResultsError as error:
        raise ResultsError(f"{path}: {error}") from None


def commit(checkout: Path = CHECKOUT) -> str:
    """See Header."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        # An installed package may lie in an environment inside somebody else's checkout.
        git("ls-files", "--error-unmatch", "mnv2_kernels/__init__.py")
        name = git("rev-parse", "--short=12", "HEAD")
        return name + ("-dirty" if git("status", "--porcelain", "--", *MEASURED) else "")
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN


def _parse(content: object, row_type: type[AnyRow] | None) -> Results[AnyRow]:
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ResultsError(f"not results of schema {SCHEMA}")
    if row_type is None or not content.get("rows"):
        raise ResultsError("no rows")
    if content.get("kind") != row_type.KIND:
        raise ResultsError(f"expected results of kind {row_type.KIND!r}, got {content.get('kind')!r}")
    header = _build(Header, content.get("header"), "header")
    rows = tuple(_build(row_type, row, f"row {index}") for index, row in enumerate(content["rows"]))
    return Results(header, rows)


def _build(kind: type[Any], value: object, where: str) -> Any:
    """A dataclass from a dictionary of just its fields, each of its declared type."""
    if not isinstance(value, dict):
        raise ResultsError(f"{where}: expected an object, got {value!r}")
    types = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    if difference := set(names) ^ set(value):
        raise ResultsError(f"{where}: missing or unknown: {', '.join(sorted(difference))}")
    return kind(**{name: _checked(types[name], value[name], f"{where}, {name}") for name in names})


def _checked(declared: Any, value: object, where: str) -> Any:
    if declared is Machine:
        return _build(Machine, value, where)
    options = (
        typing.get_args(declared) if typing.get_origin(declared) in (typing.Union, UnionType) else (declared,)
    )
    if type(value) not in (*options, *((int,) if float in options else ())):
        names = " or ".join("null" if option is NoneType else option.__name__ for option in options)
        raise ResultsError(f"{where}: expected {names}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ResultsError(f"{where}: {value}")
    return value


def _usable_cpus() -> int:
    """Not all of the machine's where a container or taskset allows fewer."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _caches(folder: Path = CACHES) -> str:
    """The first processor's, as Linux reports them."""

    def read(cache: Path, name: str) -> str:
        return (cache / name).read_text().strip()

    try:
        found = [
            f"L{read(cache, 'level')}{'d' if read(cache, 'type') == 'Data' else ''} "
            f"{read(cache, 'size').replace('K', ' KiB')}"
            for cache in sorted(folder.glob("index*"))
            if read(cache, "type") != "Instruction"
        ]
    except OSError:
        return UNKNOWN
    return ", ".join(found) or UNKNOWN
