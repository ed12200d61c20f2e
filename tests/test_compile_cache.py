"""Graphs that torch.compile kept on disk serve only where weights are packed as they were then."""

import os
import subprocess
import sys

import pytest
import torch.compiler.config

from mnv2_kernels import _native
from mnv2_kernels.ops import compile_cache

COMPILE_A_BLOCK = """
import torch
from mnv2_kernels import FusedInvertedResidual

block = FusedInvertedResidual(8, 8, 1, 2).eval()
x = torch.randn(1, 8, 4, 4)
with torch.no_grad():
    assert torch.equal(torch.compile(block)(x), block(x))
"""


def test_the_key_has_the_tag():
    assert compile_cache.tag() in torch.compiler.config.cache_key_tag


def test_a_forced_instruction_set_has_a_tag_of_its_own(monkeypatch):
    monkeypatch.delenv("MNV2_FORCE_ISA", raising=False)
    default = compile_cache.tag()
    monkeypatch.setenv("MNV2_FORCE_ISA", "scalar")
    assert compile_cache.tag() != default


@pytest.mark.slow
def test_a_cache_serves_another_instruction_set(tmp_path):
    best = _native.selected_isa()
    if best == "scalar":
        pytest.skip("this machine has one instruction set")
    for isa in (best, "scalar"):
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "MNV2_FORCE_ISA": isa}
        subprocess.run([sys.executable, "-c", COMPILE_A_BLOCK], env=environment, check=True)
