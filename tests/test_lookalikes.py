"""A block in any spelling runs fused; what only looks like one stays eager and right, with a reason."""

import copy

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from lookalikes import CHANNELS, LOOKALIKES, SPELLINGS, Block
from models import calls
from tolerances import assert_accurate
from torch import nn

from mnv2_kernels import fuse, fusion_report
from mnv2_kernels.accuracy import MINIMUM_INPUTS
from mnv2_kernels.matching import served


def results(block, fused):
    """Of the fused and the eager module, and of float64, for the same images and random state."""
    x = torch.randn(MINIMUM_INPUTS, CHANNELS, 44, 45)
    found = []
    with torch.no_grad():
        for module, image in ((fused, x), (block, x), (copy.deepcopy(block).double(), x.double())):
            torch.manual_seed(1)
            found.append(module(image.clone()))
    return found


@pytest.mark.parametrize("how", SPELLINGS)
def test_every_spelling_of_a_block_runs_fused(how):
    block = Block(how)
    fused = fuse(copy.deepcopy(block), strict=True)
    with calls() as names:
        assert_accurate(*results(block, fused))
    assert names.count("run block") == 1
    assert fusion_report(fused).eager == {}


@pytest.mark.parametrize("how", SPELLINGS)
def test_gradients_are_those_of_the_spelling(how):
    block = Block(how)
    fused = fuse(copy.deepcopy(block))
    gradients = []
    for module in (block, fused):
        x = torch.randn(2, CHANNELS, 9, 10, generator=torch.Generator().manual_seed(3)).requires_grad_()
        with calls() as names:
            if how == "autograd.Function":  # which has no backward
                assert module(x).requires_grad
                continue
            (module(x) * torch.linspace(-1, 1, 10)).sum().backward()
        assert names.count("run block") == (module is fused)
        gradients.append([x.grad] + [each.grad for each in module.parameters()])
    for ours, theirs in zip(gradients[-1:], gradients[:1], strict=True):
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("how", LOOKALIKES)
def test_what_only_looks_like_a_block_stays_eager(how):
    block = Block(how)
    fused = fuse(copy.deepcopy(block))
    (reason,) = fusion_report(fused).eager.values() if how != "two groups" else (LOOKALIKES[how],)
    assert LOOKALIKES[how] in reason
    with calls() as names:
        ours, theirs, _ = results(block, fused)
    assert not names
    for one, other in zip(ours, theirs, strict=True) if isinstance(ours, tuple) else [(ours, theirs)]:
        assert torch.equal(one, other)


def test_gpus_are_given_what_cpus_are(monkeypatch):
    """5x5, hardswish, squeeze-and-excite and a linear layer with an activation among it."""
    model = fuse(torchvision.models.mobilenet_v3_small().eval())
    on_cpu = fusion_report(model)
    assert on_cpu.fused
    model.to("meta")
    assert "no kernels on meta" in fusion_report(model).eager.values()
    monkeypatch.setattr(served, "DEVICES", ("meta",))
    elsewhere = fusion_report(model)
    assert (elsewhere.fused, elsewhere.eager) == (on_cpu.fused, on_cpu.eager)


def test_a_weight_that_another_module_has_too_stays_eager():
    model = nn.Sequential(Block("F.relu6"), Block("F.relu6")).eval()
    model[1].project.weight = model[0].project.weight
    fuse(model)
    assert fusion_report(model).fused == ()
    assert fusion_report(model).eager == {
        "0": "it shares a weight with 1.project",
        "1": "it shares a weight with 0.project",
    }


# --- random graphs ---

STEPS = (
    "conv",
    "depthwise",
    "norm",
    "relu6",
    "relu",
    "hardswish",
    "add",
    "scale",
    "pool",
    "block",
    "dropout",
)


class Graph(nn.Module):
    """Steps one after another on 8 channels; an add takes an earlier value, some steps are functions."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        self.layers = nn.ModuleList(self._layer(*step) for step in steps)

    def _layer(self, kind, number):
        if kind == "conv":
            return nn.Conv2d(8, 8, 1, bias=bool(number % 2))
        if kind == "depthwise":
            return nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=bool(number % 2))
        if kind == "norm":
            norm = nn.BatchNorm2d(8)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            return norm
        if kind == "block":
            return nn.Sequential(
                *(nn.Conv2d(8, 16, 1), nn.ReLU6(), nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.ReLU6()),
                nn.Conv2d(16, 8, 1),
            )
        return nn.Dropout() if kind == "dropout" else nn.Identity()

    def forward(self, x):
        values = [x]
        for (kind, number), layer in zip(self.steps, self.layers, strict=True):
            y = layer(values[-1])
            if kind in ("relu6", "relu", "hardswish"):
                y = getattr(nn.functional, kind)(y)
            elif kind == "add":
                y = y + values[number % len(values)]
            elif kind == "scale":
                y = y * (0.5 + number)
            elif kind == "pool":
                y = nn.functional.avg_pool2d(y, 3, 1, 1)
            values.append(y)
        return values[-1]


@settings(max_examples=200)
@given(
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3)), min_size=1, max_size=9),
    seed=st.integers(0, 3),
    is_last_of_sequential=st.booleans(),
)
def test_random_graphs_give_what_eager_gives(steps, seed, is_last_of_sequential):
    torch.manual_seed(seed)
    graph = Graph(steps).eval()
    model = (
        nn.Sequential(Block("F.relu6"), nn.Conv2d(CHANNELS, 8, 1), graph).eval()
        if is_last_of_sequential
        else graph
    )
    fused = fuse(copy.deepcopy(model))
    x = torch.randn(MINIMUM_INPUTS, CHANNELS if is_last_of_sequential else 8, 11, 10)
    with torch.no_grad():
        assert_accurate(fused(x), model(x), copy.deepcopy(model).double()(x.double()))
