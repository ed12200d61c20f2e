"""A layer that kernels compute, with its weights and its gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import ops as ops
from ..layer import Layer
from .functions import LayerFunction

Weights = tuple[Tensor | None, ...]


@dataclass
class Fusion:
    """A layer that kernels compute, in place of torch's modules.

    ``weights`` gives its tensors as mnv2::pack takes them, without a gradient; ``function`` is what it
    computes, with gradients.
    """

    layer: Layer
    weights: Callable[[], Weights]
    function: LayerFunction

    def __call__(self, x: Tensor) -> Tensor:
        """Packs and runs, for a trace in which nothing may outlive the call."""
        text = str(self.layer)
        packed = torch.ops.mnv2.pack.default(list(self.weights()), layers=text)
        return torch.ops.mnv2.run.default(x, packed, layers=text)
