"""Gradients in eval mode: right where they can be asked for, refused where a kernel stands in the way."""

from __future__ import annotations

import pytest
import torch
import torchvision
from models import CLASSES, SMALL_SETTING, calls, eager, small
from torch import Tensor, nn
from torch.autograd import forward_ad

from mnv2_kernels import FusedMobileNetV2

REFUSAL = "ran its inference kernel.*no backward"


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 32, 32)


def torchvisions(model: FusedMobileNetV2) -> nn.Module:
    theirs = torchvision.models.MobileNetV2(CLASSES, 0.5, SMALL_SETTING)
    theirs.load_state_dict(model.state_dict())
    return theirs.train(model.training)


def test_input_gradients_are_torchvisions(x: Tensor) -> None:
    model = small()
    theirs = torchvisions(model)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    for network, each in zip((model, theirs), inputs, strict=True):
        network(each)[:, 3].sum().backward()
    assert torch.equal(inputs[0].grad, inputs[1].grad)
    for parameter, their_parameter in zip(model.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(parameter.grad, their_parameter.grad)


def test_input_gradients_of_a_frozen_network(x: Tensor) -> None:
    model = small().requires_grad_(False)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    assert gradient.abs().max() > 0


def test_without_grad_mode_such_inputs_run_fused(x: Tensor) -> None:
    with torch.no_grad(), calls() as operators:
        small()(x.requires_grad_())
    assert "network" in operators


def test_a_backward_to_parameters_behind_kernels_is_refused(x: Tensor) -> None:
    model = small()
    with calls() as operators:
        y = model(x)
    assert "network" in operators
    with pytest.raises(RuntimeError, match=REFUSAL):
        y.sum().backward()
    with pytest.raises(RuntimeError, match="call train"):
        model(x).sum().backward()


def test_a_backward_through_parts_is_refused(x: Tensor) -> None:
    model = small()
    features = model.features[:3]
    with calls() as operators:
        y = features(x)
    assert operators.count("fused_block_packed") == 2
    with pytest.raises(RuntimeError, match=REFUSAL):
        y.sum().backward()
    with pytest.raises(RuntimeError, match=REFUSAL):
        model.features[1](torch.randn(1, 16, 8, 8)).sum().backward()


def test_a_trainable_part_behind_a_trainable_kernel_is_refused(x: Tensor) -> None:
    model = small()
    with pytest.raises(RuntimeError, match=REFUSAL):
        (model.features[0](x) * nn.Parameter(torch.ones(()))).sum().backward()


def test_a_layer_in_place_behind_a_kernel_works(x: Tensor) -> None:
    model = small()
    assert torch.equal(model.features[0](x).relu_(), model.features[0](x))


def test_a_classifier_on_frozen_features_trains(x: Tensor) -> None:
    model = small()
    model.features.requires_grad_(False)
    with calls() as operators:
        y = model(x)
    assert operators[-2:] == ["pack_linear", "linear_packed"]
    assert "network" in operators
    y.square().sum().backward()
    assert model.classifier[1].weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in model.features.parameters())


def test_trainable_blocks_behind_frozen_ones_train_in_train_mode(x: Tensor) -> None:
    model = small()
    model.features[:2].requires_grad_(False)
    model.features[2:].train()
    theirs = torchvisions(model).eval()
    theirs.features[2:].train()
    with calls() as operators:
        y = model(x)
    assert [name for name in operators if name.endswith("_packed")] == ["stem_packed", "fused_block_packed"]
    y.sum().backward()
    theirs(x).sum().backward()
    for (name, parameter), their_parameter in zip(
        model.features[2:].named_parameters(), theirs.features[2:].parameters(), strict=True
    ):
        torch.testing.assert_close(parameter.grad, their_parameter.grad, rtol=1e-3, atol=1e-3, msg=name)


def test_training_with_frozen_statistics_is_torchvisions(x: Tensor) -> None:
    model = small().train()
    theirs = torchvisions(model)
    for network in (model, theirs):
        network.classifier.eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        network(x).sum().backward()
    for parameter, their_parameter in zip(model.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(parameter.grad, their_parameter.grad)


def test_statistics_are_estimated_by_norms_in_train_mode(x: Tensor) -> None:
    model = small()
    norm = model.features[2].conv[3].train()
    before = norm.running_mean.clone()
    with torch.no_grad():
        model(x)
    assert not torch.equal(norm.running_mean, before)


def test_forward_mode_and_torch_func(x: Tensor) -> None:
    model = small()
    theirs = torchvisions(model)
    tangent = torch.randn_like(x)
    expected = torch.func.jvp(theirs, (x,), (tangent,))[1]
    with torch.no_grad():
        torch.testing.assert_close(torch.func.jvp(model, (x,), (tangent,))[1], expected)
    with forward_ad.dual_level():
        y = forward_ad.unpack_dual(model(forward_ad.make_dual(x, tangent)))
    torch.testing.assert_close(y.tangent, expected)
    jacobian = torch.func.jacrev(lambda x: model(x).sum(0))(x)
    torch.testing.assert_close(jacobian, torch.func.jacrev(lambda x: theirs(x).sum(0))(x))


def test_torch_func_gradients_of_parameters(x: Tensor) -> None:
    model = small()
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], network: nn.Module) -> Tensor:
        return torch.func.functional_call(network, parameters, x).square().sum()

    ours = torch.func.grad(loss)(parameters, model)
    theirs = torch.func.grad(loss)(parameters, torchvisions(model))
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, msg=name)


def test_functional_call_follows_its_parameters(x: Tensor) -> None:
    model, other = small(), small(seed=1)
    with torch.no_grad(), calls() as operators:
        y = torch.func.functional_call(model, dict(other.state_dict()), (x,))
        torch.testing.assert_close(y, other(x))
        torch.testing.assert_close(model(x), eager(model, x), rtol=1e-4, atol=1e-4)
    assert "network" in operators


def test_vmap_and_ensembles(x: Tensor) -> None:
    models = [small(seed) for seed in range(3)]
    with torch.no_grad():
        expected = torch.stack([model(x) for model in models])
        with calls() as operators:
            torch.testing.assert_close(torch.vmap(models[0])(x[:, None])[:, 0], expected[0])
        assert "network" in operators
        state = torch.func.stack_module_state(models)

        def call(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return torch.func.functional_call(models[0], (parameters, buffers), (x,))

        torch.testing.assert_close(torch.vmap(call)(*state), expected, rtol=1e-4, atol=1e-4)
    # A backward through vmap is possible outside no_grad.
    torch.vmap(models[0])(x[:, None]).sum().backward()
    assert models[0].features[0][0].weight.grad.abs().max() > 0
