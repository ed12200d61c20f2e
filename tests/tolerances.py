"""How far a result may lie from the float64 one."""

from __future__ import annotations

import math

import torch
from cases import Case
from torch import Tensor

from mnv2_kernels import _native
from mnv2_kernels.accuracy import (
    FLOAT32_EPS,
    LAST_ROUNDINGS,
    MINIMUM_INPUTS,
    largest_allowed_error,
    output_rounding,
)
from mnv2_kernels.dtypes import dtype_name
from mnv2_kernels.shapes import BlockShape

# How much an activation may enlarge the error of what it is given.
STEEPEST = {"hardswish": 1.5, "silu": 1.1}

# Products that ARM's float16 arithmetic adds up before a float32 sum takes them, and their last roundings.
HALF_RUN = 16 + 2


def max_error(actual: Tensor, truth: Tensor) -> float:
    return (actual.double() - truth).abs().max().item()


def assert_accurate(actual: Tensor, eager: Tensor, truth: Tensor) -> None:
    """The accuracy rule for one dtype's results of the fused and the eager block on the same inputs."""
    assert actual.shape == truth.shape
    assert actual.dtype == eager.dtype
    assert truth.shape[0] >= MINIMUM_INPUTS, "the rule does not hold per input"
    limit = largest_allowed_error(max_error(eager, truth), truth.abs().max().item(), actual.dtype)
    error = max_error(actual, truth)
    assert error <= limit, f"error {error:.3g} over the limit {limit:.3g} ({error / limit:.2f} times)"


def sixteen_bit_rounding(dtype: torch.dtype) -> float:
    """What multiplying numbers of `dtype` as they are may add, relative to a sum's magnitude.

    0 where the selected instruction set computes in float32. Otherwise what a block multiplies last is
    rounded to `dtype` before, and float16 products are added up in float16.
    """
    if not _native.selected_isa(dtype_name(dtype)).endswith("16"):
        return 0.0
    return torch.finfo(dtype).eps * (HALF_RUN if dtype == torch.float16 else 1)


def assert_within_rounding(case: Case, actual: Tensor) -> None:
    """The textbook bound for sums, value by value: loose, but it holds for any input, however few."""
    truth, magnitude = case.reference(torch.float64), case.magnitude()
    assert actual.shape == truth.shape
    assert actual.dtype == case.x.dtype
    shape = case.shape
    depth = shape.in_channels
    activations = [name for option, name in case.options.items() if option.endswith("activation")]
    steepness = math.prod(STEEPEST.get(name, 1.0) for name in activations)
    steepness *= STEEPEST.get(case.options.get("activation"), 1.0)  # a block may have it twice
    if isinstance(shape, BlockShape):
        depth += shape.taps + shape.expanded_channels + 1
        depth += shape.expanded_channels + shape.squeezed_channels if shape.squeezed_channels else 0
    else:
        depth = shape.accumulation_depth + shape.height * shape.width
    sums = (depth + LAST_ROUNDINGS) * FLOAT32_EPS + sixteen_bit_rounding(actual.dtype)
    bound = steepness * sums * magnitude + output_rounding(actual.dtype) * truth.abs()
    error = (actual.double() - truth).abs()
    assert (error <= bound + torch.finfo(actual.dtype).tiny).all(), (
        f"{(error / bound).max():.3g} times the bound"
    )
