"""The network in torch's own layers: for scripts, for ONNX, and where weights are none that kernels take."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from models import SMALL_SETTING, calls, eager, small, torchvisions
from tolerances import assert_accurate
from torch import Tensor, nn

from mnv2_kernels import FusedInvertedResidual, FusedMobileNetV2
from mnv2_kernels.nn.eager import HasEager

BATCH = 8
# One kernel of each kind.
TINY_SETTING = [[6, 16, 1, 2]]
PADDINGS = pytest.mark.parametrize("padding", ["torch", "same"])
MODES = pytest.mark.parametrize("training", [False, True])

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::torch.jit.TracerWarning",
    "ignore:Sparse CSR tensor support",
)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(BATCH, 3, 33, 46)


# --- eager() ---


@MODES
def test_it_is_torchvisions_network(training: bool, x: Tensor) -> None:
    model = small(dropout=0.0).train(training)
    theirs, twin = torchvisions(model), model.eager()
    with calls() as operators:
        assert torch.equal(twin(x), theirs(x))
        assert torch.equal(twin._forward_impl(x), theirs._forward_impl(x))
    assert not operators
    assert twin.training is training
    assert list(twin.state_dict()) == list(theirs.state_dict())
    assert not [module for module in twin.modules() if isinstance(module, HasEager)]
    attributes = {name: vars(module) for name, module in twin.named_modules()}
    for name, module in theirs.named_modules():
        assert {each for each in vars(module) if not each.startswith("_")} <= set(attributes[name])


def test_it_shares_the_tensors_and_nothing_else(x: Tensor) -> None:
    model = small()
    twin = model.eager()
    for (name, ours), theirs in zip(
        model.state_dict(keep_vars=True).items(), twin.state_dict(keep_vars=True).values(), strict=True
    ):
        assert ours is theirs, name
    with torch.no_grad():
        model.features[2].conv[0][0].weight.mul_(2)
        torch.testing.assert_close(twin(x), model(x), rtol=1e-4, atol=1e-4)
    twin.train()
    twin.features[3].use_res_connect = False
    twin.features[1] = nn.Identity()
    assert not any(module.training for module in model.modules())
    assert not model.fusion_obstacles()
    assert model.features[3].use_res_connect
    assert isinstance(model.features[1], FusedInvertedResidual)


def test_a_module_in_two_places_stays_one() -> None:
    model = small()
    shared = model.features[2].conv[0][2]
    model.features[3].conv[0][2] = shared
    twin = model.eager()
    assert twin.features[2].conv[0][2] is twin.features[3].conv[0][2] is not shared


class Doubled(FusedInvertedResidual):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Normalised(FusedMobileNetV2):
    def _forward_impl(self, x: Tensor) -> Tensor:
        return super()._forward_impl(x / 255)


def test_a_forward_of_another_is_named() -> None:
    with pytest.raises(ValueError, match=r"eager: features\.1: Doubled has a forward of its own"):
        small(block=Doubled).eager()
    with pytest.raises(ValueError, match="eager: Normalised has a _forward_impl of its own"):
        Normalised().eager()
    model = small()
    model.features[2].forward = lambda x: x
    with pytest.raises(ValueError, match=r"features\.2: FusedInvertedResidual has a forward of its own"):
        torch.jit.script(model)


# --- torch.jit.script ---

RUN_ELSEWHERE = """
import sys, torch
script = torch.jit.load(sys.argv[1])
x, expected = torch.load(sys.argv[2])
assert torch.equal(script(x), expected)
assert not any(name.startswith("mnv2") for name in sys.modules)
"""


@pytest.mark.slow
@PADDINGS
def test_a_script_runs_without_this_package(padding: str, x: Tensor, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model = small(padding=padding)
    script = torch.jit.script(model)
    with torch.no_grad():
        expected = script(x)
    assert torch.equal(expected, eager(model, x))
    assert list(script.state_dict()) == list(model.state_dict())
    files = [tmp_path / "script.pt", tmp_path / "tensors.pt"]
    script.save(files[0])
    torch.save((x, expected), files[1])
    command = [sys.executable, "-I", "-W", "error::UserWarning", "-c", RUN_ELSEWHERE, *map(str, files)]
    subprocess.run(command, check=True, env={"OMP_NUM_THREADS": "1"}, cwd=tmp_path)


def test_parts_are_scripted(x: Tensor) -> None:
    model = small()
    block, y = model.features[3], torch.randn(2, 16, 9, 9)
    assert torch.equal(torch.jit.script(block)(y), eager(block, y))
    part = model.features[:3]
    expected = eager(part, x)
    assert torch.equal(torch.jit.script(part)(x), expected)
    # The network itself has not changed.
    assert isinstance(model.features[1], FusedInvertedResidual)


# --- ONNX ---


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def export(model: nn.Module, x: Tensor, path: Path, dynamo: bool) -> onnxruntime.InferenceSession:
    """For any batch and image size."""
    if dynamo:
        sizes = {dim: torch.export.Dim(name) for dim, name in {0: "N", 2: "H", 3: "W"}.items()}
        torch.onnx.export(model, (x,), path, dynamo=True, dynamic_shapes=(sizes,), verbose=False)
    else:
        sizes = {"x": {0: "N", 2: "H", 3: "W"}}
        torch.onnx.export(model, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=sizes)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, x: Tensor) -> Tensor:
    (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert isinstance(result, np.ndarray)
    return torch.from_numpy(result)


@pytest.mark.slow
@PADDINGS
@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx_gets_the_layers(dynamo: bool, padding: str, x: Tensor, tmp_path: Path) -> None:
    # The newer exporter takes a second for each convolution.
    model = small(padding=padding, inverted_residual_setting=TINY_SETTING if dynamo else SMALL_SETTING)
    session = export(model, x[:2, :, :32, :32], tmp_path / "model.onnx", dynamo)
    for each in (x, x[:, :, :32, :32]):
        truth = eager(copy.deepcopy(model).double(), each.double())
        assert_accurate(run(session, each), eager(model, each), truth)


def test_onnx_gets_a_block_and_what_eager_returns(x: Tensor, tmp_path: Path) -> None:
    model, y = small(), torch.randn(2, 16, 9, 9)
    for module, inputs in ((model.features[3], y), (model.eager(), x)):
        session = export(module, inputs, tmp_path / "model.onnx", dynamo=False)
        torch.testing.assert_close(run(session, inputs), eager(module, inputs), rtol=1e-4, atol=1e-4)


# --- weights that no kernel takes ---


class Wrapped(Tensor):
    """A tensor subclass as torchao has them: no data of its own, known to torch by its dispatch alone."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapped:
        wrapped = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=inner.device)
        wrapped.inner = inner
        return wrapped

    def __init__(self, inner: Tensor) -> None:
        pass

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.detach.default, torch.ops.aten.clone.default):
            return Wrapped(func(args[0].inner))
        args = [arg.inner if isinstance(arg, Wrapped) else arg for arg in args]
        if func.namespace == "mnv2":
            raise NotImplementedError(f"Wrapped: {func}")
        return func(*args, **(kwargs or {}))


def wrap(module: nn.Module, name: str = "weight") -> None:
    tensor = getattr(module, name).detach()
    if name in module._parameters:
        setattr(module, name, nn.Parameter(Wrapped(tensor), requires_grad=False))
    else:
        module._buffers[name] = Wrapped(tensor)


def test_a_classifier_of_a_tensor_subclass_stays_torchs(x: Tensor) -> None:
    model = small()
    with torch.no_grad():
        expected = model(x)
        wrap(model.classifier[1])
        assert model.classifier.fusion_obstacle() == "1 has a Wrapped instead of a plain Tensor"
        with calls() as operators:
            torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
        assert "run network" in operators
        deployed = model.deploy()
        torch.testing.assert_close(deployed(x), expected, rtol=1e-4, atol=1e-4)
    assert type(deployed.classifier[1].weight) is Wrapped


@pytest.mark.parametrize(
    ("path", "tensor", "words"),
    [
        ("features.3.conv.2", "weight", r"features\.3 cannot run fused: conv\.2 has a Wrapped"),
        ("features.3.conv.1.1", "running_var", r"features\.3 cannot run fused: conv\.1\.1 has a Wrapped"),
        ("features.0.1", "bias", r"features\.0 cannot run fused: 1 has a Wrapped"),
    ],
)
def test_a_tensor_subclass_in_the_features_is_named(path: str, tensor: str, words: str, x: Tensor) -> None:
    model = small()
    expected = eager(model, x)
    wrap(model.get_submodule(path), tensor)
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
    assert list(model.fusion_obstacles()) == [".".join(path.split(".")[:2])]
    with pytest.raises(RuntimeError, match=words):
        model.deploy()
