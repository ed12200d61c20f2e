"""Packed weights follow every change of what they were packed from, and are made no more often than that."""

from __future__ import annotations

import copy
import functools
import gc
import io
import pickle
import weakref
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from models import calls, eager, packs, small
from torch import Tensor, nn

from mnv2_kernels import FusedMobileNetV2
from mnv2_kernels.packing.snapshot import ROUNDS, Snapshot
from mnv2_kernels.weights.sources import random_model

# One of every kind of tensor in every kind of unit.
TENSORS = (
    "features.0.0.weight",
    "features.0.1.running_mean",
    "features.1.conv.0.0.weight",
    "features.2.conv.0.0.weight",
    "features.2.conv.0.1.weight",
    "features.2.conv.1.0.weight",
    "features.2.conv.1.1.bias",
    "features.2.conv.1.1.running_var",
    "features.3.conv.2.weight",
    "features.3.conv.3.running_mean",
    "features.4.conv.3.weight",
    "features.5.0.weight",
    "features.5.1.running_var",
    "classifier.1.bias",
)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 32, 32)


def assert_follows(model: FusedMobileNetV2, x: Tensor, before: Tensor) -> None:
    """The fused result is not the one from before the change but that of the layers now."""
    with torch.no_grad(), calls() as operators:
        after = model(x)
    assert "run network" in operators
    torch.testing.assert_close(after, eager(model, x), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(after, before, rtol=1e-4, atol=1e-4)


def owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    return model.get_submodule(path), attribute


def changed(tensor: Tensor) -> Tensor:
    return tensor.detach() * 1.5 + 0.25


def in_place(model: nn.Module, name: str) -> None:
    with torch.no_grad():
        model.state_dict(keep_vars=True)[name].mul_(1.5).add_(0.25)


def through_data(model: nn.Module, name: str) -> None:
    model.state_dict(keep_vars=True)[name].data.mul_(1.5).add_(0.25)


def through_numpy(model: nn.Module, name: str) -> None:
    array = model.state_dict()[name].numpy()
    array *= 1.5
    array += 0.25


def new_data(model: nn.Module, name: str) -> None:
    tensor = model.state_dict(keep_vars=True)[name]
    tensor.data = changed(tensor)


def data_at_an_address_of_before(model: nn.Module, name: str) -> None:
    tensor = model.state_dict(keep_vars=True)[name]
    new = changed(tensor)
    tensor.data = new.clone()  # gives back memory that the next one could get
    tensor.data = new.clone()


def new_tensor(model: nn.Module, name: str) -> None:
    module, attribute = owner(model, name)
    old = getattr(module, attribute)
    new = changed(old)
    setattr(module, attribute, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)


def new_module(model: nn.Module, name: str) -> None:
    path = name.rpartition(".")[0]
    twin = copy.deepcopy(model.get_submodule(path))
    in_place(twin, name.rpartition(".")[2])
    model.set_submodule(path, twin)


def loaded(model: nn.Module, name: str) -> None:
    state_dict = copy.deepcopy(model.state_dict())
    state_dict[name] = changed(state_dict[name])
    model.load_state_dict(state_dict)


def assigned(model: nn.Module, name: str) -> None:
    state_dict = copy.deepcopy(model.state_dict())
    state_dict[name] = changed(state_dict[name])
    model.load_state_dict(state_dict, assign=True)


CHANGES = (
    in_place,
    through_data,
    through_numpy,
    new_data,
    data_at_an_address_of_before,
    new_tensor,
    new_module,
    loaded,
    assigned,
)


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_tensor_is_followed(
    change: Callable[[nn.Module, str], None], name: str, x: Tensor
) -> None:
    model = small()
    with torch.no_grad():
        before = model(x)
    change(model, name)
    assert_follows(model, x, before)


def test_channels_cut_off_through_data_are_followed() -> None:
    block, x = small().features[1], torch.randn(1, 16, 8, 8)
    with torch.no_grad():
        before = block(x)
        keep = before.shape[1] // 2
        for tensor in block.conv[1:].state_dict(keep_vars=True).values():
            if tensor.dim() > 0:
                tensor.data = tensor.data[:keep]
        torch.testing.assert_close(block(x), before[:, :keep])


@functools.cache
def written_models() -> list[FusedMobileNetV2]:
    return [small(), random_model(0.35)]


# What becomes of some values of a tensor.
WRITES: dict[str, Callable[[Tensor], Tensor]] = {
    "zeroed": torch.zeros_like,
    "moved": lambda chosen: chosen + 1,
    "negated": torch.neg,
    "clamped": lambda chosen: chosen.clamp(-chosen.abs().min(), chosen.abs().min()),
    "exchanged": lambda chosen: chosen.flip(0),
}


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_write_that_changes_a_result_is_followed(data: st.DataObject) -> None:
    """At once where the tensor is read whole, as all of the small network's are, else within all rounds."""
    model = copy.deepcopy(data.draw(st.sampled_from(written_models())))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(x)
        tensors = {name: each for name, each in model.state_dict().items() if each.is_floating_point()}
        name = data.draw(st.sampled_from(sorted(tensors)))
        values = tensors[name].view(-1)
        indices = st.integers(0, len(values) - 1)
        chosen = torch.tensor(data.draw(st.lists(indices, min_size=1, max_size=20, unique=True)))
        values[chosen] = WRITES[data.draw(st.sampled_from(sorted(WRITES)))](values[chosen])
        if name.endswith("running_var"):
            values.abs_()
        expected = eager(model, x)
        sampled = {each.data_ptr() for each in Snapshot(model)._state.sampled}
        looks = ROUNDS if values.data_ptr() in sampled else 1
        if not torch.allclose(expected, before, rtol=1e-4, atol=1e-4):
            assert any(not torch.equal(model(x), before) for _ in range(looks))
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)


def test_training_is_followed(x: Tensor) -> None:
    model = small()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(2):
        with torch.no_grad():
            before = model.eval()(x)
        model.train()(x).square().mean().backward()
        optimiser.step()
        assert_follows(model.eval(), x, before)


def test_conversions_are_followed(x: Tensor) -> None:
    model = small()
    with torch.no_grad():
        before = model(x)
        for dtype in (torch.bfloat16, torch.float16):
            half = model.to(dtype)(x.to(dtype))
            assert half.dtype == dtype
            torch.testing.assert_close(half.float(), before, rtol=0.1, atol=0.1)
            # Rounded to dtype for good.
            torch.testing.assert_close(model.float()(x), eager(model, x), rtol=1e-4, atol=1e-4)
    assert not torch.equal(model(x), before)


def test_unchanged_weights_are_packed_once(x: Tensor) -> None:
    model = small()
    with torch.no_grad():
        with calls() as operators:
            model(x)
        assert packs(operators) == 1
        with calls() as operators:
            model(x)
            model.train()
            model.eval()
            model(x[:1])
            model(torch.randn(1, 3, 17, 40))
        assert packs(operators) == 0
        in_place(model, "features.2.conv.1.0.weight")
        with calls() as operators:
            model(x)
        assert packs(operators) == 1
        with torch.no_grad():
            model.features(x)
        in_place(model, "features.2.conv.1.0.weight")
        with calls() as operators:
            model.features(x)
        assert operators.count("pack block") == packs(operators) == 1


def test_weights_of_inference_tensors_are_followed(x: Tensor) -> None:
    """They have no version."""
    with torch.inference_mode():
        model = copy.deepcopy(small())
        before = model(x)
        model.features[2].conv[2].weight.view(-1)[5] += 3
        changed_model = small()
        changed_model.load_state_dict(model.state_dict())
        assert torch.equal(model(x), changed_model(x))
        assert not torch.equal(model(x), before)


def test_weights_packed_in_inference_mode_serve_outside(x: Tensor) -> None:
    model = small()
    with torch.inference_mode():
        expected = model(x)
    y = model(x)
    assert torch.equal(y, expected)
    assert not y.is_inference()


def test_copies_are_independent(x: Tensor) -> None:
    model = small()
    with torch.no_grad():
        before = model(x)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin(x), before)
            in_place(twin, "features.3.conv.2.weight")
            assert_follows(twin, x, before)
            assert torch.equal(model(x), before)


def test_packed_weights_are_never_saved(x: Tensor) -> None:
    model = small()
    names, fresh = list(model.state_dict()), len(_saved(model))
    with torch.no_grad():
        before = model(x)
    assert list(model.state_dict()) == names
    assert not [name for name, tensor in model.named_buffers() if tensor.dtype == torch.uint8]
    # Room for padding, not for the weights again.
    assert len(_saved(model)) <= fresh + 1024
    loaded_model = torch.load(io.BytesIO(_saved(model)), weights_only=False)
    with torch.no_grad():
        assert torch.equal(loaded_model(x), before)


def _saved(model: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    return buffer.getvalue()


def test_the_last_reference_frees_a_network_that_has_run(x: Tensor) -> None:
    model = small()
    with torch.no_grad():
        model(x)
        model.features[:2](x)
    alive = [weakref.ref(model), *(weakref.ref(parameter) for parameter in model.parameters())]
    gc.disable()
    try:
        del model
        assert all(reference() is None for reference in alive)
    finally:
        gc.enable()


@torch.no_grad()
def test_a_replica_that_shares_the_cache_has_its_own_weights(x: Tensor) -> None:
    """As nn.DataParallel makes them: another module with the same attributes, then with other parameters."""
    model = small()
    before = model(x)
    replica = model._replicate_for_data_parallel()
    replica.features = copy.deepcopy(model.features)
    replica.features[0][0].weight.mul_(1.5)
    assert_follows(replica, x, before)
    assert torch.equal(model(x), before)
