"""A block with a gate, in passes, as a gate is made of the means of all pixels of what it multiplies.

The depthwise results of the first pass (inverted_residual.py) are stored; then come their means, squeeze and
excite, and the project of what the gate makes of them. Each sum's order is that of one image by itself.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..shapes import BlockShape
from .arithmetic import activate, hardsigmoid
from .inverted_residual import Launch, store_outputs
from .packing import CHANNEL_STEP, MIN_STEP, Packing, power_of_two, round_up

# Pixels that are added up at a time, and channels of a program.
MEAN_PIXELS = 64
GATE_CHANNELS = 64
# Pixels and the most output channels of a program of the project.
PROJECT_PIXELS = 64
PROJECT_CHANNELS = 128
WARPS = 4


@triton.jit
def means_kernel(
    x_ptr, y_ptr, PIXELS, CHANNELS: tl.constexpr, STRIDE: tl.constexpr, M: tl.constexpr, BC: tl.constexpr
):
    """Means [N, STRIDE] of the pixels of NHWC images, BC channels of one image."""
    n, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * BC + tl.arange(0, BC)
    sums = tl.zeros((BC,), tl.float32)
    for p0 in tl.range(0, PIXELS, M):
        p = p0 + tl.arange(0, M)
        mask = (p < PIXELS)[:, None] & (c < CHANNELS)[None, :]
        x = tl.load(x_ptr + (n * PIXELS + p)[:, None] * CHANNELS + c[None, :], mask=mask, other=0.0)
        sums += tl.sum(x.to(tl.float32), axis=0)
    tl.store(y_ptr + n * STRIDE + c, sums / PIXELS)


@triton.jit
def gate_layer_kernel(
    x_ptr, v_ptr, y_ptr, DEPTH: tl.constexpr, CHANNELS: tl.constexpr,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, ACTIVATION: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """A 1x1 convolution [N, CHANNELS] of vectors [N, DEPTH], BC channels of one vector; float32."""
    n, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * BC + tl.arange(0, BC)
    sums = tl.zeros((BC,), tl.float32)
    for k0 in tl.range(0, DEPTH, BK):
        k = k0 + tl.arange(0, BK)
        x = tl.load(x_ptr + n * DEPTH + k)
        w = tl.load(v_ptr + WEIGHT + k[:, None] * CHANNELS + c[None, :])
        sums += tl.sum(x[:, None] * w, axis=0)
    y = sums + tl.load(v_ptr + BIAS + c)
    if ACTIVATION == "sigmoid":
        y = 1.0 / (1.0 + tl.exp(-y))
    elif ACTIVATION == "hardsigmoid":
        y = hardsigmoid(y)
    else:
        y = activate(y, ACTIVATION)
    tl.store(y_ptr + n * CHANNELS + c, y)


@triton.jit
def gated_project_kernel(
    depthwise_ptr, factors_ptr, x_ptr, w_ptr, v_ptr, y_ptr, PIXELS, TOTAL,
    EXPANDED: tl.constexpr, STRIDE: tl.constexpr, OUT: tl.constexpr, OUT_STRIDE: tl.constexpr,
    PROJECT: tl.constexpr, PROJECT_SCALE: tl.constexpr, PROJECT_BIAS: tl.constexpr,
    PROJECT_ACTIVATION: tl.constexpr, RESIDUAL: tl.constexpr, PRECISION: tl.constexpr,
    M: tl.constexpr, BK: tl.constexpr, NA: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """M of all TOTAL pixels, PIXELS of an image; NA output channels."""
    pid = tl.program_id(0)
    group, pid = pid % GROUPS, pid // GROUPS
    p = pid.to(tl.int64) * M + tl.arange(0, M)
    live = p < TOTAL
    o = group * NA + tl.arange(0, NA)
    x_dtype: tl.constexpr = x_ptr.dtype.element_ty
    sums = tl.zeros((M, NA), tl.float32)
    for k0 in tl.range(0, STRIDE, BK):
        k = k0 + tl.arange(0, BK)
        mask = live[:, None] & (k < EXPANDED)[None, :]
        d = tl.load(depthwise_ptr + p[:, None] * EXPANDED + k[None, :], mask=mask, other=0.0)
        factor = tl.load(factors_ptr + (p // PIXELS)[:, None] * STRIDE + k[None, :], mask=mask, other=0.0)
        d = (d.to(tl.float32) * factor).to(x_dtype)
        project = tl.load(w_ptr + PROJECT + k[:, None] * OUT_STRIDE + o[None, :]).to(x_dtype)
        sums = tl.dot(d, project, sums, input_precision=PRECISION)
    store_outputs(
        sums, x_ptr, v_ptr, y_ptr, p, live, o,
        OUT, PROJECT_SCALE, PROJECT_BIAS, PROJECT_ACTIVATION, RESIDUAL,
    )  # fmt: skip


def run_gated(
    shape: BlockShape, packing: Packing, first: Launch, precision: str, x: Tensor, packed: Tensor, y: Tensor
) -> None:
    """Runs a block of at least one image, whose first pass is ``first``: x and y channels_last."""
    pixels = shape.out_height * shape.out_width
    depthwise_out = x.new_empty((shape.batch * pixels, shape.expanded_channels))
    first(x, packed, depthwise_out)
    factors = _factors(shape, packing, depthwise_out, packed)
    channels = min(power_of_two(shape.out_channels), PROJECT_CHANNELS)
    groups = triton.cdiv(shape.out_channels, channels)
    names = ("PROJECT", "PROJECT_SCALE", "PROJECT_BIAS")
    gated_project_kernel[(triton.cdiv(shape.batch * pixels, PROJECT_PIXELS) * groups,)](
        depthwise_out, factors, x, *packing.views(packed), y, pixels, shape.batch * pixels,
        EXPANDED=shape.expanded_channels, STRIDE=factors.shape[1], OUT=shape.out_channels,
        OUT_STRIDE=power_of_two(shape.out_channels), **{name: packing.offsets[name] for name in names},
        PROJECT_ACTIVATION=shape.project_activation, RESIDUAL=shape.residual, PRECISION=precision,
        M=PROJECT_PIXELS, BK=MIN_STEP, NA=channels, GROUPS=groups, num_warps=WARPS,
    )  # fmt: skip


def _factors(shape: BlockShape, packing: Packing, depthwise_out: Tensor, packed: Tensor) -> Tensor:
    """What multiplies each channel of each image: float32 [N, channels in whole steps]."""
    wide = round_up(shape.expanded_channels, CHANNEL_STEP)
    squeezed = round_up(shape.squeezed_channels, CHANNEL_STEP)
    _, vectors = packing.views(packed)
    means, squeezes, factors = (
        torch.empty((shape.batch, channels), device=packed.device) for channels in (wide, squeezed, wide)
    )
    means_kernel[(shape.batch, wide // GATE_CHANNELS)](
        depthwise_out, means, shape.out_height * shape.out_width,
        CHANNELS=shape.expanded_channels, STRIDE=wide, M=MEAN_PIXELS, BC=GATE_CHANNELS, num_warps=WARPS,
    )  # fmt: skip
    layers = (
        (means, squeezes, "SQUEEZE", shape.squeeze_activation),
        (squeezes, factors, "EXCITE", shape.excite_activation),
    )
    for before, after, name, activation in layers:
        gate_layer_kernel[(shape.batch, after.shape[1] // GATE_CHANNELS)](
            before, vectors, after, DEPTH=before.shape[1], CHANNELS=after.shape[1],
            WEIGHT=packing.offsets[name], BIAS=packing.offsets[f"{name}_BIAS"], ACTIVATION=activation,
            BK=CHANNEL_STEP, BC=GATE_CHANNELS, num_warps=WARPS,
        )  # fmt: skip
    return factors
