"""How a network wants its photographs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..nn.building import PaddingRule
from .photos import Preprocess


@dataclass(frozen=True)
class Settings:
    """How a network wants its photographs."""

    padding: PaddingRule = "torch"
    preprocess: Preprocess = "torchvision"
    size: int = 224
    eps: float = 1e-5

    def changed(self, **options: Any) -> Settings:
        """These settings with those options that are not None put in their place."""
        return replace(self, **{name: value for name, value in options.items() if value is not None})


KERAS_SETTINGS = Settings(padding="same", preprocess="tf", eps=1e-3)
