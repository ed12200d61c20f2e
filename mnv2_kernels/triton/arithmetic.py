"""What several kernels share: activations, input tiles and the 1x1 convolution of one.

relu6 behind both expand and depthwise convolution is free. What comes before it is in sixths (its weights are
packed divided by 6), so that it is a clamp to [0, 1], which is a modifier of the multiply-add before it
(``FFMA.SAT``; ``clamp`` on AMD). Such a clamp turns NaN into 0; kernels that use it look for NaN in their
input themselves.
"""

from __future__ import annotations

import triton
import triton.language as tl

# A normal number of float16; as a factor it keeps a sum of 2^14 of the largest bfloat16 from overflowing.
SCALED_DOWN = tl.constexpr(2.0**-14)


@triton.jit
def hardsigmoid(x):
    shifted = tl.maximum(x + 3.0, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(shifted, 6.0, propagate_nan=tl.PropagateNan.ALL) * (1.0 / 6.0)


@triton.jit
def activate(x, ACTIVATION: tl.constexpr, SIX: tl.constexpr = 6.0):
    """The activation as torch has it: NaN stays NaN. SIX: relu6's limit in x's unit."""
    if ACTIVATION == "hardswish":
        x = x * hardsigmoid(x)
    elif ACTIVATION == "silu":
        x = x / (1.0 + tl.exp(-x))
    elif ACTIVATION != "none":
        x = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if ACTIVATION == "relu6":
        x = tl.minimum(x, SIX, propagate_nan=tl.PropagateNan.ALL)
    return x


@triton.jit
def saturate(x, ACTIVATION: tl.constexpr, SIX: tl.constexpr, EXACT: tl.constexpr):
    """The activation of x, in sixths where SIX is 1: free for relu6, but it makes 0 of NaN, unless EXACT."""
    if ACTIVATION == "relu6" and not EXACT:
        return tl.minimum(tl.maximum(x, 0.0), SIX)
    return activate(x, ACTIVATION, SIX)


@triton.jit
def load_pixels(x_ptr, pixel, inside, k, CHANNELS: tl.constexpr):
    """Channels k of NHWC pixels: [pixels, k], 0 where not inside the image."""
    mask = inside[:, None] & (k < CHANNELS)[None, :]
    return tl.load(x_ptr + pixel[:, None] * CHANNELS + k[None, :], mask=mask, other=0.0)


@triton.jit
def _multiply_step(
    sums, x_ptr, w_ptr, pixel, inside, k0, c,
    CHANNELS: tl.constexpr, STRIDE: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    k = k0 + tl.arange(0, BK)
    x = load_pixels(x_ptr, pixel, inside, k, CHANNELS)
    w = tl.load(w_ptr + k[:, None] * STRIDE + c[None, :])
    return tl.dot(x, w.to(x.dtype), sums, input_precision=PRECISION)


@triton.jit
def multiply_pixels(
    x_ptr, w_ptr, pixel, inside, c,
    CHANNELS: tl.constexpr, DEPTH: tl.constexpr, STRIDE: tl.constexpr,
    M: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr, UNROLL: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The 1x1 convolution of M NHWC pixels to the channels c, without bias: float32 [M, BC].

    w_ptr: [DEPTH, STRIDE], rows from CHANNELS on are zero; DEPTH is a multiple of BK.
    """
    sums = tl.zeros((M, BC), tl.float32)
    if UNROLL:
        for k0 in tl.static_range(0, DEPTH, BK):
            sums = _multiply_step(sums, x_ptr, w_ptr, pixel, inside, k0, c, CHANNELS, STRIDE, BK, PRECISION)
    else:
        for k0 in tl.range(0, DEPTH, BK):
            sums = _multiply_step(sums, x_ptr, w_ptr, pixel, inside, k0, c, CHANNELS, STRIDE, BK, PRECISION)
    return sums


@triton.jit
def add_channels(sums, x_ptr, pixel, inside, CHANNELS: tl.constexpr, DEPTH: tl.constexpr, BK: tl.constexpr):
    """Adds to each of the 16 columns of sums [M, 16] all channels of M NHWC pixels, scaled down.

    The sum is NaN where a channel is (or two are opposite infinities), and at no finite value.
    """
    for k0 in tl.range(0, DEPTH, BK, num_stages=1):
        x = load_pixels(x_ptr, pixel, inside, k0 + tl.arange(0, BK), CHANNELS)
        # The tensor cores' sixteen equal columns are cheaper than an addition for each channel.
        sums = tl.dot(x, tl.full((BK, 16), SCALED_DOWN, x.dtype), sums)
    return sums
