"""DRAM traffic of blocks.py --once, as Nsight Compute counts it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from parts import Failed

METRICS = {"dram__bytes_read.sum": "read_bytes", "dram__bytes_write.sum": "written_bytes"}
ROW = '{"variant":'  # how a line of the scripts' JSON begins
BATCH = 256  # whose tensors exceed the second-level cache: what stays there never shows as traffic

# By default the cache is empty before each kernel. Clocks change no bytes, and setting them needs rights.
OPTIONS = (
    *("--metrics", ",".join(METRICS), "--csv", "--print-units", "base", "--clock-control", "none"),
    *("--profile-from-start", "off", "--nvtx", "--print-nvtx-rename", "kernel", "--target-processes", "all"),
)

OBSTACLES = {
    "ERR_NVGPUCTRPERM": "ncu may not read the GPU's counters (ERR_NVGPUCTRPERM)",
    "Failed to initialize the profiler": "ncu cannot start its profiler on this machine",
}


def obstacle(output: str) -> str | None:
    """Why ncu cannot count here."""
    return next((reason for mark, reason in OBSTACLES.items() if mark in output), None)


def rows_of(output: str) -> list[dict[str, Any]]:
    """What a script printed, but for a line that it was stopped in."""
    rows = []
    for line in output.splitlines():
        with suppress(json.JSONDecodeError):
            rows += [json.loads(line)] if line.startswith(ROW) else []
    return rows


def parse(output: str) -> list[dict[str, Any]]:
    """A row for each block, with the bytes of its kernels. Raises Failed where ncu counted none of one."""
    lines = output.splitlines()
    # The rows of blocks.py say what the blocks are.
    blocks = {row["block"]: row for row in rows_of(output)}
    for row in blocks.values():
        row |= dict.fromkeys(METRICS.values(), 0)
    start = next((index for index, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        raise Failed("ncu counted nothing")
    table = [line for line in lines[start:] if line.startswith('"')]
    # A kernel's range is in its name or in a column of its own, as the version of ncu has it.
    name = re.compile("|".join(sorted(map(re.escape, blocks), key=len, reverse=True)) or "(?!)")
    for kernel in csv.DictReader(table):
        found = name.search(" ".join(value for value in kernel.values() if isinstance(value, str)))
        if found and (metric := METRICS.get(kernel["Metric Name"])):
            blocks[found[0]][metric] += int(float(kernel["Metric Value"].replace(",", "")))
    if empty := [block for block, row in blocks.items() if not row["read_bytes"]]:
        raise Failed(f"ncu counted nothing of {', '.join(empty)}")
    for row in blocks.values():
        row["ratio"] = round((row["read_bytes"] + row["written_bytes"]) / row["floor_bytes"], 3)
    return list(blocks.values())


def total_ratio(rows: Sequence[dict[str, Any]]) -> float:
    """Bytes of all blocks of the network over their floor."""
    moved = sum(row["blocks"] * (row["read_bytes"] + row["written_bytes"]) for row in rows)
    return moved / sum(row["blocks"] * row["floor_bytes"] for row in rows)
