"""Parts of a check, one after the other, each within its time and none hiding another."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "build" / "gpu-check"

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
SHOWN_LINES = 15  # of what failed
LEAST_S = 5.0  # nothing is worth starting in less
STOP_S = 10.0  # for a stopped command to end


class Failed(Exception):
    """A part failed; the message says how, in a line."""


class Skipped(Exception):
    """A part cannot run here; the message says why, in a line."""


@dataclass(frozen=True)
class Part:
    """``run`` gets the seconds that it may take, returns a line about what it did, or raises."""

    name: str
    budget_s: float
    run: Callable[[float], str]


@dataclass(frozen=True)
class Result:
    name: str
    state: str
    seconds: float
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.state} in {self.seconds:.0f} s{': ' if self.detail else ''}{self.detail}"


def run_parts(
    parts: Sequence[Part], total_s: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[Result]:
    """The result of each, as it ends; what the time does not reach has failed."""
    end = clock() + total_s
    for part in parts:
        start = clock()
        seconds = min(part.budget_s, end - start)
        if seconds < LEAST_S:
            yield Result(part.name, FAILED, 0.0, "not run: no time left")
            continue
        state, detail = _run_part(part, seconds)
        yield Result(part.name, state, clock() - start, detail)


def _run_part(part: Part, seconds: float) -> tuple[str, str]:
    try:
        return PASSED, part.run(seconds)
    except Skipped as reason:
        return SKIPPED, str(reason)
    except Failed as reason:
        return FAILED, str(reason)
    except Exception as error:  # the parts behind it are to run
        return FAILED, f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class Done:
    """A command that ended, or was stopped (``returncode`` None)."""

    command: Sequence[str]
    returncode: int | None
    output: str

    def require_success(self) -> None:
        """Prints the end of the output and raises Failed unless the command succeeded."""
        if self.returncode == 0:
            return
        print("\n".join(self.output.splitlines()[-SHOWN_LINES:]), flush=True)
        how = "out of time" if self.returncode is None else f"exit code {self.returncode}"
        raise Failed(f"{how}: {shlex.join(map(str, self.command))}")


def _python_path() -> str:
    """This checkout first: scripts see their own folder alone, and an installed package is another build."""
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


class Command:
    """A running command; its output goes to a file of its own in LOGS."""

    def __init__(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        LOGS.mkdir(parents=True, exist_ok=True)
        self._command = [str(part) for part in command]
        self._log = LOGS / f"{name}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": _python_path(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, seconds: float) -> Done:
        """Stops it, and all that it started, where it takes longer."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):  # the driver may hold a process longer
                self._process.wait(STOP_S)
            code = None
        return Done(self._command, code, self._log.read_text(errors="replace"))


def run_command(name: str, command: Sequence[str | Path], seconds: float, **environment: str) -> Done:
    return Command(name, command, environment).wait(seconds)
