"""Which configuration a block runs with: the table's, or the fastest on the user's GPU.

With ``MNV2_TRITON_AUTOTUNE=1`` a block that is new to this GPU is timed with every configuration that may
suit it, and the fastest is kept on disk. The batch size takes no part in the choice, as bits may not depend
on it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from functools import cache
from itertools import product
from pathlib import Path

import torch
import triton
from torch import Tensor
from triton.testing import do_bench

from ..shapes import KERNEL_SIZE, BlockShape
from .configs import FLOAT32, Config, block_config
from .inverted_residual import block_launch
from .packing import MIN_STEP, Packing, padded_depth

VARIABLE = "MNV2_TRITON_AUTOTUNE"
OLDEST_CAPABILITY = (8, 0)
# "rows" holds its input rows in shared memory.
ROWS_CHANNELS = 64


def chosen_config(shape: BlockShape, packing: Packing, precision: str, x: Tensor, packed: Tensor) -> Config:
    """The configuration for a block of at least one image; may time candidates on x and packed."""
    fixed = block_config(shape, x.dtype, gpu_family(x.device))
    has_choice = fixed.kind != "direct" and shape.kernel == KERNEL_SIZE and not shape.squeezed_channels
    if os.environ.get(VARIABLE) != "1" or not has_choice or x.device.type == "cpu":
        return fixed
    return _tuned(shape, packing, precision, x, packed, fixed)


@cache
def gpu_family(device: torch.device) -> str:
    """The name of the table of configurations for a device.

    Raises RuntimeError for an NVIDIA GPU older than the tensor cores that the kernels are written for.
    """
    if device.type == "cpu":  # Triton's interpreter
        return "hopper"
    if device.type != "cuda":
        return "ampere"
    if torch.version.hip is not None:
        return "amd"
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST_CAPABILITY:
        raise RuntimeError(
            "mnv2: kernels for GPUs need compute capability {}.{} or newer, {} has {}.{}".format(
                *OLDEST_CAPABILITY, torch.cuda.get_device_name(device), *capability
            )
        )
    return {9: "hopper", 10: "blackwell"}.get(capability[0], "ampere")


def _tuned(
    shape: BlockShape, packing: Packing, precision: str, x: Tensor, packed: Tensor, fixed: Config
) -> Config:
    any_batch = replace(shape, batch=1)
    key = f"{any_batch} {x.dtype} {precision}"
    path = cache_path(x.device)
    known = _choices(path)
    if key in known:
        return known[key]
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        return fixed  # nothing can be timed in a capture; the table's is not kept as the answer
    best = min(
        (fixed, *candidates(shape, x.dtype)),
        key=lambda config: _milliseconds(shape, packing, precision, x, packed, config),
    )
    known[key] = best
    write_cache(path, read_cache(path) | known)
    return best


def _milliseconds(
    shape: BlockShape, packing: Packing, precision: str, x: Tensor, packed: Tensor, config: Config
) -> float:
    y = torch.empty(
        (shape.batch, shape.out_channels, shape.out_height, shape.out_width),
        dtype=x.dtype, device=x.device, memory_format=torch.channels_last,
    )  # fmt: skip
    try:
        launch = block_launch(shape, packing, config, x.dtype, precision)
        return do_bench(lambda: launch(x, packed, y), return_mode="median")
    except triton.runtime.errors.OutOfResources:
        return float("inf")


def candidates(shape: BlockShape, dtype: torch.dtype) -> list[Config]:
    """Configurations that may suit a 3x3 block with an expand and no gate."""
    depth = padded_depth(shape.in_channels)
    tiles = [(64, 8), (128, 8), (256, 16)]
    steps = [bk for bk in (MIN_STEP, 32, 64) if depth % bk == 0]
    widths = (16, 32)
    configs = [
        Config("tile", m, bc, bk, warps, tile=tile, exact=exact)
        for (m, tile), bc, bk, warps, exact in product(tiles, widths, steps, (4, 8), (False, True))
    ]
    if shape.in_channels <= ROWS_CHANNELS:
        configs += [
            Config("rows", 64, bc, bk, 4, stages=stages, rows=rows)
            for bc, bk, stages, rows in product(widths, steps, (1, 2), (1, 2, 4))
        ]
    if dtype == torch.float32:
        return [replace(config, resident=FLOAT32.resident, outputs=FLOAT32.outputs) for config in configs]
    return configs


# --- cache on disk ---


@cache
def _choices(path: Path) -> dict[str, Config]:
    """What this process knows, at first what an earlier one has kept."""
    return read_cache(path)


def cache_path(device: torch.device) -> Path:
    """Where the choices for a GPU lie; each version of Triton compiles anew, so each has its own."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = torch.get_device_module(device).get_device_name(device).replace(" ", "-")
    return root / "mnv2_kernels" / f"triton-{triton.__version__}-{name}.json"


def read_cache(path: Path) -> dict[str, Config]:
    """The choices kept on disk; none where the file is missing or not what write_cache wrote."""
    try:
        return {key: Config(**fields) for key, fields in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write_cache(path: Path, choices: dict[str, Config]) -> None:
    """Replaces the file at once, so that another process reads the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps({key: asdict(config) for key, config in choices.items()}, indent=1))
    new.replace(path)
