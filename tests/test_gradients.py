"""Gradients in eval mode: forwards run fused, and backwards give what torch's layers give."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from models import calls, changed, eager, randomised, small, torchvisions
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint
from torchvision.ops import FrozenBatchNorm2d

from mnv2_kernels import FusedInvertedResidual, FusedMobileNetV2
from mnv2_kernels.bench.mobilenet_v1 import SeparableBlock
from mnv2_kernels.nn.eager import eager as eager_twin
from mnv2_kernels.nn.units import FusedClassifier

# Relative to a gradient's norm: a value rounded across a bound of ReLU6 changes a gradient by up to 0.2 %.
TOLERANCE = 0.01


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 32, 32)


def see_every_unit(model: nn.Module) -> None:
    """Makes the network call its modules one by one."""
    for unit in model.features:
        unit.register_forward_hook(lambda *call: None)


def as_it_is(model: nn.Module) -> None:
    pass


# As one operator and a classifier, or by the operator of each unit.
both_paths = pytest.mark.parametrize("prepare", [as_it_is, see_every_unit])


def backward(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The gradients of all parameters by a loss that is not linear in the logits."""
    model.zero_grad()
    model(x).square().mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        assert_close(ours[name], expected, name)


def assert_close(ours: Tensor, theirs: Tensor, name: str = "") -> None:
    assert ours.dtype == theirs.dtype
    assert theirs.norm() > 0, name
    assert relative_error(ours, theirs) <= TOLERANCE, name


def relative_error(ours: Tensor, truth: Tensor) -> float:
    return ((ours.double() - truth.double()).norm() / truth.double().norm()).item()


# --- against torchvision's network ---


@both_paths
def test_gradients_are_torchvisions(prepare: Callable[[nn.Module], None], x: Tensor) -> None:
    model = small()
    expected = backward(torchvisions(model), x)
    prepare(model)
    with calls() as operators:
        assert model(x).requires_grad
    assert operators.count("run network") == (prepare is as_it_is)
    assert_same_gradients(backward(model, x), expected)


@both_paths
def test_without_clamps_gradients_are_as_accurate_as_torchs(
    prepare: Callable[[nn.Module], None], x: Tensor
) -> None:
    model = small()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.ReLU6):
            model.set_submodule(name, nn.Identity())
    eager_twin = model.eager()
    truth, layers = backward(copy.deepcopy(eager_twin).double(), x.double()), backward(eager_twin, x)
    prepare(model)
    for name, gradient in backward(model, x).items():
        error, eager_error = (relative_error(each, truth[name]) for each in (gradient, layers[name]))
        assert error <= 2 * eager_error + 1e-6, name


@both_paths
def test_training_under_eval_is_torchvisions(prepare: Callable[[nn.Module], None], x: Tensor) -> None:
    model = small()
    theirs = torchvisions(model)
    prepare(model)
    target = torch.tensor([3, 7])
    for network in (model, theirs):
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x), target).backward()
            optimiser.step()
    start = dict(small().named_parameters())
    for name, expected in theirs.named_parameters():
        assert_close(model.get_parameter(name) - start[name], expected - start[name], name)
    for name, buffer in small().named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name


def grad_cam(model: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    """As pytorch-grad-cam has it: a forward hook keeps the activation and hooks its gradient."""
    kept: dict[str, Tensor] = {}

    def keep(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        kept["activation"] = output.detach().clone()
        output.register_hook(lambda gradient: kept.update(gradient=gradient.detach()))

    handle = layer.register_forward_hook(keep)
    model.zero_grad()
    model(x)[:, 3].sum().backward()
    handle.remove()
    # GradCAM++'s weights, which do not vanish where the mean gradient of a random network is negative.
    return (kept["gradient"].relu() * kept["activation"]).sum(1)


@pytest.mark.parametrize("path", ["features.5", "features.3", "features.0", "features.2.conv.1"])
def test_grad_cam_is_torchvisions(path: str) -> None:
    model, x = small(), torch.randn(2, 3, 64, 64)
    theirs = torchvisions(model)
    maps = [grad_cam(network, network.get_submodule(path), x) for network in (model, theirs)]
    assert_close(*maps)


def test_input_gradients_are_torchvisions(x: Tensor) -> None:
    model = small()
    theirs = torchvisions(model)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    with calls() as operators:
        model(inputs[0])
    assert "run network" in operators
    ours, expected = (backward(network, each) for network, each in zip((model, theirs), inputs, strict=True))
    assert_close(inputs[0].grad, inputs[1].grad)
    assert_same_gradients(ours, expected)


def test_second_derivatives_are_torchvisions(x: Tensor) -> None:
    """A gradient penalty: through the input's gradient to the parameters, and to the input once more."""
    results = []
    model = small()
    for network in (model, torchvisions(model)):
        image = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(image).square().sum(), image, create_graph=True)
        gradient.square().sum().backward()
        parameters = {name: each.grad for name, each in network.named_parameters() if "weight" in name}
        results.append({"x": image.grad, **parameters})
    assert_same_gradients(*results)


def test_autocast_of_the_forward_holds_in_the_backward(x: Tensor) -> None:
    model = small()
    theirs = torchvisions(model)
    truth = backward(torchvisions(model).double(), x.double())

    def gradients(network: nn.Module, around: bool) -> dict[str, Tensor]:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = network(x).float().square().mean()
        with torch.autocast("cpu", torch.float16) if around else nullcontext():
            loss.backward()
        return {name: parameter.grad for name, parameter in network.named_parameters()}

    ours, expected = (gradients(network, around=False) for network in (model, theirs))
    for name, gradient in ours.items():
        error, eager_error = (relative_error(each, truth[name]) for each in (gradient, expected[name]))
        assert gradient.dtype == torch.float32
        # Layers in float32 would be exact to more than three digits.
        assert 1e-3 <= error <= 2 * eager_error, name
    # Torch's own backward also multiplies in the type of an autocast around it: small differences remain.
    assert_same_gradients(gradients(model, around=True), ours)


def test_float32_weights_beside_sixteen_bit_images(x: Tensor) -> None:
    model, x = small(), x.half()
    expected = backward(model.eager(), x.float())
    assert_same_gradients(backward(model, x), expected)


# --- every kind of layer ---


# Norms folded away.
WITH_BIASES = {"features.3.conv.2": nn.Conv2d(96, 16, 1), "features.3.conv.3": nn.Identity()}
RELU_AND_NONE = {
    "features.3.conv.0.2": nn.ReLU(),
    "features.3.conv.1.2": nn.ReLU(),
    "features.0.2": nn.Identity(),
}


def _frozen_norms() -> FusedMobileNetV2:
    model = small(norm_layer=FrozenBatchNorm2d)
    for norm in filter(lambda module: isinstance(module, FrozenBatchNorm2d), model.modules()):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.uniform_(0.5, 2)
    return model


KINDS: dict[str, Callable[[], nn.Module]] = {
    "same padding": lambda: small(padding="same"),
    "frozen norms": _frozen_norms,
    "biases": lambda: changed(small(), WITH_BIASES),
    "relu and none": lambda: changed(small(), RELU_AND_NONE),
    "no affine": lambda: small(norm_layer=partial(nn.BatchNorm2d, affine=False)),
    "another eps": lambda: small(norm_layer=partial(nn.BatchNorm2d, eps=0.5)),
    "16 bits": lambda: small().bfloat16(),
}


@both_paths
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_every_kind_of_layer(kind: str, prepare: Callable[[nn.Module], None]) -> None:
    model = KINDS[kind]()
    dtype = model.features[0][0].weight.dtype
    x = torch.randn(2, 3, 33, 46, dtype=dtype)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(model.eager()(x).square().mean(), parameters)
    prepare(model)
    with calls() as operators:
        loss = model(x).square().mean()
    assert any(name in operators for name in ("run network", "run stem"))
    for ours, theirs in zip(torch.autograd.grad(loss, parameters), expected, strict=True):
        assert relative_error(ours, theirs) <= (0.1 if dtype == torch.bfloat16 else TOLERANCE)


UNITS: dict[str, Callable[[], nn.Module]] = {
    "shortcut": lambda: FusedInvertedResidual(8, 8, 1, 6),
    "no expand": lambda: FusedInvertedResidual(8, 12, 2, 1),
    "V1": lambda: SeparableBlock(8, 16, 1, nn.BatchNorm2d),
    "classifier": lambda: FusedClassifier(nn.Dropout(0.5), nn.Linear(8, 5)),
    "classifier without a bias": lambda: FusedClassifier(nn.Linear(8, 5, bias=False)),
}


@pytest.mark.parametrize("kind", UNITS)
def test_gradients_of_units(kind: str) -> None:
    unit = randomised(UNITS[kind]()).eval()
    x = torch.randn(3, 8) if "classifier" in kind else 4 * torch.randn(3, 8, 9, 9)
    sources = [x.requires_grad_(), *unit.parameters()]
    with calls() as operators:
        y = unit(x)
    assert operators[-1].startswith("run ")
    weight = torch.randn_like(y)
    ours = torch.autograd.grad(y, sources, weight)
    theirs = torch.autograd.grad(eager_twin(unit)(x), sources, weight)
    for gradient, expected in zip(ours, theirs, strict=True):
        assert_close(gradient, expected)


# --- between forward and backward ---


def _write(tensor: Tensor) -> None:
    with torch.no_grad():
        tensor.mul_(2)


@pytest.mark.parametrize("name", ["features.2.conv.0.0.weight", "features.2.conv.0.1.running_var", "x"])
def test_a_change_in_place_before_the_backward_is_an_error_as_in_torch(name: str, x: Tensor) -> None:
    model = small()
    for network in (model, torchvisions(model)):
        loss = network(x).sum()
        _write(x if name == "x" else network.state_dict(keep_vars=True)[name])
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@both_paths
def test_what_is_switched_before_the_backward_leaves_it_as_it_was(
    prepare: Callable[[nn.Module], None], x: Tensor
) -> None:
    model = small(dropout=0.5)
    prepare(model)
    expected = backward(model, x)
    model.zero_grad()
    loss = model(x).square().mean()
    model.train()
    model.features[2].conv[1][0].stride = (1, 1)
    model.features[3].use_res_connect = False
    model.features[3].conv[0].register_forward_hook(lambda *call: pytest.fail("layers run as a function"))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    random = torch.get_rng_state()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, expected[name]), name
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name
    assert torch.equal(torch.get_rng_state(), random)


def test_a_graph_may_be_kept(x: Tensor) -> None:
    model = small()
    loss = model(x).sum()
    loss.backward(retain_graph=True)
    once = [parameter.grad.clone() for parameter in model.parameters()]
    loss.backward()
    for parameter, gradient in zip(model.parameters(), once, strict=True):
        assert torch.equal(parameter.grad, 2 * gradient)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


# --- which gradients ---


def test_frozen_parameters_get_none(x: Tensor) -> None:
    model = small()
    theirs = torchvisions(model)
    for network in (model, theirs):
        network.features[:2].requires_grad_(False)
        network.features[3].conv[1][1].requires_grad_(False)
    ours, expected = backward(model, x), backward(theirs, x)
    assert [name for name, gradient in ours.items() if gradient is None] == [
        name for name, gradient in expected.items() if gradient is None
    ]
    trained = {name: gradient for name, gradient in expected.items() if gradient is not None}
    assert_same_gradients({name: ours[name] for name in trained}, trained)
    parameter = model.features[2].conv[0][0].weight
    (gradient,) = torch.autograd.grad(model(x).square().mean(), parameter)
    torch.testing.assert_close(gradient, parameter.grad)


def test_frozen_while_the_backward_is_due(x: Tensor) -> None:
    model = small()
    loss = model(x).square().mean()
    model.features[0].requires_grad_(False)
    loss.backward()
    assert model.features[0][0].weight.grad is None
    assert model.features[1].conv[0][0].weight.grad.abs().max() > 0


def test_weights_that_are_computed(x: Tensor) -> None:
    """What a hypernetwork or functional_call puts in the place of parameters gets the gradient."""
    model = small()
    theirs = torchvisions(model)
    scale = torch.ones((), requires_grad=True)
    gradients = []
    for network in (model, theirs):
        weights = {name: scale * each.detach() for name, each in network.named_parameters()}
        y = torch.func.functional_call(network, weights, (x,))
        gradients += torch.autograd.grad(y.square().sum(), scale)
    assert_close(*gradients)


def test_a_parameter_before_and_inside_a_module(x: Tensor) -> None:
    """The way back through the module ends at its input, though that depends on its parameters, too."""
    block = randomised(FusedInvertedResidual(8, 8, 1, 6)).eval()
    weight = block.conv[0][0].weight

    def gradient(module: nn.Module) -> Tensor:
        x = torch.ones(2, 8, 5, 5) * weight.mean()
        return torch.autograd.grad(module(x).square().sum(), weight)[0]

    assert_close(gradient(block), gradient(block.eager()))


def test_checkpointing(x: Tensor) -> None:
    model = small()
    expected = backward(model, x)
    model.zero_grad()
    checkpoint(model, x, use_reentrant=False).square().mean().backward()
    assert_same_gradients({name: each.grad for name, each in model.named_parameters()}, expected)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("path", ["features", "features.2", "features.2.conv", "features.2.conv.1.0"])
@pytest.mark.parametrize("packed_before", [False, True])
def test_backward_hooks_are_called(path: str, packed_before: bool, x: Tensor) -> None:
    model, seen = small(), []
    theirs = torchvisions(model)
    if packed_before:
        model(x)
    for network in (model, theirs):
        layer = network.get_submodule(path)
        handle = layer.register_full_backward_hook(lambda module, inputs, outputs: seen.append(outputs[0]))
        network(x).square().mean().backward()
        with torch.no_grad(), calls() as operators:
            network(x)
        assert network is theirs or path == "features" or "run network" in operators
        handle.remove()
    assert_close(*seen)
    with calls() as operators:
        model(x).sum().backward()
    assert "run network" in operators
    assert len(seen) == 2


def test_what_was_made_in_inference_mode_has_no_backward(x: Tensor) -> None:
    model = small()
    with torch.inference_mode():
        image = x * 1
    y = model(image)
    assert torch.equal(y, model(x))
    with pytest.raises(RuntimeError, match="made in inference mode"):
        y.sum().backward()


def test_without_grad_mode_there_is_no_graph(x: Tensor) -> None:
    model = small()
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert not model(x).requires_grad
    model.requires_grad_(False)
    assert not model(x).requires_grad


def test_without_grad_mode_such_inputs_run_fused(x: Tensor) -> None:
    with torch.no_grad(), calls() as operators:
        small()(x.requires_grad_())
    assert "run network" in operators


def test_a_layer_in_place_behind_a_kernel_works(x: Tensor) -> None:
    model = small()
    assert torch.equal(model.features[0](x).relu_(), model.features[0](x))


def test_a_classifier_on_frozen_features_trains(x: Tensor) -> None:
    model = small()
    model.features.requires_grad_(False)
    with calls() as operators:
        y = model(x)
    assert operators[-2:] == ["pack linear", "run linear"]
    assert "run network" in operators
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
    fused = [name for name in operators if name.startswith("run ")]
    assert fused == ["run stem", "run block", "run linear"]
    y.sum().backward()
    theirs(x).sum().backward()
    for (name, parameter), their_parameter in zip(
        model.features[2:].named_parameters(), theirs.features[2:].parameters(), strict=True
    ):
        torch.testing.assert_close(parameter.grad, their_parameter.grad, rtol=1e-3, atol=1e-3, msg=name)


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


def test_functional_call_follows_its_parameters(x: Tensor) -> None:
    model, other = small(), small(seed=1)
    with torch.no_grad(), calls() as operators:
        y = torch.func.functional_call(model, dict(other.state_dict()), (x,))
        torch.testing.assert_close(y, other(x))
        torch.testing.assert_close(model(x), eager(model, x), rtol=1e-4, atol=1e-4)
    assert "run network" in operators


def test_vmap_and_ensembles(x: Tensor) -> None:
    models = [small(seed) for seed in range(3)]
    with torch.no_grad():
        expected = torch.stack([model(x) for model in models])
        with calls() as operators:
            torch.testing.assert_close(torch.vmap(models[0])(x[:, None])[:, 0], expected[0])
        assert "run network" in operators
        state = torch.func.stack_module_state(models)

        def call(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return torch.func.functional_call(models[0], (parameters, buffers), (x,))

        torch.testing.assert_close(torch.vmap(call)(*state), expected, rtol=1e-4, atol=1e-4)
    # A backward through vmap is possible outside no_grad.
    torch.vmap(models[0])(x[:, None]).sum().backward()
    assert models[0].features[0][0].weight.grad.abs().max() > 0
