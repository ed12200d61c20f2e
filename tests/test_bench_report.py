"""`mnv2 report`: one page of the results files."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import pytest
from cli_cases import refusal

from mnv2_kernels.bench import report
from mnv2_kernels.bench.compare import PeerRow
from mnv2_kernels.bench.report import charts
from mnv2_kernels.bench.report.drawing import Drawing
from mnv2_kernels.bench.report.page import SECTIONS, Section, make_page
from mnv2_kernels.bench.results import read_results
from mnv2_kernels.cli.app import main

Capture = pytest.CaptureFixture[str]

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
FIGURES = ["peers", "traffic", "roofline", "memory", "splits", "bottleneck", "headlines", "scaling"]
LARGEST_BYTES = 3_000_000


@pytest.fixture(scope="module")
def page() -> str:
    return make_page(RESULTS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the results, to be changed."""
    copy = tmp_path / "results"
    copy.mkdir()
    for section in SECTIONS:
        shutil.copy(section.file(RESULTS), copy)
    return copy


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without charts a page is made at once."""
    monkeypatch.setattr(charts, "draw", lambda name, shows, _: Drawing(name, shows, "", ""))


# --- the page ---


def test_every_section_has_its_figure_its_table_and_its_source(page: str) -> None:
    assert re.findall(r'<figure id="figure-(\w+)"', page) == FIGURES
    assert "Not measured yet" not in page
    for section in SECTIONS:
        header = json.loads(section.file(RESULTS).read_text())["header"]
        (part,) = re.findall(rf'<section id="{section.kind}">.*?</section>', page, re.DOTALL)
        part = html.unescape(part)
        assert f"<h2>{section.title}</h2>" in part
        assert "<table" in part
        for source in (header["machine"]["processor"], header["isa"], header["commit"], header["command"]):
            assert source in part


def test_it_opens_offline(page: str) -> None:
    assert len(page.encode()) < LARGEST_BYTES
    assert not re.findall(r'\b(?:src|href)="(?!#)[^"]*"', page)
    assert not re.findall(r"url\((?!#)|@import|<script|<link", page)


def test_ids_are_unique(page: str) -> None:
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'(?:url\(|href=")#([^")]*)', page)) <= set(ids)


def test_its_figures_are_those_of_the_files(tmp_path: Path) -> None:
    content = json.loads((RESULTS / "peers.json").read_text())
    content["rows"][0]["median_ms"] = 98.76
    (tmp_path / "peers.json").write_text(json.dumps(content))
    # In the sentence, in the table, and as the label of a bar in both drawings.
    assert make_page(tmp_path).count("98.76") == 4


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.kind)
def test_a_section_without_results_names_its_command(section: Section, folder: Path) -> None:
    section.file(folder).unlink()
    page = make_page(folder)
    assert f"<code>{section.command} --json {section.file(folder)}</code>" in page
    assert page.count("<figure") == len(FIGURES) - 1


def test_a_page_without_optional_figures(tmp_path: Path) -> None:
    """Eager's traffic left out, no memory that the C library tells, no peer but ours."""
    for name, change in {
        "traffic": {"eager_bytes": None, "eager_channels_last_bytes": None},
        "memory": {"scratch_bytes": None, "fused_peak_bytes": None},
        "peers": {},
    }.items():
        content = json.loads((RESULTS / f"{name}.json").read_text())
        rows = content["rows"][:1] if name == "peers" else content["rows"]
        content["rows"] = [{**row, **change} for row in rows]
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    page = make_page(tmp_path)
    assert page.count("<figure") == 3
    assert re.search(r"fused takes [\d.]+ ms an image\.", page)
    assert "Without a time" not in page
    assert "None" not in page


@pytest.mark.usefixtures("undrawn")
def test_a_peer_without_a_time_says_why() -> None:
    page = html.unescape(make_page(RESULTS))
    obstacles = {row.obstacle for row in read_results(RESULTS / "peers.json", PeerRow).rows} - {None}
    assert obstacles
    assert all(f"{obstacle} (" in page for obstacle in obstacles)


# --- colours ---


# --- the command ---


@pytest.mark.usefixtures("undrawn")
def test_the_command(capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert main(["report", "--results", str(RESULTS), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: open it in a browser\n"
    assert out.read_text(encoding="utf-8") == make_page(RESULTS)


@pytest.mark.usefixtures("undrawn")
def test_no_results(capsys: Capture, tmp_path: Path) -> None:
    message = refusal(capsys, ["report", "--results", tmp_path])
    assert (
        f"{tmp_path}: no results files; the first is made by: mnv2 bench --json {tmp_path}/peers.json"
        in message
    )


@pytest.mark.usefixtures("undrawn")
def test_a_file_of_something_else(capsys: Capture, folder: Path) -> None:
    (folder / "scaling.json").write_text("{}")
    assert "scaling.json: not results of schema" in refusal(capsys, ["report", "--results", folder])


def test_what_draws_has_to_be_installed(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "NEEDED", ("no_such_module",))
    assert "mnv2 report needs no_such_module: pip install" in refusal(capsys, ["report"])
