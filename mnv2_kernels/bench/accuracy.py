"""When a network's logits are right: what every comparison checks before it times anything."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..nn.networks import eager_copy
from . import WrongResultError
from .setting import torch_threads

# The largest error over the largest logit: a wrong engine is off by about 1, rounding by far less.
LARGEST_ERROR = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 0.2}


def relative_error(y: Any, expected: Tensor) -> float:
    """The largest error of a logit over the largest logit; NaN or infinity where one is."""
    difference = torch.as_tensor(y).cpu().double() - expected
    return (difference.abs().max() / expected.abs().max()).item()


def is_right(error: float, accuracy: str) -> bool:
    """Whether an error is rounding; always where nothing is known of an accuracy."""
    return accuracy not in LARGEST_ERROR or error <= LARGEST_ERROR[accuracy]  # which NaN is not


def require_right(what: str, y: Tensor, model: nn.Module, x: Tensor) -> None:
    """Raises WrongResultError unless these are a float32 model's logits of x, by its layers in float64."""
    # In torch's float64 convolution threads meet at every group: two can be 20 times slower than one.
    with torch_threads(1):
        error = relative_error(y, eager_copy(model).double()(x.double()))
    if not is_right(error, "float32"):
        raise WrongResultError(f"{what} is wrong: off by {error:.2g} of the largest logit")
