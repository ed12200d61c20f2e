"""deploy(): packed weights only."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable

import pytest
import torch
from conftest import every_isa
from models import calls, changed, packs, small
from surgery import override
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
    with pytest.raises(RuntimeError, match="cannot be trained: train the model it came from"):
        deployed.train()
    for save in (
        deployed.state_dict,
        lambda: deployed.load_state_dict({}),
        lambda: pickle.dumps(deployed),
        lambda: pickle.dumps(deployed.network),
    ):
        with pytest.raises(RuntimeError, match=r"packed for this machine.*save the model it came from"):
            save()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_is_not_scripted() -> None:
    with pytest.raises(RuntimeError, match="cannot be scripted: script the model it came from"):
        torch.jit.script(small().deploy())


def test_gradients_are_refused(x: Tensor) -> None:
    with pytest.raises(RuntimeError, match="no backward"):
        small().deploy()(x.requires_grad_()).sum().backward()


def _double(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return 2 * output


def _hook(path: str) -> Callable[[FusedMobileNetV2], None]:
    return lambda model: model.get_submodule(path).register_forward_hook(_double)


def _replace_forward(path: str) -> Callable[[FusedMobileNetV2], None]:
    def change(model: FusedMobileNetV2) -> None:
        module = model.get_submodule(path)
        forward = module.forward
        module.forward = lambda x: 2 * forward(x)

    return change


def _override(path: str) -> Callable[[FusedMobileNetV2], None]:
    return lambda model: override(model.get_submodule(path))


def _set(path: str, value: object) -> Callable[[FusedMobileNetV2], object]:
    return lambda model: changed(model, {path: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_hook(""), "expected .* but FusedMobileNetV2 has hooks"),
        (_hook("features"), "features .*: Sequential has hooks"),
        (_hook("features.1"), r"features\.1 .*: FusedInvertedResidual has hooks"),
        (_hook("features.5"), r"features\.5 .*: FusedHead has hooks"),
        (_hook("features.2.conv.0"), r"features\.2 .*: conv\.0: ConvNormActivation has hooks"),
        (_replace_forward(""), "expected .* but the forward of FusedMobileNetV2 is replaced"),
        (_replace_forward("features"), "features .*: the forward of Sequential is replaced"),
        (_replace_forward("features.1"), r"features\.1 .*: the forward of Fused.* is replaced"),
        (_replace_forward("features.5"), r"features\.5 .*: the forward of FusedHead is replaced"),
        (_replace_forward("classifier"), "classifier: the forward of FusedClassifier is replaced"),
        (_override(""), "expected .* but Surgical has its own forward"),
        (
            _override("features.1"),
            r"features\.1 .*: Surgical has its own forward",
        ),
        (_override("features.5"), r"features\.5 .*: Surgical has its own forward"),
        (
            _set("features.2.conv.0.2.max_val", 0.5),
            r"features\.2 cannot run fused: clamp\(0\.0, 0\.5\)",
        ),
    ],
)
def test_code_that_would_be_lost_is_named(
    change: Callable[[FusedMobileNetV2], None], words: str, x: Tensor
) -> None:
    model = small()
    plain = model.deploy()(x)
    change(model)
    with torch.no_grad():
        assert not torch.allclose(model(x), plain)
    with pytest.raises(RuntimeError, match=f"deploy: {words}"):
        model.deploy()


def test_global_hooks_see_no_layer_of_a_deployed_network() -> None:
    model = small()
    with (
        nn.modules.module.register_module_forward_hook(_double),
        pytest.raises(RuntimeError, match="global hooks"),
    ):
        model.deploy()
    model.deploy()


@pytest.mark.parametrize("path", ["classifier", "classifier.0", "classifier.1"])
def test_hooks_of_the_classifier_stay_with_its_copy(path: str, x: Tensor) -> None:
    model = small()
    plain = model.deploy()(x)
    _hook(path)(model)
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(model.deploy()(x), expected)
    assert not torch.allclose(plain, expected)


def test_dropout_that_is_on_stays_on(x: Tensor) -> None:
    model = small(dropout=0.5)
    model.classifier.train()
    deployed = model.deploy()
    results = []
    for network in (model, deployed):
        torch.manual_seed(3)
        with torch.no_grad():
            results.append(network(x))
    torch.testing.assert_close(*results)
    torch.testing.assert_close(deployed.eval()(x), model.eval()(x).detach())
    assert not torch.allclose(deployed(x), results[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (FusedMobileNetV2.train, r"features\.0 .*training mode.*eval\(\)"),
        (
            _set("features.2.conv.1.0.dilation", (2, 2)),
            r"features\.2 cannot run fused: dilation 2",
        ),
        (
            lambda model: setattr(model, "features", model.features[:3]),
            "features end with FusedInvertedResidual",
        ),
        (
            lambda model: model.set_submodule("features.1", nn.Identity()),
            r"features\.1 .*Identity has no kernel",
        ),
    ],
)
def test_what_has_no_kernel_is_named(change: object, words: str) -> None:
    model = small()
    change(model)
    with pytest.raises(RuntimeError, match=words):
        model.deploy()
