"""A pytest plugin: timm's ``create_model`` gives fused models, for timm's own tests (CONTRIBUTING.md)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import timm.models
import torch
from tolerances import MINIMUM_INPUTS, assert_accurate
from torch import Tensor, nn

from mnv2_kernels import fuse

# Compares the bits of a traced model, which has torch's layers, with those of the model's own forward.
COMPARES_BITS = "test_model_forward_fx"

_create = timm.create_model


def _create_fused(*args: Any, **options: Any) -> Any:
    return fuse(_create(*args, **options))


timm.create_model = timm.models.create_model = _create_fused


class _Traced:
    """A traced model whose results are held to those of the fused one by the accuracy rule."""

    def __init__(self, traced: nn.Module, fused: nn.Module) -> None:
        self._traced, self._fused = traced, fused

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        images = torch.cat([x, torch.randn(MINIMUM_INPUTS - len(x), *x.shape[1:])])
        (eager,) = self._traced(images).values()
        (truth,) = copy.deepcopy(self._traced).double()(images.double()).values()
        assert_accurate(self._fused(images), eager, truth)
        return {"fused": self._fused(x)}


@pytest.fixture(autouse=True)
def _accuracy_rule(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.function.__name__ == COMPARES_BITS:
        trace = request.module._create_fx_model
        monkeypatch.setattr(request.module, "_create_fx_model", lambda model: _Traced(trace(model), model))
