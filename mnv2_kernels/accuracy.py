"""THE accuracy rule: how far a float result may lie from the float64 one.

The largest error, pooled over at least MINIMUM_INPUTS inputs, is at most EAGER_FACTOR times that of the eager
block (convolution, then BatchNorm) of the same dtype on the same inputs.
"""

from __future__ import annotations

import torch

EAGER_FACTOR = 2.0
# One input's largest error is a matter of luck, that of eight hardly.
MINIMUM_INPUTS = 8

# What remains where eager happens to be almost exact: three convolutions, each rounded by scale and bias.
LAST_ROUNDINGS = 6

FLOAT32_EPS = torch.finfo(torch.float32).eps


def output_rounding(dtype: torch.dtype) -> float:
    """The error of storing a float32 result as `dtype`, relative to it."""
    return 0.0 if dtype == torch.float32 else torch.finfo(dtype).eps / 2


def largest_allowed_error(eager_error: float, largest_value: float, dtype: torch.dtype) -> float:
    """The rule's limit for results of `dtype`, by eager's largest error and the largest float64 result."""
    rounding = LAST_ROUNDINGS * FLOAT32_EPS / 2 + output_rounding(dtype)
    return max(EAGER_FACTOR * eager_error, rounding * largest_value)
