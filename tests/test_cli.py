from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cli_cases import FAST, refusal, save_photo, save_weights

from mnv2_kernels import __version__, _native, ops
from mnv2_kernels.cli.app import main
from mnv2_kernels.ops import gpu

Capture = pytest.CaptureFixture[str]

OPERATORS = {f"mnv2::{name}" for name in (*ops.OPERATORS, "run_seconds")}
TIMEOUT_S = 120


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        check=False,
    )


# --- as a program ---


def test_a_pipe_gets_plain_text(tmp_path: Path) -> None:
    command = ("classify", save_photo(tmp_path), "--weights", save_weights(tmp_path), *FAST)
    done = run(sys.executable, "-m", "mnv2_kernels", *command, TERM="xterm-256color", COLUMNS="40")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert all(line == line.rstrip() for line in done.stdout.splitlines())
    assert "noise.png   class " in done.stdout


def test_an_ascii_terminal(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"Hündin {index}" for index in range(7)), encoding="utf-8")
    weights = save_weights(tmp_path)
    command = ("classify", save_photo(tmp_path), "--weights", weights, "--labels", labels, *FAST)
    done = run(sys.executable, "-m", "mnv2_kernels", *command, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "H?ndin" in done.stdout


def test_the_console_script() -> None:
    done = run(Path(sys.executable).with_name("mnv2"), "classify", "absent.jpg", "--weights", "random")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "mnv2: absent.jpg: no such photo\n"


# --- usage ---


def test_help_survives_optimisation() -> None:
    """Docstrings do not: what commands do has to be said elsewhere."""
    done = run(sys.executable, "-OO", "-m", "mnv2_kernels", "--help", COLUMNS="120")
    assert (done.returncode, done.stderr) == (0, "")
    commands = re.findall(r"^\W+([a-z]+) {2,}([A-Z]\w+)", done.stdout, re.M)
    assert [name for name, _ in commands] == [
        *("classify", "quantize", "export", "verify", "profile", "batch", "info", "demo"),
        *("bench", "traffic", "memory", "headlines", "scaling", "roofline", "bottleneck", "report"),
    ]


def test_version(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["guess"], "guess"),
        (["classify", "photo.jpg", "--colour"], "--colour"),
        (["classify", "photo.jpg", "--size", "2049"], "--size"),
        (["classify", "photo.jpg", "--eps", "-0.1"], "--eps"),
        (["classify", "photo.jpg", "--padding", "valid"], "'torch', 'same'"),
        (["classify", "photo.jpg", "--preprocess", "caffe"], "'tf', 'torchvision'"),
        (["verify", "--dtype", "float64"], "'float32', 'float16', 'bfloat16'"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: Capture) -> None:
    assert message in refusal(capsys, arguments)


@pytest.mark.parametrize("command", [["classify", "photo.jpg"], ["verify"], ["info"]])
def test_an_isa_that_cannot_run(command: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNV2_FORCE_ISA", "mmx")
    assert "'mmx'" in refusal(capsys, command)


def test_a_backend_that_does_not_exist(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SELECTED", "opencl")
    assert "MNV2_GPU_BACKEND=opencl: expected one of" in refusal(capsys, ["info"])


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mnv2_kernels.cli.app.gather_info", interrupt)
    assert main(["info"]) == 130


# --- info ---


def test_info(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNV2_FORCE_ISA", raising=False)
    assert main(["info", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["versions"] == {
        "mnv2_kernels": __version__,
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }
    assert result["build"] == _native.build_info()
    assert [isa for isa in result["isas"] if isa in _native.isas()] == _native.isas()
    assert {isa["name"] for isa in _native.int8_isas()} <= {isa["name"] for isa in result["isas"]}
    assert result["selected_isa"] == _native.selected_isa()
    dtypes = ("float32", "float16", "bfloat16")
    assert result["selected_isas"] == {
        **{dtype: _native.selected_isa(dtype) for dtype in dtypes},
        "int8": _native.selected_int8_isa(),
    }
    assert "fastest" in result["selection_reason"]
    assert result["threads"] == torch.get_num_threads()
    on_cpu = {op["op"]: op["cpu"] for op in result["ops"]}
    assert on_cpu == dict.fromkeys(OPERATORS, _native.selected_isa())
    chosen = [(block["kernel"], block["reason"]) for block in result["cuda_blocks"]]
    assert chosen[0] == ("general_block", "no expand layer")
    assert set(chosen) <= {tuple(reason) for reason in _native.cuda_block_reasons()}


def test_info_says_when_an_isa_is_forced(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNV2_FORCE_ISA", "scalar")
    assert main(["info"]) == 0
    output = capsys.readouterr().out
    assert "scalar: forced by MNV2_FORCE_ISA" in output
    assert re.search(r"^\s*scalar\s+yes\s+yes\s+float32, float16, bfloat16, int8\s*$", output, re.M)
    assert _native.build_info()["version"] in output
    assert all(isa["name"] in output for isa in _native.isas())
