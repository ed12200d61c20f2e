"""Results files: what is written is read again, and nothing else is taken for results."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from mnv2_kernels import __version__, _native
from mnv2_kernels.bench.results import (
    UNKNOWN,
    ResultsError,
    collect,
    commit,
    instruction_sets,
    read_results,
    write_results,
)


@dataclass(frozen=True)
class Weight:
    KIND: ClassVar[str] = "weights"
    name: str
    grams: float | None
    pieces: int


@dataclass(frozen=True)
class Length:
    KIND: ClassVar[str] = "lengths"
    name: str


ROWS = (Weight("apple", 182.5, 1), Weight("nothing", None, 0), Weight("salt", 3, 1000))


def written(folder: Path) -> Path:
    path = folder / "weights.json"
    write_results(path, collect(ROWS, rounds=7, command="mnv2 weigh"))
    return path


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_what_is_written_is_read(tmp_path):
    results = read_results(written(tmp_path), Weight)
    assert results.rows == ROWS
    assert results.kind == "weights"
    header = results.header
    assert (header.rounds, header.command) == (7, "mnv2 weigh")
    assert (header.isa, header.torch, header.version) == (
        instruction_sets(),
        torch.__version__,
        __version__,
    )
    assert header.machine.processor
    assert header.machine.cpus >= 1
    age = datetime.now(timezone.utc) - datetime.fromisoformat(header.date)
    assert 0 <= age.total_seconds() < 3600


def test_instruction_sets_that_differ_are_named(monkeypatch):
    selected = {"float32": "avx512", "float16": "avx512", "bfloat16": "amx_bf16"}
    monkeypatch.setattr(_native, "selected_isa", selected.__getitem__)
    assert instruction_sets() == "avx512 (bfloat16: amx_bf16)"
    selected["bfloat16"] = "avx512"
    assert instruction_sets() == "avx512"


def change(content: dict, *path: str | int, to: object) -> None:
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = to


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), 0, "schema 1"),
        (("kind",), "lengths", "expected results of kind 'weights', got 'lengths'"),
        (("rows",), [], "no rows"),
        (("rows", 1, "grams"), "much", "row 1, grams: expected float or null, got 'much'"),
        (("rows", 0, "pieces"), 1.5, "row 0, pieces: expected int, got 1.5"),
        (("rows", 0, "pieces"), True, "row 0, pieces: expected int, got True"),
        (("rows", 0, "colour"), "red", "row 0: missing or unknown: colour"),
        (("rows", 0), None, "row 0: expected an object, got None"),
        (("header", "machine", "cpus"), "two", "header, machine, cpus: expected int, got 'two'"),
        (("header",), {}, "header: missing or unknown: command, commit, date"),
        (("rows", 0, "grams"), math.nan, "row 0, grams: nan"),
    ],
)
def test_other_content_is_refused(path, value, message, tmp_path):
    file = written(tmp_path)
    content = json.loads(file.read_text())
    change(content, *path, to=value)
    file.write_text(json.dumps(content))
    with pytest.raises(ResultsError) as refused:
        read_results(file, Weight)
    assert str(refused.value).startswith(f"{file}: ")
    assert message in str(refused.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ResultsError, match="No such file"):
        read_results(tmp_path / "none.json", Weight)
    (tmp_path / "text.json").write_text("weights: many")
    with pytest.raises(ResultsError, match="not JSON"):
        read_results(tmp_path / "text.json", Weight)
    with pytest.raises(ResultsError, match="expected results of kind 'lengths'"):
        read_results(written(tmp_path), Length)


@pytest.mark.parametrize("rows", [(), (Weight("void", math.inf, 0),), (Weight("apple", 1.0, "one"),)])
def test_rows_that_cannot_be_written(rows, tmp_path):
    with pytest.raises(ValueError, match=r"no rows|row 0"):
        write_results(tmp_path / "weights.json", collect(rows, rounds=1, command=""))
    assert not list(tmp_path.iterdir())


def test_the_commit_is_that_of_the_checkout_of_the_package(tmp_path):
    assert commit(tmp_path) == UNKNOWN
    git(tmp_path, "init")
    package = tmp_path / "mnv2_kernels" / "__init__.py"
    package.parent.mkdir()
    package.touch()
    (tmp_path / "README.md").touch()
    git(tmp_path, "add", "README.md")
    git(tmp_path, "commit", "--message", "Somebody else's")
    assert commit(tmp_path) == UNKNOWN
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--message", "All")
    name = git(tmp_path, "rev-parse", "HEAD")[:12]
    (tmp_path / "README.md").write_text("not measured")
    assert commit(tmp_path) == name
    package.write_text("measured")
    assert commit(tmp_path) == f"{name}-dirty"
