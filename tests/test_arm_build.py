"""The operators' sources compile for aarch64 against the headers of torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from mnv2_kernels import _native

ROOT = Path(__file__).resolve().parent.parent
COMPILER = shutil.which("aarch64-linux-gnu-g++")
# As cmake/torch.cmake makes the number of the version that the operators are built for.
MAJOR, MINOR = map(int, _native.build_info()["torch_target"].split("."))
TARGET_VERSION = hex(MAJOR << 56 | MINOR << 48)

pytestmark = [
    pytest.mark.skipif("MNV2_ARM_BUILD" not in os.environ, reason="MNV2_ARM_BUILD names no build for ARM"),
    pytest.mark.skipif(COMPILER is None, reason="aarch64-linux-gnu-g++ is not installed"),
]


@pytest.mark.parametrize(
    "source", sorted((ROOT / "csrc" / "torch").glob("*.cpp")), ids=lambda path: path.name
)
def test_operators_compile(source: Path, tmp_path: Path) -> None:
    command = [
        *(
            COMPILER,
            "-std=c++20",
            "-fPIC",
            "-fvisibility=hidden",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-c",
            source,
        ),
        *("-I", ROOT / "csrc", "-isystem", Path(torch.__file__).parent / "include"),
        *(f"-DTORCH_TARGET_VERSION={TARGET_VERSION}", "-o", tmp_path / "operators.o"),
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
