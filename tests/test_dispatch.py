"""What choosing an instruction set asks of the system."""

import subprocess
import sys

import pytest

from mnv2_kernels import _native

# arch_prctl(ARCH_GET_XCOMP_PERM): the register states that a process has asked for; bit 18 is AMX's tiles.
STATES_AFTER = """
import ctypes
import sys
import torch
import mnv2_kernels
weight = torch.ones(8, 8, dtype=getattr(torch, sys.argv[1]))
torch.ops.mnv2.pack([weight, None], layers="linear in_channels=8 out_channels=8")
states = ctypes.c_ulong()
assert ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(states)) == 0
print(states.value >> 18 & 1)
"""


@pytest.mark.skipif(
    not any(isa["name"] == "amx_bf16" and isa["supported"] for isa in _native.isas()), reason="no AMX here"
)
@pytest.mark.parametrize(("dtype", "asked"), [("float32", "0"), ("bfloat16", "1")])
def test_tile_registers_are_asked_for_where_they_are_used(dtype: str, asked: str) -> None:
    """They take memory in every thread, and make the system want larger signal stacks."""
    command = [sys.executable, "-c", STATES_AFTER, dtype]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == asked
