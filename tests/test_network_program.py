"""The torch-free program run_network on the trained networks' photographs, here and, by qemu, on ARM.

Programs come from setup.py's build with MNV2_BUILD_TESTS=ON, and the one that MNV2_ARM_BUILD names, which
make test-arm sets.
"""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from conftest import RELEASE
from models import eager
from test_real_weights import EXPECTED, NETWORKS, assert_expected, inputs_of, model_of
from torch import Tensor

from mnv2_kernels import FusedMobileNetV2
from mnv2_kernels.accuracy import MINIMUM_INPUTS, largest_allowed_error
from mnv2_kernels.dtypes import dtype_name

ROOT = Path(__file__).resolve().parent.parent
ARM_BUILD = os.environ.get("MNV2_ARM_BUILD")
QEMU = ("qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu")

pytestmark = pytest.mark.skipif(not EXPECTED.is_file(), reason=f"MNV2_DATA: no {EXPECTED}")


class Machine(NamedTuple):
    """A processor, and which instruction set it has to run for each dtype (None: whatever it has)."""

    name: str
    qemu_cpu: str | None
    isas: dict[torch.dtype, str] | None

    def command(self) -> list[str]:
        """What runs the program here; skips where it cannot run."""
        if self.qemu_cpu is None:
            return [self._program(RELEASE)]
        if ARM_BUILD is None:
            pytest.skip("MNV2_ARM_BUILD names no build for ARM (make test-arm)")
        if shutil.which(QEMU[0]) is None:
            pytest.skip(f"{QEMU[0]} is not installed")
        return [*QEMU, "-cpu", self.qemu_cpu, self._program(ROOT / ARM_BUILD)]

    @staticmethod
    def _program(build: Path) -> str:
        program = build / "run_network"
        if not program.exists():
            pytest.skip(f"{program.relative_to(ROOT)} is not built")
        return str(program)


# Emulation is slow: of the processors, each runs what the ones before it have not.
HERE = Machine("this machine", None, None)
CORTEX_A53 = Machine("cortex-a53", "cortex-a53", {torch.float32: "neon"})
NEOVERSE_N1 = Machine("neoverse-n1", "neoverse-n1", {torch.float32: "neon", torch.float16: "neon_fp16"})
WITHOUT_SVE = Machine("no-sve", "max,sve=off", {torch.float32: "neon", torch.bfloat16: "neon_bf16"})
SIXTEEN_BITS = [
    (HERE, torch.float16),
    (HERE, torch.bfloat16),
    (NEOVERSE_N1, torch.float16),
    (WITHOUT_SVE, torch.bfloat16),
]


def run_ids(value: object) -> str:
    return value.name if isinstance(value, Machine) else str(value).removeprefix("torch.")


def model_in(network: str, dtype: torch.dtype) -> FusedMobileNetV2:
    return copy.deepcopy(model_of(network)).to(dtype)


def logits_of(machine: Machine, network: str, x: Tensor, folder: Path) -> Tensor:
    """The program's logits for images x (N, 3, H, W), in x's dtype."""
    command = machine.command()
    with torch.no_grad():
        # For float32 arithmetic, which is what the program takes and packs again.
        packed = model_in(network, x.dtype).float().deploy().network.packed
    files = {name: folder / name for name in ("packed", "images", "result")}
    files["packed"].write_bytes(packed.numpy().tobytes())
    files["images"].write_bytes(x.contiguous().view(torch.uint8).numpy().tobytes())
    batch, _, height, width = x.shape
    arguments = [files["packed"], files["images"], dtype_name(x.dtype), batch, height, width, files["result"]]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    if machine.isas is not None:
        assert done.stdout.strip() == machine.isas[x.dtype]
    logits = torch.frombuffer(bytearray(files["result"].read_bytes()), dtype=x.dtype)
    return logits.view(batch, -1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "network"),
    [(machine, network) for machine in (HERE, CORTEX_A53) for network in NETWORKS]
    + [(machine, network) for machine in (NEOVERSE_N1, WITHOUT_SVE) for network in NETWORKS[-1:]],
    ids=run_ids,
)
def test_photographs_have_the_expected_logits(machine: Machine, network: str, tmp_path: Path) -> None:
    assert_expected(network, logits_of(machine, network, inputs_of(network), tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(("machine", "dtype"), SIXTEEN_BITS, ids=run_ids)
def test_sixteen_bits_are_as_accurate_as_the_layers(
    machine: Machine, dtype: torch.dtype, tmp_path: Path
) -> None:
    network = "imagenet"
    middle = slice(32, 192)  # half of the pixels: emulators are slow
    x = inputs_of(network)[:MINIMUM_INPUTS, :, middle, middle].to(dtype)
    logits = logits_of(machine, network, x, tmp_path)
    truth = eager(model_in(network, dtype).double(), x.double())
    of_layers = eager(model_in(network, dtype), x)
    limit = largest_allowed_error((of_layers - truth).abs().max().item(), truth.abs().max().item(), dtype)
    assert (logits - truth).abs().max().item() <= limit
