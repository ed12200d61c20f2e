"""Last-level cache misses of a program, counted by callgrind between marked calls.

Callgrind has cachegrind's simulator and can begin and end a count where the program calls a function of its
own: ``mnv2_count_begin`` and ``mnv2_count_end`` of ``_native`` (csrc/cpu/measure/block_run.h). So one
process, which has to start under valgrind only once, gives many exact counts without its start and without
warm-up.
Cachegrind counts whole processes; differences of two runs would need two for each figure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .. import BenchError

LINE_BYTES = 64
WAYS = 16
# The same first-level caches whatever this machine's are: a count is the same everywhere.
FIRST_LEVEL = f"{32 << 10},8,{LINE_BYTES}"
SMALLEST_CACHE = 64 << 10

# Functions of _native that do nothing else than to be called.
BEGIN, END = "mnv2_count_begin", "mnv2_count_end"

MISSES = ("DLmr", "DLmw")  # of loads and of stores


class TrafficError(BenchError):
    """Nothing can be counted: no valgrind, no such cache, or a program that failed in it."""


@dataclass(frozen=True)
class Count:
    """What a program does between two marks: instructions, and lines that the last-level cache fetches."""

    instructions: int
    misses: int

    @property
    def bytes(self) -> int:
        return self.misses * LINE_BYTES


def check_cache(cache_bytes: int) -> None:
    """Raises TrafficError for a last-level cache that callgrind cannot simulate behind its first level."""
    if cache_bytes < SMALLEST_CACHE or cache_bytes & (cache_bytes - 1):
        raise TrafficError(
            f"a cache of {cache_bytes} bytes: expected a power of two, at least {SMALLEST_CACHE >> 10} KiB"
        )


def count_misses(
    command: Sequence[str], cache_bytes: int, simulate_at_start: bool = True
) -> tuple[list[Count], str]:
    """Runs a program with one thread under callgrind: a count for each pair of marks, and its stdout.

    ``simulate_at_start`` is False for a program that calls start_simulation; until then it runs faster.
    Raises TrafficError where there is no valgrind or no such last-level cache, or the program fails.
    """
    check_cache(cache_bytes)
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise TrafficError("valgrind is not installed (Debian's package has that name)")
    with TemporaryDirectory() as folder:
        counts = Path(folder) / "counts"
        options = [
            "--tool=callgrind",
            "--quiet",
            "--cache-sim=yes",
            f"--instr-atstart={'yes' if simulate_at_start else 'no'}",
            f"--D1={FIRST_LEVEL}",
            f"--I1={FIRST_LEVEL}",
            f"--LL={cache_bytes},{WAYS},{LINE_BYTES}",
            f"--zero-before={BEGIN}",
            f"--dump-before={END}",
            f"--callgrind-out-file={counts}",
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([valgrind, *options, *command], capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise TrafficError(f"{command[0]} under valgrind: {_last_line(done.stderr)}")
        dumps = sorted(counts.parent.glob("counts.*"), key=lambda path: int(path.suffix[1:]))
        return [parse_count(path.read_text()) for path in dumps], done.stdout


def start_simulation() -> None:
    """Called by a program under callgrind. Until then it takes a sixth of the time to import torch."""
    command = ["vgdb", f"--pid={os.getpid()}", "instrumentation", "on"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Callgrind looks for commands between blocks of code; asleep, this process would not get there.
    while process.poll() is None:
        pass
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} returned {process.returncode}")


def parse_count(dump: str) -> Count:
    """The totals of one of callgrind's files. Raises TrafficError where it is none."""
    lines = dict(line.split(": ", 1) for line in dump.splitlines() if ": " in line)
    try:
        # Callgrind leaves out zeros at the end of the line.
        events, numbers = lines["events"].split(), map(int, lines["totals"].split())
    except KeyError as missing:
        raise TrafficError(f"not a file of callgrind's: no {missing}") from None
    totals = dict.fromkeys(events, 0) | dict(zip(events, numbers, strict=False))
    return Count(totals["Ir"], sum(totals[event] for event in MISSES))


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else "failed"
