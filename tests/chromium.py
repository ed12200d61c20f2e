"""A page in headless Chromium, in frames of several widths, and what is to be seen there."""

from __future__ import annotations

import html
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=5000",
)
TIMEOUT_S = 60

# For each frame: the page's width and the frame's, elements that reach over its edge outside of a container
# that scrolls, tables whose first column, which stays in place, leaves no room for the others, and of each
# figure the drawing that is shown: its size, and texts that it cuts off.
MEASURE = """
const seen = [...document.querySelectorAll("iframe")].map((frame) => {
  const page = frame.contentDocument, root = page.documentElement;
  const outside = [...page.querySelectorAll("body *")].filter((element) => !element.closest(".scroll, svg")
    && element.getBoundingClientRect().right > root.clientWidth + 1);
  const crowded = [...page.querySelectorAll("table")].filter((table) =>
    table.rows[0].cells[0].offsetWidth > 0.6 * table.parentElement.clientWidth);
  const figures = [...page.querySelectorAll("figure")].map((figure) => {
    const shown = [...figure.querySelectorAll("svg")].filter((svg) => svg.getBoundingClientRect().width > 0);
    const box = shown[0].getBoundingClientRect();
    const cut = [...shown[0].querySelectorAll("text")].filter((text) => {
      const own = text.getBoundingClientRect();
      return own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1
        || own.bottom > box.bottom + 1;
    });
    return {id: figure.id, shown: shown.length, width: box.width, height: box.height,
      cut: cut.map((text) => text.textContent)};
  });
  return {width: root.clientWidth, scroll_width: root.scrollWidth, figures,
    crowded: crowded.map((table) => table.rows[0].textContent),
    outside: outside.map((element) => element.outerHTML.slice(0, 80))};
});
document.body.textContent = "";
document.body.dataset.seen = JSON.stringify(seen);
"""


def look(page: str, widths: tuple[int, ...], folder: Path) -> list[dict[str, Any]]:
    """What MEASURE tells of a page at each width."""
    frames = "".join(
        f'<iframe style="width:{width}px;height:800px;border:0" srcdoc="{html.escape(page)}"></iframe>'
        for width in widths
    )
    wrapper = folder / "frames.html"
    script = f"<script>window.onload = () => {{{MEASURE}}}</script>"
    wrapper.write_text(f"<!doctype html><meta charset=utf-8><body>{frames}{script}", encoding="utf-8")
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", wrapper.as_uri()]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    seen = done.stdout.partition('data-seen="')[2].partition('"')[0]
    return json.loads(html.unescape(seen))
