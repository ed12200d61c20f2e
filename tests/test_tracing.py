"""torch.compile, torch.export, TorchScript and torch.fx see the network as it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from models import eager, small
from torch import Tensor, fx, nn
from torch.profiler import ProfilerActivity, profile
from torchvision.models.feature_extraction import create_feature_extractor

# Stops before Inductor, which takes most of the time and sees only operators.
BACKEND = "aot_eager"
# One kernel of each kind.
TINY_SETTING = [[6, 16, 1, 2]]
OPERATORS = ["mnv2::pack", "mnv2::run"]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 33, 46)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def operators_run(module: nn.Module, x: Tensor) -> list[str]:
    """As the profiler sees them: torch.compile stands aside under a dispatch mode."""
    with profile(activities=[ProfilerActivity.CPU]) as events:
        module(x)
    return sorted(event.key for event in events.key_averages() if event.key.startswith("mnv2::"))


def operators_of(graph: fx.Graph) -> list[str]:
    names = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    return [name for name in names if name.startswith("mnv2.")]


def test_compiled_network_follows_its_weights(x: Tensor) -> None:
    model = small(inverted_residual_setting=TINY_SETTING)
    block = model.features[1]
    compiled = torch.compile(model, fullgraph=True, backend=BACKEND)
    with torch.no_grad():
        before = model(x)
        torch.testing.assert_close(compiled(x), before)
        assert operators_run(compiled, x) == OPERATORS
        block.conv[2].weight.data.mul_(2)
        block.conv[1][1].running_var.add_(1)
        block.conv[0][0].weight = nn.Parameter(torch.randn_like(block.conv[0][0].weight))
        after = compiled(x)
        torch.testing.assert_close(after, model(x))
        assert not torch.allclose(after, before, rtol=1e-4, atol=1e-4)
        block.conv[1][0].stride = (1, 1)
        torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.slow
def test_compiled_network_trains_in_either_mode(x: Tensor) -> None:
    for model in (small(inverted_residual_setting=TINY_SETTING), small().train()):
        model.classifier.eval()
        compiled = torch.compile(model, fullgraph=True, backend=BACKEND)
        compiled(x).sum().backward()
        compiled_gradients = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        model(x.clone().requires_grad_()).sum().backward()
        for gradient, parameter in zip(compiled_gradients, model.parameters(), strict=True):
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_frozen_weights_are_packed_by_the_compiler(x: Tensor) -> None:
    model = small(inverted_residual_setting=TINY_SETTING)
    with torch.no_grad(), torch._inductor.config.patch(freezing=True):
        compiled = torch.compile(model, fullgraph=True)
        torch.testing.assert_close(compiled(x), model(x))
        assert operators_run(compiled, x) == OPERATORS[1:]


@pytest.mark.parametrize("grad", [False, True])
def test_deployed_network_compiles(grad: bool, x: Tensor) -> None:
    deployed = small(padding="same", inverted_residual_setting=TINY_SETTING).deploy()
    compiled = torch.compile(deployed, fullgraph=True, dynamic=True)
    with torch.set_grad_enabled(grad):
        for each in (x, torch.randn(1, 3, 32, 64)):
            torch.testing.assert_close(compiled(each), deployed(each))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("deployed", [False, True])
def test_export(deployed: bool, strict: bool, x: Tensor) -> None:
    model = small(padding="same", inverted_residual_setting=TINY_SETTING)
    module = model.deploy() if deployed else model
    batch = torch.export.Dim("batch")
    program = torch.export.export(module, (x,), dynamic_shapes=({0: batch},), strict=strict)
    packers = [name for name in operators_of(program.graph) if name.startswith("mnv2.pack")]
    assert len(packers) == (0 if deployed else len(model.features) + 1)
    with torch.no_grad():
        for each in (x, x[:1]):
            torch.testing.assert_close(program.module()(each), model(each))


def test_export_with_a_dynamic_size_and_same_padding(x: Tensor) -> None:
    deployed = small(padding="same").deploy()
    sizes = {2: torch.export.Dim("height", min=2, max=512), 3: torch.export.Dim("width", min=2, max=512)}
    program = torch.export.export(deployed, (x,), dynamic_shapes=(sizes,))
    for size in ((2, 3), (45, 70)):
        image = torch.randn(2, 3, *size)
        assert torch.equal(program.module()(image), deployed(image))


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning"
)
@pytest.mark.parametrize("grad", [False, True])
def test_torchscript_trace_follows_its_parameters(grad: bool, x: Tensor) -> None:
    model = small()
    with torch.set_grad_enabled(grad):
        traced = torch.jit.trace(model, x)
    other = small(seed=1)
    traced.load_state_dict(other.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(traced(x), other(x))


@pytest.mark.parametrize("padding", ["torch", "same"])
def test_fx_sees_the_layers(padding: str, x: Tensor) -> None:
    model = small(padding=padding)
    graph_module = fx.symbolic_trace(model)
    with torch.no_grad():
        torch.testing.assert_close(graph_module(x), eager(model, x))
        features = create_feature_extractor(model, {"features.2": "a", "features.3.conv.0": "b"})(x)
    assert {name: tuple(tensor.shape[:2]) for name, tensor in features.items()} == {
        "a": (2, 16),
        "b": (2, 96),
    }
