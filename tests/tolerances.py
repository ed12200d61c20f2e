"""How far a result may lie from the float64 one."""

from __future__ import annotations

import torch
from cases import Case
from torch import Tensor

from mnv2_kernels.accuracy import (
    FLOAT32_EPS,
    LAST_ROUNDINGS,
    MINIMUM_INPUTS,
    largest_allowed_error,
    output_rounding,
)
from mnv2_kernels.shapes import KERNEL_TAPS, BlockShape


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


def assert_within_rounding(case: Case, actual: Tensor) -> None:
    """The textbook bound for float32 sums, value by value: loose, but it holds for any input, however few."""
    truth, magnitude = case.reference(torch.float64), case.magnitude()
    assert actual.shape == truth.shape
    assert actual.dtype == case.x.dtype
    shape = case.shape
    depth = shape.in_channels
    if isinstance(shape, BlockShape):
        depth += KERNEL_TAPS + shape.expanded_channels + 1
    else:
        depth = shape.accumulation_depth + shape.height * shape.width
    bound = (depth + LAST_ROUNDINGS) * FLOAT32_EPS * magnitude + output_rounding(actual.dtype) * truth.abs()
    error = (actual.double() - truth).abs()
    assert (error <= bound + torch.finfo(actual.dtype).tiny).all(), (
        f"{(error / bound).max():.3g} times the bound"
    )
