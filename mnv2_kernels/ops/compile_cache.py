"""torch.compile's caches on disk, which may outlive a setting and be shared by machines.

A graph that packs weights fixes their packed length. It follows from the instruction set, the backend of GPUs
and this package's version, none of which torch has in a cache's key.
"""

from __future__ import annotations

import os

import torch.compiler.config

from .. import _native
from ..processor import FORCE_ISA_VARIABLE, processor
from . import gpu


def tag() -> str:
    """What decides the length of packed weights here, in a line."""
    parts = [f"mnv2_kernels {_native.build_info()['version']}", processor()]
    parts += [isa["name"] for isa in (*_native.isas(), *_native.int8_isas()) if isa["supported"]]
    return "; ".join((*parts, os.environ.get(FORCE_ISA_VARIABLE, ""), gpu.SELECTED))


def add_tag() -> None:
    """Makes it part of the key, beside what a user's own tag says."""
    torch.compiler.config.cache_key_tag += f"[{tag()}]"
