"""`make gpu-check` without a GPU: what it says where something lacks, and its parts with faked commands."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import check
import ncu
import parts
import pytest
import replay
import torch
from parts import FAILED, PASSED, SKIPPED, Done, Failed, Part, run_parts

from mnv2_kernels.bench.setting import Setting
from mnv2_kernels.bench.subject import Subject
from mnv2_kernels.shapes import mobilenet_v2

H100 = check.Gpu("NVIDIA H100 80GB HBM3", "9.0", "13.0")

NETWORK_ROW = {"variant": "eager", "dtype": "float16", "batch": 8, "us": 640.0, "images_per_s": 12500}
BLOCK_ROW = {"variant": "fused", "block": "56x56 24-144-24 s1", "batch": 1, "us_image": 6.5}
NCU_OUTPUT = """==PROF== Connected to process 7
{"variant": "fused, triton", "block": "56x56 24-144-24 s1", "blocks": 1, "batch": 256, "floor_bytes": 1000}
{"variant": "fused, triton", "block": "14x14 64-384-64 s1", "blocks": 3, "batch": 256, "floor_bytes": 500}
==PROF== Disconnected from process 7
"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","56x56 24-144-24 s1/tile","dram__bytes_read.sum","byte","700"
"0","56x56 24-144-24 s1/tile","dram__bytes_write.sum","byte","500"
"1","14x14 64-384-64 s1/first","dram__bytes_read.sum","byte","1,000"
"1","14x14 64-384-64 s1/first","dram__bytes_write.sum","byte","0"
"2","14x14 64-384-64 s1/second","dram__bytes_read.sum","byte","0"
"2","14x14 64-384-64 s1/second","dram__bytes_write.sum","byte","500"
"""


class Commands:
    """Stands in for everything that check.py starts: output and exit code by a word in the command."""

    def __init__(self, answers: Mapping[str, tuple[int | None, str]]) -> None:
        self.answers = answers
        self.started: list[str] = []

    def run(self, name: str, command: Sequence[str | Path], seconds: float, **environment: str) -> Done:
        line = " ".join(map(str, command))
        self.started.append(line)
        code, output = next((answer for word, answer in self.answers.items() if word in line), (0, ""))
        return Done(list(map(str, command)), code, output)

    def command(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str]) -> Running:
        return Running(lambda seconds: self.run(name, command, seconds, **environment))


class Running(NamedTuple):
    wait: Callable[[float], Done]


@pytest.fixture
def faked(monkeypatch, tmp_path):
    """Makes check.py see a GPU, tools and programs that are not there: faked(answers) gives the commands."""

    def fake(answers: Mapping[str, tuple[int | None, str]], gpu: check.Gpu | str = H100) -> Commands:
        commands = Commands(answers)
        for name in ("gpu_test_one", "gpu_test_two", "gpu_time_one"):
            (tmp_path / name).touch()
        monkeypatch.setattr(check, "ROOT", tmp_path)
        monkeypatch.setattr(check, "PROGRAMS", tmp_path)
        monkeypatch.setattr(check, "RESULTS", tmp_path)
        monkeypatch.setattr(check, "run_command", commands.run)
        monkeypatch.setattr(check, "Command", commands.command)
        monkeypatch.setattr(check, "find_nvcc", lambda: "/cuda/bin/nvcc")
        monkeypatch.setattr(check, "find_gpu", lambda: gpu)
        monkeypatch.setattr(check.shutil, "which", lambda name, path=None: f"/cuda/bin/{name}")
        return commands

    return fake


ALL_WELL = {
    "--tool": (0, "========= ERROR SUMMARY: 0 errors"),
    "bin/ncu": (0, NCU_OUTPUT),
    "gpu_test": (0, "ok   a (1 checks)\nok   b (1 checks)"),
    "gpu_time": (0, "H100\n| block | us |\n|---|---|\n| 16-96-24 | 7.1 |"),
    "-m pytest": (0, "...\n82 passed in 9.00s"),
    "network.py": (0, json.dumps(NETWORK_ROW)),
    "blocks.py": (0, json.dumps(BLOCK_ROW)),
}


def results_of(folder: Path, *named: str) -> dict[str, object]:
    return json.loads((folder / H100.file_name(named)).read_text())


# --- what there is ---


def test_gpu_check_without_nvcc_says_so(monkeypatch, capsys):
    monkeypatch.setattr(check, "find_nvcc", lambda: None)
    assert check.main([]) == check.NOTHING_TO_CHECK
    assert "no nvcc: it is neither on PATH, nor in CUDA_HOME, nor installed by pip" in capsys.readouterr().out


def test_gpu_check_without_a_driver_says_so():
    assert "the NVIDIA driver is missing (libnone.so does not load)" in check.find_gpu("libnone.so")


def test_gpu_check_without_a_gpu_builds_and_says_so(faked, capsys):
    commands = faked({}, gpu="no GPU: the NVIDIA driver finds none")
    assert check.main([]) == check.NOTHING_TO_CHECK
    assert [line.split()[0] for line in commands.started] == ["cmake", "cmake", sys.executable]
    assert "no GPU: the NVIDIA driver finds none: built, nothing was run" in capsys.readouterr().out


# --- all parts ---


def test_gpu_check_runs_all_parts_and_writes_results(faked, capsys, tmp_path):
    faked(ALL_WELL)
    assert check.main([]) == 0
    out = capsys.readouterr().out
    assert out.rstrip().endswith("gpu-check: passed")
    for part in check.parts({}):
        assert f"{part.name}: {PASSED}" in out
    results = results_of(tmp_path)
    assert results["network"] == [NETWORK_ROW] * 3  # Triton's and max-autotune's, too
    assert results["programs"] == [{"block": "16-96-24", "us": "7.1"}]
    assert [row["ratio"] for row in results["traffic"]] == [1.2, 3.0]
    assert results["gpu"]["name"] == H100.name


def test_gpu_check_runs_only_the_parts_that_are_named(faked, tmp_path):
    commands = faked(ALL_WELL)
    assert check.main(["memcheck"]) == 0
    assert all("--tool memcheck" in line and line.endswith("schedule") for line in commands.started)
    assert len(commands.started) == 2


@pytest.mark.parametrize(
    ("answers", "failed"),
    [
        ({"cmake --preset": (1, "no compiler")}, "build"),
        ({"cmake --build": (1, "spills")}, "build"),
        ({"setup.py": (1, "")}, "build"),
        ({"gpu_test_two schedule": (1, "race")}, "memcheck, racecheck"),
        ({"gpu_test_one accurate": (1, "wrong")}, "timings"),
        ({"-m pytest": (1, "1 failed")}, "python tests"),
        ({"network.py": (1, "no torchvision")}, "network, triton, max-autotune"),
        ({"blocks.py": (None, "")}, "blocks, traffic"),
        (
            {"network.py": (0, json.dumps({**NETWORK_ROW, "obstacle": "wrong"}))},
            "network, triton, max-autotune",
        ),
    ],
)
def test_gpu_check_names_what_failed_and_runs_the_rest(faked, capsys, tmp_path, answers, failed):
    faked(answers | {word: answer for word, answer in ALL_WELL.items() if word not in answers})
    assert check.main([]) == 1
    out = capsys.readouterr().out
    assert out.rstrip().endswith(f"gpu-check: failed: {failed}")
    assert len(results_of(tmp_path)["parts"]) == len(check.parts({}))


def test_gpu_check_times_the_other_kernels_where_one_is_wrong_or_stopped(faked, capsys, tmp_path):
    faked(
        {"gpu_test_one": (1, "wrong"), "gpu_time_two": (None, "| block | us |\n|---|---|\n| a | 1 |\n| b")}
        | ALL_WELL
    )
    for name in ("gpu_time_two", "gpu_test_three", "gpu_time_three"):
        (tmp_path / name).touch()
    assert check.main(["timings"]) == 1
    timed = results_of(tmp_path, "timings")["programs"]
    assert timed == [{"block": "16-96-24", "us": "7.1"}, {"block": "a", "us": "1"}]
    out = capsys.readouterr().out
    assert re.search("exit code 1: .*gpu_test_one accurate; out of time: .*gpu_time_two", out)


@pytest.mark.parametrize(
    ("answers", "part", "reason"),
    [
        ({"--tool": (1, "Error: Device not supported")}, "racecheck", "does not support this device"),
        ({"bin/ncu": (1, "==ERROR== ERR_NVGPUCTRPERM")}, "traffic", "may not read the GPU's counters"),
        ({"bin/ncu": (1, "==ERROR== Failed to initialize the profiler: X")}, "traffic", "cannot start"),
    ],
)
def test_gpu_check_skips_what_cannot_run_there(faked, capsys, answers, part, reason):
    faked(answers)
    assert check.main([part]) == 0
    out = capsys.readouterr().out
    assert f"{part}: {SKIPPED}" in out
    assert reason in out


# --- parts and their time ---


def test_gpu_check_parts_share_the_time():
    now = [0.0]
    given = []

    def run(seconds: float) -> str:
        given.append(seconds)
        now[0] += 40
        return ""

    results = list(run_parts([Part("p", 50, run)] * 4, 100, clock=lambda: now[0]))
    assert given == [50, 50, 20]
    assert (results[-1].state, results[-1].detail) == (FAILED, "not run: no time left")


def test_gpu_check_stops_a_command_with_all_that_it_started(monkeypatch, tmp_path):
    monkeypatch.setattr(parts, "LOGS", tmp_path)
    done = parts.run_command("slow", ("sh", "-c", "echo begun; sleep 60; echo done"), 3.0)
    assert (done.returncode, done.output) == (None, "begun\n")
    with pytest.raises(Failed, match="out of time"):
        done.require_success()


# --- what is read and printed ---


def test_gpu_check_adds_up_the_kernels_of_a_block():
    rows = ncu.parse(NCU_OUTPUT)
    assert [(row["read_bytes"], row["written_bytes"]) for row in rows] == [(700, 500), (1000, 500)]
    assert ncu.total_ratio(rows) == (1200 + 3 * 1500) / (1000 + 3 * 500)


@pytest.mark.parametrize("output", ["", NCU_OUTPUT.split('"ID"')[0], NCU_OUTPUT.split('"1"')[0]])
def test_gpu_check_refuses_traffic_that_lacks_a_block(output):
    with pytest.raises(Failed, match="ncu counted nothing"):
        ncu.parse(output)


def test_gpu_check_times_every_kernel_that_it_verifies_first():
    tests = (parts.ROOT / "tests" / "emulator").glob("test_*.cpp")
    verified = {path.stem.removeprefix("test_"): path.read_text() for path in tests}
    kernels = {path.parent.name for path in (parts.ROOT / "csrc" / "cuda").glob("*/launch.cu")}
    programs = {path.stem for path in (parts.ROOT / "benchmarks" / "gpu").glob("*.cu")}
    assert programs == kernels
    for kernel in programs:
        assert re.search(rf"TEST\(\w*{check.ACCURACY_TESTS}", verified[kernel]), kernel


# --- the scripts, on the CPU, their graphs faked ---


@pytest.fixture
def no_graphs(monkeypatch):
    monkeypatch.setattr(replay, "rotated", lambda x: [x, x.clone()])
    monkeypatch.setattr(replay, "capture", lambda function, inputs: function(inputs[-1]))
    monkeypatch.setattr(
        replay, "replay_times", lambda graphs, runs: {name: [1.0, 2.0, 4.0] for name in graphs}
    )
    monkeypatch.setattr(
        replay, "call_times", lambda functions, inputs: {name: [3.0, 5.0, 9.0] for name in functions}
    )


def test_gpu_check_verifies_each_engine_before_it_is_timed(no_graphs):
    import network

    def broken(subject: Subject, setting: Setting):
        raise RuntimeError("no kernel\nat all")

    def wrong(subject: Subject, setting: Setting):
        return lambda x: torch.ones_like(subject.model(x))

    quick = {engine: network.ENGINES[engine] for engine in network.QUICK}
    variants = quick | {"broken": broken, "wrong": wrong}
    setting = Setting("float32", 1, 2, size=32)
    with torch.no_grad():
        rows = list(network.measure(variants, Subject(1.0, 32, 2), setting))
    by_name = {row["variant"]: row for row in rows}
    assert by_name["broken"]["obstacle"] == "RuntimeError: no kernel"
    assert "off by" in by_name["wrong"]["obstacle"]
    timed = [row for row in rows if "us" in row]
    assert {row["variant"] for row in timed} == set(quick)
    assert all(row["us"] == 2.0 and row["us_image"] == 1.0 and row["images_per_s"] == 10**6 for row in timed)
    assert all(row["us_call"] == 5.0 for row in timed)


def test_gpu_check_times_every_block_of_the_network(no_graphs):
    import blocks

    with torch.no_grad():
        rows = list(blocks.measure(Setting("float32", 1, 1)))
    assert sum(row["blocks"] for row in rows) == len(mobilenet_v2().blocks)
    assert all(row["us"] == 2.0 and row["floor_bytes"] > 0 for row in rows)
    assert all(0.0 < row["error"] < 1e-4 for row in rows)
