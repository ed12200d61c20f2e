"""The last convolution and the mean over all pixels; what is pooled never leaves the registers."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ..shapes import HeadShape
from .arithmetic import activate, load_pixels
from .packing import Packing, dot_depth, padded_depth, power_of_two

# Pixels a step: one image of 7 x 7 and an eighth more. Output channels of a program.
PIXELS = 64
MOST_CHANNELS = 128
WARPS = 4


@triton.jit
def head_pool_kernel(
    x_ptr, w_ptr, v_ptr, y_ptr, PIXELS,
    IN: tl.constexpr, DEPTH: tl.constexpr, OUT: tl.constexpr, OUT_STRIDE: tl.constexpr,
    WEIGHT: tl.constexpr, SCALE: tl.constexpr, BIAS: tl.constexpr,
    ACTIVATION: tl.constexpr, PRECISION: tl.constexpr,
    M: tl.constexpr, BK: tl.constexpr, NA: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """One image of PIXELS NHWC pixels, M at a time, NA channels."""
    pid = tl.program_id(0)
    group, n = pid % GROUPS, (pid // GROUPS).to(tl.int64)
    o = group * NA + tl.arange(0, NA)
    scale = tl.load(v_ptr + SCALE + o)[None, :]
    bias = tl.load(v_ptr + BIAS + o)[None, :]
    pooled = tl.zeros((NA,), tl.float32)
    for p0 in tl.range(0, PIXELS, M):
        p = p0 + tl.arange(0, M)
        inside = p < PIXELS
        sums = tl.zeros((M, NA), tl.float32)
        for k0 in tl.range(0, DEPTH, BK):
            k = k0 + tl.arange(0, BK)
            x = load_pixels(x_ptr, n * PIXELS + p, inside, k, IN)
            weight = tl.load(w_ptr + WEIGHT + k[:, None] * OUT_STRIDE + o[None, :]).to(x.dtype)
            sums = tl.dot(x, weight, sums, input_precision=PRECISION)
        value = activate(tl.fma(sums, scale, bias), ACTIVATION)
        pooled += tl.sum(tl.where(inside[:, None], value, 0.0), axis=0)
    mean = (pooled / PIXELS).to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + n * OUT + o, mean, mask=o < OUT)


def launch_head_pool(
    shape: HeadShape, packing: Packing, precision: str, x: Tensor, packed: Tensor, y: Tensor
) -> None:
    """Runs a head of at least one image: x channels_last, y contiguous."""
    depth = padded_depth(shape.in_channels)
    channels = min(power_of_two(shape.out_channels), MOST_CHANNELS)
    groups = triton.cdiv(shape.out_channels, channels)
    head_pool_kernel[(shape.batch * groups,)](
        x, *packing.views(packed), y, shape.height * shape.width,
        IN=shape.in_channels, DEPTH=depth, OUT=shape.out_channels,
        OUT_STRIDE=power_of_two(shape.out_channels), **packing.offsets,
        ACTIVATION=shape.activation, PRECISION=precision,
        M=PIXELS, BK=dot_depth(depth, x.dtype), NA=channels,
        GROUPS=groups, num_warps=WARPS,
    )  # fmt: skip
