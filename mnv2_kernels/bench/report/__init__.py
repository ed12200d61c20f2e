"""`mnv2 report`: one page of all results files.

``write_report`` makes it of sections (sections.py), each of one results file: a few words, charts (charts.py,
drawn by matplotlib in both widths of drawing.py) and tables, put into page.html.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from .. import BenchError
from ..subject import INSTALL

# Where the commands of the README put results, from the checkout's root.
DEFAULT_RESULTS = Path("benchmarks/results")

NEEDED = ("jinja2", "matplotlib")


def write_report(folder: Path, out: Path) -> None:
    """Writes a page of the results files in a folder.

    Raises BenchError where matplotlib or results are missing, one cannot be read, or the page not be written.
    """
    if missing := [module for module in NEEDED if importlib.util.find_spec(module) is None]:
        raise BenchError(f"mnv2 report needs {' and '.join(missing)}: {INSTALL}")
    from .page import make_page

    page = make_page(folder)
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BenchError(f"{out}: {error.strerror}") from error
