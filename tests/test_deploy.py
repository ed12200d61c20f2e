"""deploy(): packed weights only."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch
from conftest import every_isa
from models import calls, packs, small
from torch import Tensor, nn

from mnv2_kernels import FusedMobileNetV2


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 33, 46)


@every_isa
@pytest.mark.parametrize("padding", ["torch", "same"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gives_the_same_bits(isa: str, padding: str, dtype: torch.dtype, x: Tensor) -> None:
    model, x = small(padding=padding).to(dtype), x.to(dtype)
    deployed = model.deploy()
    with torch.no_grad(), calls() as operators:
        y = deployed(x)
    assert packs(operators) == 0
    with torch.no_grad():
        assert torch.equal(y, model(x))


def test_is_lean_and_independent_of_its_source(x: Tensor) -> None:
    model = small()
    deployed = model.deploy()
    with torch.no_grad():
        expected = model(x)
        for parameter in model.parameters():
            parameter.zero_()
    weights = [weakref.ref(parameter) for parameter in model.features.parameters()]
    del model
    gc.collect()
    assert all(weight() is None for weight in weights)
    assert torch.equal(deployed(x), expected)
    assert not list(deployed.parameters())


def test_keeps_a_classifier_that_no_kernel_computes(x: Tensor) -> None:
    model = small()
    model.classifier = nn.Sequential(nn.Linear(model.last_channel, 5), nn.Tanh())
    deployed = model.deploy()
    assert torch.equal(deployed(x), model(x))
    assert not any(parameter.requires_grad for parameter in deployed.parameters())
    assert [name for name, _ in deployed.named_parameters()] == ["classifier.0.weight", "classifier.0.bias"]


def test_copies(x: Tensor) -> None:
    deployed = small().deploy()
    assert torch.equal(copy.deepcopy(deployed)(x), deployed(x))


def test_may_be_made_in_inference_mode(x: Tensor) -> None:
    model = small()
    with torch.inference_mode():
        deployed = model.deploy()
    assert torch.equal(deployed(x), model(x))


def test_cannot_be_trained_or_saved() -> None:
    deployed = small().deploy()
    assert deployed.eval() is deployed
    with pytest.raises(RuntimeError, match="cannot be trained: train the FusedMobileNetV2"):
        deployed.train()
    for save in (
        deployed.state_dict,
        lambda: deployed.load_state_dict({}),
        lambda: pickle.dumps(deployed),
        lambda: pickle.dumps(deployed.network),
    ):
        with pytest.raises(RuntimeError, match=r"packed for this machine.*save the FusedMobileNetV2"):
            save()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_is_not_scripted() -> None:
    with pytest.raises(RuntimeError, match="cannot be scripted: script the FusedMobileNetV2"):
        torch.jit.script(small().deploy())


def test_gradients_are_refused(x: Tensor) -> None:
    with pytest.raises(RuntimeError, match="no backward"):
        small().deploy()(x.requires_grad_()).sum().backward()


def _keep(model: FusedMobileNetV2) -> None:
    model.train()


def _dilate(model: FusedMobileNetV2) -> None:
    model.features[2].conv[1][0].dilation = (2, 2)


def _cut(model: FusedMobileNetV2) -> None:
    model.features = model.features[:3]


def _replace(model: FusedMobileNetV2) -> None:
    model.features[1] = nn.Identity()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_keep, r"features\.0 .*training mode.*eval\(\)"),
        (_dilate, r"features\.2 cannot run fused: conv\.1\.0: dilation is \(2, 2\), not \(1, 1\)"),
        (_cut, "features end with FusedInvertedResidual"),
        (_replace, r"features\.1 .*Identity has no kernel"),
    ],
)
def test_what_has_no_kernel_is_named(change: object, words: str) -> None:
    model = small()
    change(model)
    with pytest.raises(RuntimeError, match=words):
        model.deploy()
