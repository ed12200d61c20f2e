"""A MobileNetV2 of packed weights, for inference on the machine it was made on."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NoReturn

from torch import Tensor, nn

from .fusion import NOT_SAVED, PackedOperator


class DeployedMobileNetV2(nn.Module):
    """What ``FusedMobileNetV2.deploy()`` returns: packed operators and a classifier, not to train or save.

    Works under torch.compile(fullgraph=True) and torch.export, and copies with copy.deepcopy. ``train()``,
    ``state_dict()``, ``load_state_dict()`` and pickling raise RuntimeError.
    """

    def __init__(
        self, features: Sequence[PackedOperator], head: PackedOperator, classifier: nn.Module
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.head = head
        self.classifier = copy.deepcopy(classifier).requires_grad_(False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) images to (N, num_classes) logits."""
        return self.classifier(self.head(self.features(x)))

    def train(self, mode: bool = True) -> DeployedMobileNetV2:
        if mode:
            raise RuntimeError(
                "a deployed network cannot be trained: train the FusedMobileNetV2 it came from"
            )
        return super().train(mode)

    def state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(NOT_SAVED)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(NOT_SAVED)
