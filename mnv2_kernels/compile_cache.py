"""torch.compile's caches on disk, which may outlive a setting and be shared by machines.

A graph that packs weights fixes their packed length. It follows from the instruction set, the choice of the
pair product, the backend of GPUs and this package's version, none of which torch has in a cache's key.
"""

from __future__ import annotations

import os

import torch.compiler.config

from . import _native, gpu, pair_product
from .processor import FORCE_ISA_VARIABLE, processor


def tag() -> str:
    """What decides the length of packed weights here, in a line."""
    parts = [f"mnv2_kernels {_native.build_info()['version']}", processor()]
    parts += [isa["name"] for isa in _native.isas() if isa["supported"]]
    parts += [os.environ.get(name, "") for name in (FORCE_ISA_VARIABLE, pair_product.VARIABLE)]
    return "; ".join((*parts, _pair_product(), gpu.SELECTED))


def _pair_product() -> str:
    try:
        return _native.selected_pair_product()  # measured, where no variable decides
    except RuntimeError:  # by a wrong variable, which the tag holds
        return ""


def add_tag() -> None:
    """Makes it part of the key, beside what a user's own tag says."""
    torch.compiler.config.cache_key_tag += f"[{tag()}]"
