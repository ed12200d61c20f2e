"""Builds, tests and times the CUDA kernels on this machine's GPU, in under nine minutes: `make gpu-check`.

    python benchmarks/gpu/check.py [PART...]

Needs CMake, Ninja, nvcc, a GPU and the Python packages, but no network, nor this package installed: it is
built in place. Results go to benchmarks/results/<gpu>.json, logs to build/gpu-check. Without a GPU it builds
everything and says that there is none. The exit code is 0 where all parts passed, or cannot run here for a
reason that is printed. Naming parts runs only these; their results go to <gpu>-<parts>.json, so that a run of
all parts keeps its own.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import ncu
import summary
from parts import FAILED, ROOT, Command, Done, Failed, Part, Result, Skipped, run_command, run_parts

TOTAL_S = 510.0  # of nine minutes; the rest is for starting, stopping and writing
UNLIMITED_S = 3600.0  # of a build without a GPU, whose time nobody pays for

PROGRAMS = ROOT / "build" / "gpu"
RESULTS = ROOT / "benchmarks" / "results"
GPU = ROOT / "benchmarks" / "gpu"
PYTHON_TESTS = ("tests/test_triton_kernels.py", "tests/test_triton_ops.py", "tests/test_cuda_*.py")
PYTEST_PROCESSES = 8

# The tests of small shapes, which every program has. The emulator runs them under several schedules.
SMALL_TESTS = "schedule"

# What has to pass before a kernel is timed.
ACCURACY_TESTS = "accurate"

NOTHING_TO_CHECK = 2

CUDA_PLACE = "/usr/local/cuda/bin"  # on PATH or not


@dataclass(frozen=True)
class Gpu:
    name: str
    capability: str  # as 9.0
    driver: str  # the CUDA release that it serves

    def file_name(self, named: Sequence[str] = ()) -> str:
        """ "NVIDIA H100 80GB HBM3" is h100-80gb-hbm3.json; the parts that were named come behind it."""
        words = " ".join((self.name.lower().removeprefix("nvidia "), *named))
        return "-".join(re.findall(r"[a-z0-9]+", words)) + ".json"


# --- what there is ---


def find_nvcc() -> str | None:
    """Where CMake finds it, too: in CUDA_HOME, on PATH or among pip's packages."""
    pip = map(str, Path(sysconfig.get_path("purelib")).glob("nvidia/cu*/bin"))
    from_home = [f"{home}/bin"] if (home := os.environ.get("CUDA_HOME")) else []
    places = (*from_home, None, *pip)
    return next((found for place in places if (found := shutil.which("nvcc", path=place))), None)


def find_gpu(library: str = "libcuda.so.1") -> Gpu | str:
    """The first GPU, as the driver describes it, or why there is none."""
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return f"no GPU: the NVIDIA driver is missing ({library} does not load)"
    no_device = 100
    if code := cuda.cuInit(0):
        return (
            "no GPU: the NVIDIA driver finds none" if code == no_device else f"no GPU: cuInit fails ({code})"
        )
    name = ctypes.create_string_buffer(256)
    version, device = ctypes.c_int(), ctypes.c_int()
    major, minor = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceGet(ctypes.byref(device), 0)
    cuda.cuDeviceGetName(name, len(name), device)
    for attribute, value in ((75, major), (76, minor)):  # of the compute capability
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Gpu(name.value.decode(), f"{major.value}.{minor.value}", driver)


# --- parts ---


def build(seconds: float) -> str:
    """The GPU programs and the package, side by side."""
    configure = ("cmake", "--preset", "gpu", f"-DPython_EXECUTABLE={sys.executable}")
    run_command("configure", configure, seconds).require_success()
    commands = [
        Command("programs", ("cmake", "--build", "--preset", "gpu"), {}),
        Command(
            "package", (sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"), {"MNV2_CUDA": "on"}
        ),
    ]
    require_all(run_side_by_side(commands, seconds))
    return f"{len(gpu_programs('test'))} test programs and the package"


def gpu_programs(kind: str) -> list[Path]:
    """The programs that were built: gpu_test_* or gpu_time_*."""
    found = sorted(PROGRAMS.glob(f"gpu_{kind}_*"))
    if not found:
        raise Failed(f"no gpu_{kind}_* in {PROGRAMS.relative_to(ROOT)}: not built")
    return found


def run_one_by_one(
    programs: Sequence[Path], seconds: float, prefix: Sequence[str] = (), arguments: Sequence[str] = ()
) -> list[Done]:
    """Runs programs, each in its share of the time that those before it left."""
    label = "-".join(Path(part).name.strip("-") for part in (*prefix, ""))
    end = time.monotonic() + seconds
    done = []
    for left, program in zip(range(len(programs), 0, -1), programs, strict=True):
        share = max(0.0, end - time.monotonic()) / left
        done.append(run_command(f"{label}{program.name}", (*prefix, program, *arguments), share))
    return done


def run_side_by_side(commands: Sequence[Command], seconds: float) -> list[Done]:
    """Waits for commands that run already."""
    end = time.monotonic() + seconds
    return [command.wait(max(0.0, end - time.monotonic())) for command in commands]


def require_all(done: Sequence[Done]) -> None:
    """Raises Failed with the name of every command that failed."""
    failed = []
    for each in done:
        try:
            each.require_success()
        except Failed as reason:
            failed.append(str(reason))
    if failed:
        raise Failed("; ".join(failed))


def test_programs(seconds: float) -> str:
    """Side by side: most of their time is the host's."""
    done = run_side_by_side([Command(each.name, (each,), {}) for each in gpu_programs("test")], seconds)
    require_all(done)
    return f"{sum(each.output.count('ok   ') for each in done)} tests of {len(done)} programs"


def test_python(seconds: float) -> str:
    """The GPU's tests, Triton's among them."""
    files = sorted(str(path.relative_to(ROOT)) for glob in PYTHON_TESTS for path in ROOT.glob(glob))
    parallel = importlib.util.find_spec("xdist") is not None
    options = ("--numprocesses", str(PYTEST_PROCESSES)) if parallel else ()
    done = run_command("pytest", (sys.executable, "-m", "pytest", "-q", *options, *files), seconds)
    done.require_success()
    return done.output.splitlines()[-1].strip("= ")


def sanitize(tool: str, seconds: float) -> str:
    """compute-sanitizer's tool over the small tests."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        raise Skipped("compute-sanitizer is not installed")
    prefix = (program, "--tool", tool, "--error-exitcode", "1")
    done = run_one_by_one(gpu_programs("test"), seconds, prefix, (SMALL_TESTS,))
    if any("Device not supported" in each.output for each in done):
        raise Skipped("compute-sanitizer does not support this device")
    require_all(done)
    return f"no error in {len(done)} programs"


def count_traffic(rows: dict[str, Any], seconds: float) -> str:
    """DRAM bytes of each block, by Nsight Compute."""
    program = shutil.which("ncu")
    if program is None:
        raise Skipped("ncu is not installed")
    script = (sys.executable, GPU / "blocks.py", "--once", "--batch", str(ncu.BATCH))
    done = run_command("ncu", (program, *ncu.OPTIONS, *script), seconds, MNV2_GPU_BACKEND="cuda")
    if reason := ncu.obstacle(done.output):
        raise Skipped(reason)
    done.require_success()
    rows["traffic"] = ncu.parse(done.output)
    ratio = ncu.total_ratio(rows["traffic"])
    return f"{len(rows['traffic'])} blocks, {ratio:.2f} times the floor in all"


@dataclass(frozen=True)
class Script:
    """A script of this folder that prints a line of JSON for each row; the results have them under kind."""

    kind: str
    name: str
    arguments: tuple[str, ...] = ()
    backend: str = "cuda"

    def measure(self, rows: dict[str, Any], seconds: float) -> str:
        """Rows before it is stopped count."""
        label = "-".join((Path(self.name).stem, self.backend, *self.arguments))
        command = (sys.executable, GPU / self.name, *self.arguments)
        done = run_command(label, command, seconds, MNV2_GPU_BACKEND=self.backend)
        new = ncu.rows_of(done.output)
        rows.setdefault(self.kind, []).extend(new)
        wrong = [
            f"{row['variant']}, {row['dtype']}, batch {row['batch']}: {row['obstacle']}"
            for row in new
            if row.get("obstacle")
        ]
        if wrong:
            raise Failed("; ".join(wrong))
        if new and done.returncode is None:
            return f"{len(new)} rows, then out of time"
        done.require_success()
        if not new:
            raise Failed(f"{self.name} printed no rows")
        return f"{len(new)} rows"


def measure_triton(script: Script, rows: dict[str, Any], seconds: float) -> str:
    if importlib.util.find_spec("triton") is None:
        raise Skipped("Triton is not installed")
    return script.measure(rows, seconds)


def time_programs(rows: dict[str, Any], seconds: float) -> str:
    """Times the kernels whose results are right; rows before a program is stopped count."""
    end = time.monotonic() + seconds
    programs = gpu_programs("time")
    tests = [program.with_name(program.name.replace("gpu_time", "gpu_test")) for program in programs]
    commands = [Command(f"{test.name}-{ACCURACY_TESTS}", (test, ACCURACY_TESTS), {}) for test in tests]
    verified = run_side_by_side(commands, seconds)
    right = [program for program, done in zip(programs, verified, strict=True) if done.returncode == 0]
    timed = run_one_by_one(right, end - time.monotonic())
    rows["programs"] = [row for each in timed for row in summary.parse_tables(each.output)]
    require_all((*verified, *timed))
    return f"{len(rows['programs'])} rows"


def parts(rows: dict[str, Any]) -> list[Part]:
    """In order of what matters most, should the time not reach; a GPU's results go to rows."""
    return [
        Part("build", 180.0, build),
        Part("programs", 60.0, test_programs),
        Part("python tests", 90.0, test_python),
        Part("network", 60.0, partial(Script("network", "network.py").measure, rows)),
        Part("blocks", 40.0, partial(Script("blocks", "blocks.py").measure, rows)),
        Part(
            "triton",
            60.0,
            partial(measure_triton, Script("network", "network.py", ("fused",), "triton"), rows),
        ),
        Part("timings", 60.0, partial(time_programs, rows)),
        Part("memcheck", 40.0, partial(sanitize, "memcheck")),
        Part("racecheck", 40.0, partial(sanitize, "racecheck")),
        Part("traffic", 60.0, partial(count_traffic, rows)),
        # Compiles for minutes: gets what is left.
        Part(
            "max-autotune", TOTAL_S, partial(Script("network", "network.py", ("max-autotune",)).measure, rows)
        ),
    ]


# --- all of it ---


def commit() -> str:
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        said = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:  # no git
        said = ""
    return said or "unknown"


def write(path: Path, gpu: Gpu, results: Sequence[Result], rows: dict[str, Any]) -> None:
    content = {
        "kind": "gpu-check",
        "gpu": asdict(gpu),
        "commit": commit(),
        "python": platform.python_version(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "parts": [asdict(result) for result in results],
        **rows,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    rows: dict[str, Any] = {}
    known = {part.name: part for part in parts(rows)}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="*", help=f"of {', '.join(known)}; all by default", metavar="PART")
    chosen = parser.parse_args(arguments).part
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"unknown part {unknown[0]!r}; there are: {', '.join(known)}")

    # This environment comes first, activated or not, for pip's cmake and ninja; CUDA's own tools come last.
    places = (sysconfig.get_path("scripts"), os.environ["PATH"], CUDA_PLACE)
    os.environ["PATH"] = os.pathsep.join(places)
    nvcc, gpu = find_nvcc(), find_gpu()
    if nvcc is None:
        print("gpu-check: no nvcc: it is neither on PATH, nor in CUDA_HOME, nor installed by pip", flush=True)
        return NOTHING_TO_CHECK
    print(f"gpu-check: {nvcc}; {gpu if isinstance(gpu, str) else gpu.name}", flush=True)
    if isinstance(gpu, str):
        (result,) = run_parts([Part("build", UNLIMITED_S, build)], UNLIMITED_S)
        print(f"{result}\ngpu-check: {gpu}: built, nothing was run", flush=True)
        return NOTHING_TO_CHECK

    named = [name for name in known if name in chosen]
    path = RESULTS / gpu.file_name(named)
    results = []
    for result in run_parts([known[name] for name in named or known], TOTAL_S):
        print(result, flush=True)
        results.append(result)
        write(path, gpu, results, rows)  # each time: whoever stops this keeps what was measured
    print(f"\n{summary.text(rows)}\n{path.relative_to(ROOT)}")
    failed = [result.name for result in results if result.state == FAILED]
    print(f"gpu-check: {'failed: ' + ', '.join(failed) if failed else 'passed'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
