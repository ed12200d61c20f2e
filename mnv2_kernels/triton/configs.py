"""How each block is run: one table, with what decided its rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ..shapes import KERNEL_SIZE, BlockShape
from .packing import DEPTH_STEP, padded_depth, power_of_two


@dataclass(frozen=True)
class Config:
    """How one block shape is run.

    Attributes:
        kind: "rows", "tile" or "direct", the kernel.
        m: pixels a program works on at a time; of a tile a multiple of tile x tile.
        bc: expanded channels a step. bk: input channels a dot.
        warps: of 32 threads. stages: of the loop's software pipeline.
        rows: output rows a program ("rows"). tile: edge of a tile ("tile").
        outputs: the most output channels whose sums the registers hold.
        resident: the most input channels whose loads the compiler may move out of the loop over the expanded
            ones, into registers or shared memory; more are loaded anew each step.
        taps: of a channel's depthwise weights that one load takes: 4, 2 or 1. More are fewer loads where a
            thread's channels are not neighbours, and more registers.
        exact: clamps keep NaN, where the pass that restores it would take registers that are not there.
    """

    kind: str
    m: int
    bc: int
    bk: int
    warps: int
    stages: int = 1
    rows: int = 1
    tile: int = 16
    outputs: int = 320
    resident: int = 512
    taps: int = 1
    exact: bool = False


Stage = tuple[int, int, int, int]
"""Input, expanded and output channels, stride."""

# float16 and bfloat16. "tile" at stride 1, and at stride 2 from 64 input channels on; "rows" moves nothing
# between threads, but expands thrice (at stride 2: 1.5 times) and holds all its input in shared memory.
HOPPER: dict[Stage, Config] = {
    (16, 96, 24, 2): Config("rows", 64, 16, 16, 4, stages=2, rows=4, taps=4),
    (24, 144, 24, 1): Config("tile", 256, 16, 32, 8, taps=4),
    (24, 144, 32, 2): Config("rows", 64, 16, 32, 4, rows=2, taps=4),
    (32, 192, 32, 1): Config("tile", 256, 32, 32, 8, taps=4),
    (32, 192, 64, 2): Config("rows", 64, 32, 32, 4, stages=2),
    (64, 384, 64, 1): Config("tile", 256, 32, 64, 8, taps=4),
    (64, 384, 96, 1): Config("tile", 256, 32, 64, 8, taps=4),
    (96, 576, 96, 1): Config("tile", 256, 32, 32, 8, taps=2),
    (96, 576, 160, 2): Config("tile", 128, 32, 32, 8, stages=2, tile=8, taps=4),
    (160, 960, 160, 1): Config("tile", 128, 32, 32, 8, tile=8, taps=4),
    (160, 960, 320, 1): Config("tile", 128, 32, 32, 8, tile=8),
}

# Sums and operands share the registers, and consumer GPUs (also of later years) have 99 KiB.
AMPERE = HOPPER | {
    (16, 96, 24, 2): Config("rows", 64, 16, 16, 4, stages=2, rows=2),
    (24, 144, 32, 2): Config("rows", 64, 16, 32, 4),
    (32, 192, 32, 1): Config("tile", 256, 16, 32, 8),
    (64, 384, 96, 1): Config("tile", 256, 32, 64, 8),
    (96, 576, 96, 1): Config("tile", 256, 32, 32, 8),
    (96, 576, 160, 2): Config("tile", 64, 32, 32, 8, stages=2, tile=8),
    (160, 960, 320, 1): Config("tile", 128, 16, 32, 8, tile=8, exact=True),
}

# sm_100: sums in tensor memory, which pass through registers on their way.
BLACKWELL = HOPPER | {
    (16, 96, 24, 2): Config("rows", 64, 16, 16, 4, rows=4, exact=True),
    (32, 192, 64, 2): Config("rows", 64, 16, 32, 4),
    (64, 384, 64, 1): Config("tile", 256, 32, 64, 8, exact=True),
    (96, 576, 96, 1): Config("tile", 256, 32, 16, 8, exact=True),
    (96, 576, 160, 2): Config("tile", 128, 32, 32, 8, tile=8, taps=4),
    (160, 960, 160, 1): Config("tile", 128, 32, 64, 8, tile=8, exact=True),
    (160, 960, 320, 1): Config("tile", 64, 32, 32, 8, tile=8),
}

# gfx942: 64 lanes a warp, 512 registers a lane, 64 KiB.
AMD = HOPPER | {
    (32, 192, 64, 2): Config("rows", 64, 16, 32, 4),
    (96, 576, 96, 1): Config("tile", 256, 32, 32, 8, exact=True),
    (96, 576, 160, 2): Config("tile", 128, 16, 32, 8, tile=8),
    (160, 960, 320, 1): Config("tile", 128, 16, 32, 8, tile=8),
}

FAMILIES = {"hopper": HOPPER, "ampere": AMPERE, "blackwell": BLACKWELL, "amd": AMD}

# Exact products on the ordinary cores, which take both operands and the sums from registers.
FLOAT32 = Config("tile", 64, 16, 16, 8, tile=8, outputs=160, resident=64)
DIRECT = Config("direct", 64, 16, 0, 4)


def block_config(shape: BlockShape, dtype: torch.dtype, family: str) -> Config:
    """The fixed configuration of a block for activations of ``dtype`` on a family of GPUs."""
    if not shape.expand:
        return DIRECT
    if shape.kernel != KERNEL_SIZE:
        return _large_window(shape, dtype)
    if shape.squeezed_channels:
        return replace(FLOAT32, bk=_step(shape, dtype))
    if dtype == torch.float32:
        return FLOAT32
    stage = (shape.in_channels, shape.expanded_channels, shape.out_channels, shape.stride)
    return FAMILIES[family].get(stage) or _other_channels(shape)


def _step(shape: BlockShape, dtype: torch.dtype) -> int:
    return FLOAT32.bk if dtype == torch.float32 else min(DEPTH_STEP, padded_depth(shape.in_channels))


def _large_window(shape: BlockShape, dtype: torch.dtype) -> Config:
    """With stride 1 tiles of 16, of which a window of 7x7 leaves 10; few sums, which fit the registers.

    With stride 2 four planes take the registers of these.
    """
    pixels, tile = (256, 16) if shape.stride == 1 else (64, 8)
    return Config("tile", pixels, 16, _step(shape, dtype), 8, tile=tile, exact=True, outputs=64, resident=64)


def _other_channels(shape: BlockShape) -> Config:
    """For channels that no stage of width 1.0 has: what spills nowhere."""
    bk = _step(shape, torch.float16)
    if shape.stride == 2 and shape.in_channels <= 32 and shape.out_channels <= 64:
        return Config("rows", 64, 16, bk, 4)
    if shape.stride == 1 and shape.out_channels <= 64:
        return Config("tile", 256, 16, bk, 8, exact=True, resident=64)
    return Config("tile", 64, 16, bk, 8, tile=8, exact=True, outputs=256, resident=64)


def output_pieces(config: Config, out_channels: int) -> tuple[int, int, int]:
    """Output channels as (first, second, groups): a program sums first + second, powers of two.

    96 is 64 + 32, 160 is 128 + 32; the second may be 0. More than fit the registers are cut into groups, for
    each of which a program expands anew.
    """
    whole = power_of_two(out_channels)
    if config.kind == "tile" and whole > 32:
        first = whole // 2
        second = power_of_two(out_channels - first)
        if first + second < whole and first + second <= config.outputs:
            return first, second, 1
    piece = min(whole, 1 << (config.outputs.bit_length() - 1))
    return piece, 0, -(-out_channels // piece)
