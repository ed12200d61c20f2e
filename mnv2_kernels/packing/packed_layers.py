"""Layers and their weights, packed for this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ..fusion.fused_layer import Fusion
from ..layer import Layer, is_chain, join_layers

NOT_SAVED = (
    "a deployed network holds weights packed for this machine, which are not saved: save the "
    "model it came from, and call deploy() after loading"
)


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """For tensors that outlive an inference mode that happens to be on, as packed weights do."""
    with torch.inference_mode(False), torch.no_grad():
        yield


class PackedLayers(nn.Module):
    """A chain of layers and their packed weights, which belong to this machine and are in no state_dict."""

    packed: Tensor

    def __init__(self, layers: Sequence[Layer], packed: Tensor) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.text = join_layers(layers)
        self.register_buffer("packed", packed, persistent=False)
        self._run = torch.ops.mnv2.run.default

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedLayers:
        return PackedLayers(self.layers, self.packed.clone())

    def __getstate__(self) -> NoReturn:
        raise RuntimeError(NOT_SAVED)

    def forward(self, x: Tensor) -> Tensor:
        return self._run(x, self.packed, layers=self.text)

    def extra_repr(self) -> str:
        return self.text


def pack_layers(fusions: Sequence[Fusion], portable: bool = False) -> PackedLayers:
    """A chain of layers with weights packed now.

    ``portable``: with weights for any machine's CPU instead, packed there by the first call.
    """
    layers = [fusion.layer for fusion in fusions]
    with outside_inference_mode():
        weights = [weight for fusion in fusions for weight in fusion.weights()]
        packed = torch.ops.mnv2.pack.default(weights, layers=join_layers(layers), portable=portable)
    return PackedLayers(layers, packed)


def pack_chain(
    fusions: Sequence[Fusion], device: torch.device | None, portable: bool = False
) -> PackedLayers | None:
    """The same; None where the layers are no chain, or ``device`` is None: weights are on several."""
    if device is None or not is_chain([fusion.layer for fusion in fusions]):
        return None
    return pack_layers(fusions, portable)
