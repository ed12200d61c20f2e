"""The inverted residual as one Triton kernel; the expanded tensor never leaves the chip.

Activations are NHWC; sums are float32. Three kernels on one packing:

- *rows*: expands once for each horizontal tap, on three shifted views of an input row, and keeps the sums of
  the output rows under way in registers: no thread needs another's value. For stride 2 with few input
  channels, where only the odd columns are expanded twice.
- *tile*: expands a square of T x T pixels once; a neighbour is a rotation of the tile (``tl.gather``, warp
  shuffles). Stride 2 is split by parity into four planes of stride 1, so that nothing is expanded twice.
- *direct*: blocks without an expand, whose taps come from memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..shapes import BlockShape, symmetric_padding
from .arithmetic import activate, add_channels, load_pixels, multiply_pixels, saturate
from .configs import Config, output_pieces
from .packing import (
    CHANNEL_STEP,
    MIN_STEP,
    TAP_STRIDE,
    Packing,
    is_folded,
    padded_depth,
    power_of_two,
    round_up,
)


@triton.jit
def _expand(
    x_ptr, w_ptr, v_ptr, bias, pixel, inside, c,
    IN: tl.constexpr, DEPTH: tl.constexpr, EXPANDED: tl.constexpr, STRIDE: tl.constexpr,
    FOLDED: tl.constexpr, EXPAND: tl.constexpr, EXPAND_SCALE: tl.constexpr, EXPAND_BIAS: tl.constexpr,
    M: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr, UNROLL: tl.constexpr,
    ACTIVATION: tl.constexpr, SIX: tl.constexpr, EXACT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Channels c of M expanded pixels, 0 outside of the image: float32 [M, BC].

    Outside the sum is 0, as x is loaded as 0 there: a bias of 0 makes the value 0. Bias, padding and relu6
    are one instruction where the scale is folded into the weights.
    """
    sums = multiply_pixels(
        x_ptr, w_ptr + EXPAND, pixel, inside, c, IN, DEPTH, STRIDE, M, BC, BK, UNROLL, PRECISION
    )
    if EXPANDED % BC != 0:
        # Padded weights are 0, but an infinite x times 0 is NaN.
        sums = tl.where((c < EXPANDED)[None, :], sums, 0.0)
    ones = tl.where(inside, 1.0, 0.0)[:, None]
    if FOLDED:
        sums = tl.fma(ones, bias[None, :], sums)
    else:
        sums = tl.fma(sums, tl.load(v_ptr + EXPAND_SCALE + c)[None, :], ones * bias[None, :])
    return saturate(sums, ACTIVATION, SIX, EXACT)


@triton.jit
def _finish_depthwise(
    sums, v_ptr, c, FOLDED: tl.constexpr, DEPTHWISE_SCALE: tl.constexpr, DEPTHWISE_BIAS: tl.constexpr
):
    if FOLDED:
        return sums
    bias = tl.load(v_ptr + DEPTHWISE_BIAS + c)[None, :]
    return tl.fma(sums, tl.load(v_ptr + DEPTHWISE_SCALE + c)[None, :], bias)


@triton.jit
def _begin_depthwise(bias, M: tl.constexpr, BC: tl.constexpr, FOLDED: tl.constexpr):
    """What the depthwise sums [M, BC] begin with: the bias, to save its addition, or 0 before a scale."""
    return tl.broadcast_to(bias if FOLDED else tl.zeros_like(bias), (M, BC))


@triton.jit
def _project_weights(w_ptr, c, o, x_dtype: tl.constexpr, PROJECT: tl.constexpr, OUT_STRIDE: tl.constexpr):
    return tl.load(w_ptr + PROJECT + c[:, None] * OUT_STRIDE + o[None, :]).to(x_dtype)


@triton.jit
def _store_depthwise(d, y_ptr, pixel, live, c, EXPANDED: tl.constexpr):
    mask = live[:, None] & (c < EXPANDED)[None, :]
    tl.store(y_ptr + pixel[:, None] * EXPANDED + c[None, :], d, mask=mask)


@triton.jit
def store_outputs(
    sums, x_ptr, v_ptr, y_ptr, pixel, live, o,
    OUT: tl.constexpr, PROJECT_SCALE: tl.constexpr, PROJECT_BIAS: tl.constexpr,
    PROJECT_ACTIVATION: tl.constexpr, RESIDUAL: tl.constexpr,
):  # fmt: skip
    """Scale, bias, activation and shortcut of the output channels o, stored."""
    mask = live[:, None] & (o < OUT)[None, :]
    offset = pixel[:, None] * OUT + o[None, :]
    scale = tl.load(v_ptr + PROJECT_SCALE + o)[None, :]
    y = activate(tl.fma(sums, scale, tl.load(v_ptr + PROJECT_BIAS + o)[None, :]), PROJECT_ACTIVATION)
    if RESIDUAL:
        y += tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(y_ptr + offset, y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _store_nan(
    x_ptr, y_ptr, n, y, column, live, o0, H, W, OUT_H, OUT_W, TOP, LEFT,
    IN: tl.constexpr, DEPTH: tl.constexpr, OUT: tl.constexpr, N: tl.constexpr,
    S: tl.constexpr, M: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """NaN over the N channels from o0 of those of M outputs whose 3x3 windows hold one (or both infinities).

    A clamp to [0, 1] has made it 0. Comes last, when the sums' registers are free again.
    """
    sums = tl.zeros((M, 16), tl.float32)
    for tap in tl.range(9, num_stages=1):
        row = y * S - TOP + tap // 3
        x = column * S - LEFT + tap % 3
        inside = live & (row >= 0) & (row < H) & (x >= 0) & (x < W)
        sums = add_channels(sums, x_ptr, (n * H + row) * W + x, inside, IN, DEPTH, BK)
    # Another thread may have stored the result.
    tl.debug_barrier()
    pixel = (n * OUT_H + y) * OUT_W + column
    for o in tl.range(o0, min(o0 + N, OUT), 16):
        channel = o + tl.arange(0, 16)
        mask = (sums != sums) & live[:, None] & (channel < OUT)[None, :]
        tl.store(y_ptr + pixel[:, None] * OUT + channel[None, :], sums.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _image(n, WIDE: tl.constexpr):
    """The image's number, of 64 bits where offsets need them."""
    return n.to(tl.int64) if WIDE else n


@triton.jit
def _load_tap(v_ptr, c, tap, DEPTHWISE: tl.constexpr, STRIDE: tl.constexpr):
    return tl.load(v_ptr + DEPTHWISE + tap * STRIDE + c)[None, :]


@triton.jit
def _load_taps(
    v_ptr, c, first, CHANNEL_TAPS: tl.constexpr, TAP_STRIDE: tl.constexpr,
    BC: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """TAPS (2 or 4) of each channel's taps and bias, by one load: a tuple of [1, BC]."""
    values = tl.load(v_ptr + CHANNEL_TAPS + c[:, None] * TAP_STRIDE + (first + tl.arange(0, TAPS))[None, :])
    if TAPS == 2:
        t0, t1 = tl.split(values)
        taps = (t0[None, :], t1[None, :])
    else:
        even, odd = tl.split(tl.reshape(values, (BC, 2, 2)))
        t0, t2 = tl.split(even)
        t1, t3 = tl.split(odd)
        taps = (t0[None, :], t1[None, :], t2[None, :], t3[None, :])
    return taps


@triton.jit
def _load_bias_and_taps(
    v_ptr, c, DEPTHWISE_BIAS: tl.constexpr, CHANNEL_TAPS: tl.constexpr, TAP_STRIDE: tl.constexpr,
    BC: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """The depthwise bias of the channels c, [1, BC], and their nine taps (none yet where TAPS is 1)."""
    taps = ()
    if TAPS == 1:
        bias = tl.load(v_ptr + DEPTHWISE_BIAS + c)[None, :]
    else:
        for first in tl.static_range(0, 10, TAPS):
            taps = taps + _load_taps(v_ptr, c, first, CHANNEL_TAPS, TAP_STRIDE, BC, TAPS)
        bias = taps[9]
    return bias, taps


@triton.jit
def _tap(v_ptr, c, taps, tap, DEPTHWISE: tl.constexpr, STRIDE: tl.constexpr, TAPS: tl.constexpr):
    """One of the nine taps, [1, BC]. Where TAPS is 1 it is loaded here: all at once take registers."""
    return _load_tap(v_ptr, c, tap, DEPTHWISE, STRIDE) if TAPS == 1 else taps[tap]


@triton.jit
def rows_kernel(
    x_ptr, w_ptr, v_ptr, y_ptr, N, H, W, OUT_H, OUT_W, TOP, LEFT,
    IN: tl.constexpr, DEPTH: tl.constexpr, EXPANDED: tl.constexpr, STRIDE: tl.constexpr,
    OUT: tl.constexpr, OUT_STRIDE: tl.constexpr, FOLDED: tl.constexpr,
    EXPAND: tl.constexpr, PROJECT: tl.constexpr, EXPAND_SCALE: tl.constexpr, EXPAND_BIAS: tl.constexpr,
    DEPTHWISE: tl.constexpr, DEPTHWISE_SCALE: tl.constexpr, DEPTHWISE_BIAS: tl.constexpr,
    CHANNEL_TAPS: tl.constexpr, TAP_STRIDE: tl.constexpr, TAPS: tl.constexpr,
    PROJECT_SCALE: tl.constexpr, PROJECT_BIAS: tl.constexpr,
    S: tl.constexpr, ACTIVATION: tl.constexpr, DEPTHWISE_ACTIVATION: tl.constexpr, SIX: tl.constexpr,
    PROJECT_ACTIVATION: tl.constexpr, RESIDUAL: tl.constexpr,
    WIDE: tl.constexpr, EXACT: tl.constexpr, PRECISION: tl.constexpr,
    R: tl.constexpr, M: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr, UNROLL: tl.constexpr,
    NA: tl.constexpr, GROUPS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """R output rows of M columns, NA output channels; the columns of all images are one axis."""
    pid = tl.program_id(0)
    group, pid = pid % GROUPS, pid // GROUPS
    row_groups = (OUT_H + R - 1) // R
    y0 = pid % row_groups * R
    p = pid // row_groups * M + tl.arange(0, M)
    n = _image(p // OUT_W, WIDE)
    column = p % OUT_W
    live = p < N * OUT_W
    o = group * NA + tl.arange(0, NA)
    x_dtype: tl.constexpr = x_ptr.dtype.element_ty
    sums = ()  # which grows by addition: Triton has no unpacking
    for _ in tl.static_range(R):
        sums = sums + (tl.zeros((M, NA), tl.float32),)  # noqa: RUF005
    for c0 in tl.range(0, EXPANDED, BC, num_stages=STAGES):
        c = c0 + tl.arange(0, BC)
        project = _project_weights(w_ptr, c, o, x_dtype, PROJECT, OUT_STRIDE)
        bias = tl.load(v_ptr + EXPAND_BIAS + c)
        depthwise_bias, taps = _load_bias_and_taps(
            v_ptr, c, DEPTHWISE_BIAS, CHANNEL_TAPS, TAP_STRIDE, BC, TAPS
        )
        begin = _begin_depthwise(depthwise_bias, M, BC, FOLDED)
        # Sums of the output rows that the current input row still adds to; d0 is completed first.
        d0 = begin
        d1 = begin
        d2 = begin
        for i in tl.static_range((R - 1) * S + 3):
            row = y0 * S - TOP + i
            for dx in tl.static_range(3):
                x = column * S - LEFT + dx
                inside = live & (row >= 0) & (row < H) & (x >= 0) & (x < W)
                e = _expand(
                    x_ptr, w_ptr, v_ptr, bias, (n * H + row) * W + x, inside, c,
                    IN, DEPTH, EXPANDED, STRIDE, FOLDED, EXPAND, EXPAND_SCALE, EXPAND_BIAS,
                    M, BC, BK, UNROLL, ACTIVATION, SIX, EXACT, PRECISION,
                )  # fmt: skip
                if S == 1:
                    if i >= 2:
                        d0 += e * _tap(v_ptr, c, taps, 6 + dx, DEPTHWISE, STRIDE, TAPS)
                    if (i >= 1) & (i <= R):
                        d1 += e * _tap(v_ptr, c, taps, 3 + dx, DEPTHWISE, STRIDE, TAPS)
                    if i < R:
                        d2 += e * _tap(v_ptr, c, taps, dx, DEPTHWISE, STRIDE, TAPS)
                elif i % 2 == 1:
                    d0 += e * _tap(v_ptr, c, taps, 3 + dx, DEPTHWISE, STRIDE, TAPS)
                else:
                    if i >= 2:
                        d0 += e * _tap(v_ptr, c, taps, 6 + dx, DEPTHWISE, STRIDE, TAPS)
                    if i < 2 * R:
                        d1 += e * _tap(v_ptr, c, taps, dx, DEPTHWISE, STRIDE, TAPS)
            if (i >= 2) & ((i - 2) % S == 0):
                d = _finish_depthwise(d0, v_ptr, c, FOLDED, DEPTHWISE_SCALE, DEPTHWISE_BIAS)
                d = saturate(d, DEPTHWISE_ACTIVATION, SIX, EXACT).to(x_dtype)
                done = tl.dot(d, project, sums[(i - 2) // S], input_precision=PRECISION)
                sums = sums[: (i - 2) // S] + (done,) + sums[(i - 2) // S + 1 :]  # noqa: RUF005
            if (S == 1) | (i % 2 == 0):
                d0 = d1
                d1 = d2
                d2 = begin
    for r in tl.static_range(R):
        y = y0 + r
        store_outputs(
            sums[r], x_ptr, v_ptr, y_ptr, (n * OUT_H + y) * OUT_W + column, live & (y < OUT_H), o,
            OUT, PROJECT_SCALE, PROJECT_BIAS, PROJECT_ACTIVATION, RESIDUAL,
        )  # fmt: skip
    if ACTIVATION == "relu6" and not EXACT:
        for r in tl.range(R, num_stages=1):
            _store_nan(
                x_ptr, y_ptr, n, y0 + r, column, live & (y0 + r < OUT_H), group * NA,
                H, W, OUT_H, OUT_W, TOP, LEFT, IN, DEPTH, OUT, NA, S, M, BK,
            )  # fmt: skip


@triton.jit
def _rotation(p, dy, dx, T: tl.constexpr):
    """Where in its T x T tile each of the pixels p finds its neighbour, which may wrap round."""
    row = ((p // T) % T + dy + T) % T
    return p // (T * T) * (T * T) + row * T + (p % T + dx + T) % T


@triton.jit
def tile_kernel(
    x_ptr, w_ptr, v_ptr, y_ptr, N, H, W, OUT_H, OUT_W, TOP, LEFT,
    IN: tl.constexpr, DEPTH: tl.constexpr, EXPANDED: tl.constexpr, STRIDE: tl.constexpr,
    OUT: tl.constexpr, OUT_STRIDE: tl.constexpr, FOLDED: tl.constexpr,
    EXPAND: tl.constexpr, PROJECT: tl.constexpr, EXPAND_SCALE: tl.constexpr, EXPAND_BIAS: tl.constexpr,
    DEPTHWISE: tl.constexpr, DEPTHWISE_SCALE: tl.constexpr, DEPTHWISE_BIAS: tl.constexpr,
    CHANNEL_TAPS: tl.constexpr, TAP_STRIDE: tl.constexpr, TAPS: tl.constexpr,
    PROJECT_SCALE: tl.constexpr, PROJECT_BIAS: tl.constexpr,
    S: tl.constexpr, ACTIVATION: tl.constexpr, DEPTHWISE_ACTIVATION: tl.constexpr, SIX: tl.constexpr,
    PROJECT_ACTIVATION: tl.constexpr, RESIDUAL: tl.constexpr,
    WIDE: tl.constexpr, EXACT: tl.constexpr, PRECISION: tl.constexpr, K: tl.constexpr, GATED: tl.constexpr,
    T: tl.constexpr, TORUS: tl.constexpr, EDGE: tl.constexpr,
    M: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr, UNROLL: tl.constexpr,
    NA: tl.constexpr, NB: tl.constexpr, GROUPS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """M / T^2 tiles of T x T pixels, NA + NB output channels (NB may be 0: powers of two are cheap).

    TORUS, the padding or 0 (stride 1 and an image of less than T x T): the zero rows and columns behind the
    image serve as its padding on both sides, as a rotation wraps round. Otherwise EDGE x EDGE outputs of a
    tile are kept. GATED: y takes the depthwise results, of a block with one group of output channels.
    """
    pid = tl.program_id(0)
    group, pid = pid % GROUPS, pid // GROUPS
    tiles_x = (OUT_W + EDGE - 1) // EDGE
    tiles = (OUT_H + EDGE - 1) // EDGE * tiles_x
    p = tl.arange(0, M)
    ty = (p // T) % T
    tx = p % T
    tile = pid * (M // (T * T)) + p // (T * T)
    n = _image(tile // tiles, WIDE)
    yo = tile % tiles // tiles_x * EDGE + ty
    xo = tile % tiles_x * EDGE + tx
    top = 0 if TORUS else TOP
    left = 0 if TORUS else LEFT
    live = (n < N) & (ty < EDGE) & (tx < EDGE) & (yo < OUT_H) & (xo < OUT_W)
    pixel = (n * OUT_H + yo) * OUT_W + xo
    oa = group * (NA + NB) + tl.arange(0, NA)
    x_dtype: tl.constexpr = x_ptr.dtype.element_ty
    sums_a = tl.zeros((M, NA), tl.float32)
    if NB > 0:
        ob = group * (NA + NB) + NA + tl.arange(0, NB)
        sums_b = tl.zeros((M, NB), tl.float32)
    for c0 in tl.range(0, EXPANDED, BC, num_stages=STAGES):
        c = c0 + tl.arange(0, BC)
        bias = tl.load(v_ptr + EXPAND_BIAS + c)
        depthwise_bias, taps = _load_bias_and_taps(
            v_ptr, c, DEPTHWISE_BIAS, CHANNEL_TAPS, TAP_STRIDE, BC, TAPS
        )
        d = _begin_depthwise(depthwise_bias, M, BC, FOLDED)
        for py in tl.static_range(S):
            for px in tl.static_range(S):
                row = yo * S + py - top
                x = xo * S + px - left
                inside = (n < N) & (row >= 0) & (row < H) & (x >= 0) & (x < W)
                e = _expand(
                    x_ptr, w_ptr, v_ptr, bias, (n * H + row) * W + x, inside, c,
                    IN, DEPTH, EXPANDED, STRIDE, FOLDED, EXPAND, EXPAND_SCALE, EXPAND_BIAS,
                    M, BC, BK, UNROLL, ACTIVATION, SIX, EXACT, PRECISION,
                )  # fmt: skip
                for dy in tl.static_range(K):
                    for dx in tl.static_range(K):
                        if (dy - py) % S == 0 and (dx - px) % S == 0:
                            # The unshifted neighbour is gathered, too: taps in two layouts cost 20 to 80 %.
                            source = _rotation(p, (dy - py) // S - TORUS, (dx - px) // S - TORUS, T)
                            value = tl.gather(e, tl.broadcast_to(source[:, None], (M, BC)), 0)
                            d += value * _tap(v_ptr, c, taps, dy * K + dx, DEPTHWISE, STRIDE, TAPS)
        d = _finish_depthwise(d, v_ptr, c, FOLDED, DEPTHWISE_SCALE, DEPTHWISE_BIAS)
        d = saturate(d, DEPTHWISE_ACTIVATION, SIX, EXACT).to(x_dtype)
        if GATED:
            _store_depthwise(d, y_ptr, pixel, live, c, EXPANDED)
        else:
            project = _project_weights(w_ptr, c, oa, x_dtype, PROJECT, OUT_STRIDE)
            sums_a = tl.dot(d, project, sums_a, input_precision=PRECISION)
            if NB > 0:
                project = _project_weights(w_ptr, c, ob, x_dtype, PROJECT, OUT_STRIDE)
                sums_b = tl.dot(d, project, sums_b, input_precision=PRECISION)
    if not GATED:
        store_outputs(
            sums_a, x_ptr, v_ptr, y_ptr, pixel, live, oa,
            OUT, PROJECT_SCALE, PROJECT_BIAS, PROJECT_ACTIVATION, RESIDUAL,
        )  # fmt: skip
    if NB > 0 and not GATED:
        store_outputs(
            sums_b, x_ptr, v_ptr, y_ptr, pixel, live, ob,
            OUT, PROJECT_SCALE, PROJECT_BIAS, PROJECT_ACTIVATION, RESIDUAL,
        )  # fmt: skip
    if ACTIVATION == "relu6" and not EXACT:
        _store_nan(
            x_ptr, y_ptr, n, yo, xo, live, group * (NA + NB),
            H, W, OUT_H, OUT_W, TOP, LEFT, IN, DEPTH, OUT, NA + NB, S, M, BK,
        )  # fmt: skip


@triton.jit
def direct_kernel(
    x_ptr, w_ptr, v_ptr, y_ptr, N, H, W, OUT_H, OUT_W, TOP, LEFT,
    IN: tl.constexpr, EXPANDED: tl.constexpr, STRIDE: tl.constexpr,
    OUT: tl.constexpr, OUT_STRIDE: tl.constexpr, FOLDED: tl.constexpr, PROJECT: tl.constexpr,
    DEPTHWISE: tl.constexpr, DEPTHWISE_SCALE: tl.constexpr, DEPTHWISE_BIAS: tl.constexpr,
    PROJECT_SCALE: tl.constexpr, PROJECT_BIAS: tl.constexpr,
    S: tl.constexpr, DEPTHWISE_ACTIVATION: tl.constexpr, PROJECT_ACTIVATION: tl.constexpr,
    RESIDUAL: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr, K: tl.constexpr, GATED: tl.constexpr,
    M: tl.constexpr, BC: tl.constexpr, NA: tl.constexpr, GROUPS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """M output pixels, NA output channels of a block without an expand. GATED: as for tiles."""
    pid = tl.program_id(0)
    group, pid = pid % GROUPS, pid // GROUPS
    p = _image(pid, WIDE) * M + tl.arange(0, M)
    n = p // (OUT_H * OUT_W)
    y = p // OUT_W % OUT_H
    column = p % OUT_W
    live = n < N
    o = group * NA + tl.arange(0, NA)
    x_dtype: tl.constexpr = x_ptr.dtype.element_ty
    sums = tl.zeros((M, NA), tl.float32)
    for c0 in tl.range(0, EXPANDED, BC, num_stages=STAGES):
        c = c0 + tl.arange(0, BC)
        d = _begin_depthwise(tl.load(v_ptr + DEPTHWISE_BIAS + c)[None, :], M, BC, FOLDED)
        for tap in tl.static_range(K * K):
            row = y * S - TOP + tap // K
            x = column * S - LEFT + tap % K
            inside = live & (row >= 0) & (row < H) & (x >= 0) & (x < W)
            value = load_pixels(x_ptr, (n * H + row) * W + x, inside, c, IN)
            d += value.to(tl.float32) * _load_tap(v_ptr, c, tap, DEPTHWISE, STRIDE)
        d = _finish_depthwise(d, v_ptr, c, FOLDED, DEPTHWISE_SCALE, DEPTHWISE_BIAS)
        d = activate(d, DEPTHWISE_ACTIVATION).to(x_dtype)
        if GATED:
            _store_depthwise(d, y_ptr, p, live, c, EXPANDED)
        else:
            project = _project_weights(w_ptr, c, o, x_dtype, PROJECT, OUT_STRIDE)
            sums = tl.dot(d, project, sums, input_precision=PRECISION)
    if not GATED:
        store_outputs(
            sums, x_ptr, v_ptr, y_ptr, p, live, o,
            OUT, PROJECT_SCALE, PROJECT_BIAS, PROJECT_ACTIVATION, RESIDUAL,
        )  # fmt: skip


# --- launch ---

# The packed sections of a gate, which later passes take.
GATE_SECTIONS = ("SQUEEZE", "EXCITE")
# The most elements that offsets of 32 bits reach.
NARROW = 2**31


@dataclass(frozen=True)
class Launch:
    """A kernel, its grid, run-time integers, compile-time constants and options."""

    kernel: Any
    grid: tuple[int]
    sizes: tuple[int, ...]
    constants: dict[str, Any]
    packing: Packing
    warps: int

    def __call__(self, x: Tensor, packed: Tensor, y: Tensor) -> None:
        """Runs the block: x and y channels_last."""
        weights = self.packing.views(packed)
        self.kernel[self.grid](x, *weights, y, *self.sizes, **self.constants, num_warps=self.warps)


@lru_cache(maxsize=1024)
def block_launch(
    shape: BlockShape, packing: Packing, config: Config, dtype: torch.dtype, precision: str
) -> Launch:
    """How a block of at least one image runs; ``precision`` is that of float32 products: "ieee" or "tf32".

    With a gate its first pass, whose result is that of the depthwise convolution.
    """
    first, second, groups = output_pieces(config, shape.out_channels)
    if shape.squeezed_channels:
        first, second, groups = MIN_STEP, 0, 1
    constants: dict[str, Any] = {
        **{name: at for name, at in packing.offsets.items() if not name.startswith(GATE_SECTIONS)},
        "IN": shape.in_channels,
        "EXPANDED": shape.expanded_channels,
        "STRIDE": round_up(shape.expanded_channels, CHANNEL_STEP),
        "OUT": shape.out_channels,
        "OUT_STRIDE": power_of_two(shape.out_channels),
        "FOLDED": is_folded(packing.dtype),
        "S": shape.stride,
        "DEPTHWISE_ACTIVATION": shape.depthwise_activation or shape.activation,
        "PROJECT_ACTIVATION": shape.project_activation,
        "RESIDUAL": shape.residual,
        "WIDE": max(shape.input_bytes(torch.uint8), shape.output_bytes(torch.uint8)) >= NARROW,
        "PRECISION": precision,
        "M": config.m,
        "BC": config.bc,
        "NA": first,
        "GROUPS": groups,
        "STAGES": config.stages,
    }
    if config.kind != "rows":
        constants |= {"K": shape.kernel, "GATED": bool(shape.squeezed_channels)}
    if shape.expand:
        constants |= {"ACTIVATION": shape.activation, "SIX": 1.0 if packing.in_sixths else 6.0}
        constants |= {"DEPTH": padded_depth(shape.in_channels), "BK": config.bk}
        constants |= {"TAPS": config.taps, "TAP_STRIDE": TAP_STRIDE}
        constants["UNROLL"] = constants["DEPTH"] <= config.resident
        # Dots of float32 outweigh the clamps.
        constants["EXACT"] = config.exact or dtype == torch.float32 or not packing.in_sixths
    kernel, programs, more = _CUTS[config.kind](shape, config)
    if config.kind == "tile":
        more["NB"] = second
    top, left, _, _ = shape.padding
    sizes = (shape.batch, shape.height, shape.width, shape.out_height, shape.out_width, top, left)
    return Launch(kernel, (programs * groups,), sizes, constants | more, packing, config.warps)


def _rows(shape: BlockShape, config: Config) -> tuple[Any, int, dict[str, Any]]:
    row_groups = triton.cdiv(shape.out_height, config.rows)
    return rows_kernel, row_groups * triton.cdiv(shape.batch * shape.out_width, config.m), {"R": config.rows}


def _tile(shape: BlockShape, config: Config) -> tuple[Any, int, dict[str, Any]]:
    # On a torus the padding is the same on every side and nothing of the tile is lost.
    rim = shape.kernel // 2
    is_torus = (
        shape.stride == 1
        and shape.padding == symmetric_padding(shape.kernel)
        and max(shape.height, shape.width) + rim <= config.tile
    )
    edge = config.tile - (rim if is_torus else (shape.kernel - 1) // shape.stride)
    tiles = triton.cdiv(shape.out_height, edge) * triton.cdiv(shape.out_width, edge)
    programs = triton.cdiv(shape.batch * tiles, config.m // config.tile**2)
    return tile_kernel, programs, {"T": config.tile, "TORUS": rim if is_torus else 0, "EDGE": edge}


def _direct(shape: BlockShape, config: Config) -> tuple[Any, int, dict[str, Any]]:
    return direct_kernel, triton.cdiv(shape.batch * shape.out_height * shape.out_width, config.m), {}


_CUTS = {"rows": _rows, "tile": _tile, "direct": _direct}
