"""What the command line prints, to a terminal or into a pipe."""

from __future__ import annotations

import json
import math

from rich.console import Console, RenderableType

# A pipe has no width; enough for most labels of ImageNet.
PIPE_WIDTH = 110


def show(result: RenderableType | dict[str, object]) -> None:
    """Prints a table, or a dictionary as JSON."""
    if isinstance(result, dict):
        print(json.dumps(_finite(result), indent=2))
        return
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(result)
    else:
        print(_plain(result))


def _plain(result: RenderableType) -> str:
    """What a file or another program gets: no colours, no trailing blanks."""
    console = Console(width=PIPE_WIDTH, highlight=False, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(result)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _finite(value: object) -> object:
    """JSON knows neither NaN nor infinity: null stands for both."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
