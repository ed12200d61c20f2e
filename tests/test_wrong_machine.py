"""What the import says where the package's libraries are built for another machine."""

import platform
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import mnv2_kernels
from mnv2_kernels import _native
from mnv2_kernels.machine import MACHINES

PACKAGE = Path(mnv2_kernels.__file__).parent
OPS = PACKAGE / "libmnv2_ops.so"
NATIVE = Path(_native.__file__)
HERE = platform.machine()
NUMBERS = {name: number for number, name in MACHINES.items()}
ELSEWHERE = {"x86_64": "aarch64", "aarch64": "x86_64"}.get(HERE)
ADVICE = f"this machine is {HERE}; install the wheel for it"

pytestmark = pytest.mark.skipif(ELSEWHERE is None, reason=f"no wheels are built for {HERE}")


def write_header(path: Path, number: int) -> None:
    """The start of a 64-bit little-endian shared library, all that tells its machine."""
    path.write_bytes(struct.pack("<4s5B7xHH", b"\x7fELF", 2, 1, 1, 0, 0, 3, number).ljust(64, b"\0"))


def foreign_native() -> str:
    """The name of ``_native`` in a wheel for the other machine."""
    return NATIVE.name.replace(HERE, ELSEWHERE)


@pytest.fixture
def package(tmp_path) -> Path:
    """A copy of the package without libraries."""
    copy = tmp_path / "mnv2_kernels"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return copy


# An editable installation would find the _native that a copy lacks.
IMPORT = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "__editable__" not in str(finder)]
import mnv2_kernels
print(mnv2_kernels.__file__)
"""


def last_line_of_import(package: Path) -> str:
    command = [sys.executable, "-c", IMPORT]
    done = subprocess.run(command, cwd=package.parent, capture_output=True, text=True, timeout=600)
    assert "During handling" not in done.stderr
    return (done.stderr or done.stdout).splitlines()[-1]


@pytest.mark.slow
class TestImport:
    def test_of_a_wheel_for_another_machine(self, package):
        write_header(package / OPS.name, NUMBERS[ELSEWHERE])
        write_header(package / foreign_native(), NUMBERS[ELSEWHERE])
        expected = f"ImportError: libmnv2_ops.so is built for {ELSEWHERE}, {ADVICE}"
        assert last_line_of_import(package) == expected

    def test_of_a_damaged_library_keeps_its_own_message(self, package):
        shutil.copy(NATIVE, package)
        write_header(package / OPS.name, NUMBERS[HERE])
        assert "libmnv2_ops.so does not load; build it" in last_line_of_import(package)

    def test_ignores_the_native_module_of_another_machine_beside_its_own(self, package):
        shutil.copy(NATIVE, package)
        shutil.copy(OPS, package)
        write_header(package / foreign_native(), NUMBERS[ELSEWHERE])
        assert last_line_of_import(package) == str(package / "__init__.py")
