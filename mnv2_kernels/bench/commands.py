"""The benchmarks' commands, which cli.py takes over."""

from __future__ import annotations

import typer

app = typer.Typer()
