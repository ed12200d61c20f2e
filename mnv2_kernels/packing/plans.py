"""How packed layers are cut into tasks, by the instruction set that they were packed for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _native


def layer_plans(packed: Tensor, x: Tensor, threads: int) -> list[dict[str, Any]]:
    """How each layer of ``mnv2::pack``'s tensor is cut for images x (N, C, H, W), as ``_native.plan`` says.

    Raises ValueError where the bytes are no packed layers or cannot be read (a fake tensor), or where x does
    not fill the window of every layer.
    """
    if type(packed) is not Tensor or packed.device.type != "cpu" or packed.dtype != torch.uint8:
        raise ValueError("packed: expected a plain uint8 tensor on cpu")
    batch, _, height, width = x.shape
    return _native.network_plans(packed.data_ptr(), packed.numel(), batch, height, width, threads)


def describe_plan(plan: dict[str, Any]) -> str:
    """``14 rows x 32``: 32 expanded channels at a time; ``4 rows, ring``: all, and strips share rows."""
    parts = []
    if "strip_rows" in plan:
        rows = f"{plan['strip_rows']} rows"
        parts.append(f"{rows}, ring" if plan["shares_rows"] else f"{rows} x {plan['chunk_channels']}")
    if plan["segments"] > 1:
        by_channels = plan.get("splits_channels", "strip_rows" not in plan)
        parts.append(f"{plan['segments']} by {'channels' if by_channels else 'rows'}")
    return ", ".join(parts)
