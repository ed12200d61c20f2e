"""The README's figures are those of the results files."""

from __future__ import annotations

import pytest
import readme

from mnv2_kernels.bench.compare import PeerRow
from mnv2_kernels.bench.results import read_results


def test_the_table_is_generated_from_the_results():
    text = readme.README.read_text()
    table = readme.generate(read_results(readme.RESULTS, PeerRow))
    assert readme.between_markers(text, table) == text, "run python benchmarks/readme.py"


def test_another_figure_is_noticed():
    text = readme.README.read_text()
    table = readme.generate(read_results(readme.RESULTS, PeerRow))
    assert readme.between_markers(text, table.replace("1 thread", "3 threads")) != text


def test_markers_are_needed():
    with pytest.raises(SystemExit, match="expected the markers"):
        readme.between_markers("no table here", "| |")
