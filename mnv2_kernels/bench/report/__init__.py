"""`mnv2 report`: one page of all results files.

``write_report`` makes it of sections (sections.py), each of one results file: a few words, charts (charts.py,
drawn by matplotlib in both widths of drawing.py) and tables, put into page.html.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from .. import BenchError
from ..subject import INSTALL

# Where the commands of the README put results, from the checkout's root.
DEFAULT_RESULTS = Path("benchmarks/results")

DRAWING = ("matplotlib",)
NEEDED = ("jinja2", *DRAWING)


def write_report(folder: Path, out: Path) -> None:
    """Writes a page of the results files in a folder.

    Raises BenchError where matplotlib or results are missing, one cannot be read, or the page not be written.
    """
    _check_installed("mnv2 report", NEEDED)
    from .page import make_page

    page = make_page(folder)
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BenchError(f"{out}: {error.strerror}") from error


def draw_bottleneck(out: Path) -> None:
    """Draws the spirals of `mnv2 bottleneck` as a PNG file.

    Raises BenchError where matplotlib is missing or the file cannot be written.
    """
    _check_installed("mnv2 bottleneck", DRAWING)
    from .charts import bottleneck_png

    bottleneck_png(out)


def _check_installed(command: str, needed: Sequence[str]) -> None:
    if missing := [module for module in needed if importlib.util.find_spec(module) is None]:
        raise BenchError(f"{command} needs {' and '.join(missing)}: {INSTALL}")
