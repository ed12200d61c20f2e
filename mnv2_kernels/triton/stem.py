"""The first convolution: a dense window of an image with few channels, as one dot over its taps."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ..shapes import StemShape
from .arithmetic import activate
from .packing import Packing, dot_depth, padded_depth, power_of_two

# Pixels and output channels of a program.
PIXELS = 128
MOST_CHANNELS = 64
WARPS = 4


@triton.jit
def stem_kernel(
    x_ptr, w_ptr, v_ptr, y_ptr, N, H, W, OUT_H, OUT_W, TOP, LEFT, XN, XC, XH, XW,
    IN: tl.constexpr, DEPTH: tl.constexpr, OUT: tl.constexpr, OUT_STRIDE: tl.constexpr,
    WEIGHT: tl.constexpr, SCALE: tl.constexpr, BIAS: tl.constexpr,
    S: tl.constexpr, K: tl.constexpr, ACTIVATION: tl.constexpr, PRECISION: tl.constexpr,
    M: tl.constexpr, BK: tl.constexpr, NA: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """M output pixels, NA channels; x has any strides, offsets are of 64 bits."""
    pid = tl.program_id(0)
    group, pid = pid % GROUPS, pid // GROUPS
    p = pid.to(tl.int64) * M + tl.arange(0, M)
    n = p // (OUT_H * OUT_W)
    y = (p // OUT_W % OUT_H * S - TOP)[:, None]
    x = (p % OUT_W * S - LEFT)[:, None]
    live = n < N
    o = group * NA + tl.arange(0, NA)
    sums = tl.zeros((M, NA), tl.float32)
    for k0 in tl.range(0, DEPTH, BK):
        k = k0 + tl.arange(0, BK)
        tap, channel = (k // IN)[None, :], (k % IN)[None, :]
        row, column = y + tap // K, x + tap % K
        inside = live[:, None] & (tap < K * K) & (row >= 0) & (row < H) & (column >= 0) & (column < W)
        offset = n[:, None] * XN + channel * XC + row * XH + column * XW
        value = tl.load(x_ptr + offset, mask=inside, other=0.0)
        weight = tl.load(w_ptr + WEIGHT + k[:, None] * OUT_STRIDE + o[None, :]).to(value.dtype)
        sums = tl.dot(value, weight, sums, input_precision=PRECISION)
    result = tl.fma(sums, tl.load(v_ptr + SCALE + o)[None, :], tl.load(v_ptr + BIAS + o)[None, :])
    result = activate(result, ACTIVATION).to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + p[:, None] * OUT + o[None, :], result, mask=live[:, None] & (o < OUT)[None, :])


def launch_stem(
    shape: StemShape, packing: Packing, precision: str, x: Tensor, packed: Tensor, y: Tensor
) -> None:
    """Runs a stem of at least one image: x strided in any way, y channels_last."""
    depth = padded_depth(shape.accumulation_depth)
    channels = min(power_of_two(shape.out_channels), MOST_CHANNELS)
    groups = triton.cdiv(shape.out_channels, channels)
    pixels = shape.batch * shape.out_height * shape.out_width
    top, left, _, _ = shape.padding
    stem_kernel[(triton.cdiv(pixels, PIXELS) * groups,)](
        x, *packing.views(packed), y,
        shape.batch, shape.height, shape.width, shape.out_height, shape.out_width, top, left, *x.stride(),
        IN=shape.in_channels, DEPTH=depth, OUT=shape.out_channels,
        OUT_STRIDE=power_of_two(shape.out_channels), **packing.offsets,
        S=shape.stride, K=shape.kernel, ACTIVATION=shape.activation, PRECISION=precision,
        M=PIXELS, BK=dot_depth(depth, x.dtype), NA=channels,
        GROUPS=groups, num_warps=WARPS,
    )  # fmt: skip
