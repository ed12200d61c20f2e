"""A pytest plugin: timm's ``create_model`` gives fused models, for timm's own tests (CONTRIBUTING.md)."""

from __future__ import annotations

from typing import Any

import timm
import timm.models

from mnv2_kernels import fuse

_create = timm.create_model


def _create_fused(*args: Any, **options: Any) -> Any:
    return fuse(_create(*args, **options))


timm.create_model = timm.models.create_model = _create_fused
