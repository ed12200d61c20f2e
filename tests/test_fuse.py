"""A model that was fused in place is as it was before: everything that a drop-in usually breaks."""

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import LambdaType

import pytest
import torch
import torchvision
from lookalikes import Block
from models import CLASSES, SMALL_SETTING, calls, randomised
from torch import nn
from torch.nn.utils import parametrizations
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.feature_extraction import create_feature_extractor

import mnv2_kernels
from mnv2_kernels import FusedInvertedResidual, FusedMobileNetV2, deploy, fuse, fusion_report, unfuse
from mnv2_kernels.dropin.plans import plan_of
from mnv2_kernels.nn.eager import eager as eager_twin

X = torch.randn(2, 3, 40, 44, generator=torch.Generator().manual_seed(3))
BLOCKS = ("features.1", "features.2", "features.3", "features.4")


def eager_model():
    torch.manual_seed(0)
    return randomised(torchvision.models.MobileNetV2(CLASSES, 0.5, SMALL_SETTING)).eval()


def pair():
    """The eager and the fused model, of the same weights."""
    eager = eager_model()
    return eager, fuse(copy.deepcopy(eager))


def assert_same(fused, eager, x=X, operators=None):
    """Equal results; ``operators``: which of ours run for them."""
    with torch.no_grad(), calls() as names:
        y = fused(x)
    with torch.no_grad():
        torch.testing.assert_close(y, eager(x), rtol=1e-4, atol=1e-4)
    if operators is not None:
        assert [name for name in names if not name.startswith("pack")] == operators


# --- what runs ---


def test_a_network_that_is_one_chain_is_one_call():
    eager, fused = pair()
    assert_same(fused, eager, operators=["run network"])
    assert_same(fused, eager, X.to(memory_format=torch.channels_last), ["run network"])
    assert_same(fused, eager, torch.randn(1, 3, 75, 33), ["run network"])


def test_fuse_finds_the_same_in_inference_mode():
    eager = eager_model()
    with torch.inference_mode():
        fused = fuse(copy.deepcopy(eager))
        assert fusion_report(fused).fused == BLOCKS
    assert_same(fused, eager, operators=["run network"])


def test_what_deploy_returns_is_saved_as_the_model_it_came_from():
    with pytest.raises(RuntimeError, match="save the model it came from"):
        pickle.dumps(deploy(pair()[1]))


def test_consecutive_blocks_of_a_sequential_run_in_one_call():
    torch.manual_seed(0)
    blocks = [Block("F.relu6") for _ in range(5)]
    eager = nn.Sequential(
        blocks[0], nn.Sequential(blocks[1], nn.Dropout()), nn.Upsample(scale_factor=2), *blocks[2:]
    ).eval()
    fused = fuse(copy.deepcopy(eager))
    assert_same(fused, eager, torch.randn(1, 16, 9, 8), ["run network", "run network"])
    assert fusion_report(fused).fused == ("0", "1.0", "3", "4", "5")
    assert fused(torch.randn(1, 16, 9, 8)).is_contiguous(memory_format=torch.channels_last)


def test_layers_that_lie_flat_in_a_sequential_are_found():
    layers = [
        *(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 3, 1, 1, groups=8),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 1),
        ),
        *(
            nn.Conv2d(8, 24, 1),
            nn.ReLU6(),
            nn.Conv2d(24, 24, 3, 1, 1, groups=24),
            nn.ReLU6(),
            nn.Conv2d(24, 9, 1),
        ),
        *(nn.Upsample(scale_factor=2), nn.Conv2d(9, 3, 1)),
    ]
    eager = nn.Sequential(*layers).eval()
    fused = fuse(copy.deepcopy(eager))
    assert_same(fused, eager, operators=["run network"])
    assert fusion_report(fused).fused == ("2", "7")


def test_same_padding_is_told_by_every_size_of_a_trial():
    """An image that came down to one pixel needs what padding of a fixed size gives it."""
    torch.manual_seed(0)
    blocks = [FusedInvertedResidual(8, 8, 2, 2, padding="same") for _ in range(7)]
    eager = eager_twin(randomised(nn.Sequential(*blocks)).eval())
    fused = fuse(copy.deepcopy(eager))
    for size in (70, 256):
        assert_same(fused, eager, torch.randn(2, 8, size, size), ["run network"])


def test_nothing_is_found_in_a_model_without_a_block():
    model = torchvision.models.resnet18().eval()
    kinds = [type(each) for each in model.modules()]
    assert fuse(model) is model
    assert [type(each) for each in model.modules()] == kinds
    assert str(fusion_report(model)) == "no inverted residual was found"
    with pytest.raises(ValueError, match="strict, but\nno inverted residual was found"):
        fuse(model, strict=True)


def test_fusing_twice_or_in_parts_is_harmless():
    eager, fused = pair()
    kinds = [type(each) for each in fused.modules()]
    assert [type(each) for each in fuse(fused).modules()] == kinds
    parts = copy.deepcopy(eager)
    fuse(parts.features[3])
    assert fusion_report(parts).fused == ("features.3",)
    assert_same(parts, eager, operators=["run block"])
    assert [type(each) for each in fuse(parts).modules()] == kinds
    assert_same(parts, eager, operators=["run network"])


def test_a_filter_picks_blocks():
    eager, asked = eager_model(), []

    def wanted(module, name):
        asked.append(name)
        assert module is fused.get_submodule(name)
        return name != "features.3"

    fused = copy.deepcopy(eager)
    fuse(fused, filter=wanted)
    assert sorted(asked) == ["features.0", *BLOCKS]
    report = fusion_report(fused)
    assert report.fused == ("features.1", "features.2", "features.4")
    assert report.eager == {"features.3": "it is not fused: left out by the filter, or fuse was not called"}
    assert_same(fused, eager, operators=["run network", "run block"])
    unfused = copy.deepcopy(eager)
    with pytest.raises(ValueError, match="3 of 4 blocks run fused"):
        fuse(unfused, filter=lambda module, name: name != "features.3", strict=True)
    assert [type(each) for each in unfused.modules()] == [type(each) for each in eager.modules()]


# --- what it is ---


def test_names_classes_and_attributes_stay():
    eager, fused = pair()
    assert isinstance(fused, torchvision.models.MobileNetV2)
    assert repr(fused) == repr(eager)
    assert [*fused.state_dict()] == [*eager.state_dict()]
    assert [name for name, _ in fused.named_modules()] == [name for name, _ in eager.named_modules()]
    assert [name for name, _ in fused.named_parameters()] == [name for name, _ in eager.named_parameters()]
    assert fused.features[3].use_res_connect == eager.features[3].use_res_connect
    assert fused.features[3].out_channels == eager.features[3].out_channels
    assert_same(fused.features[:3], eager.features[:3], operators=["run stem", "run block", "run block"])


def test_unfuse_gives_everything_back():
    eager, fused = pair()
    assert_same(fused, eager)
    assert unfuse(fused) is fused
    assert [type(each) for each in fused.modules()] == [type(each) for each in eager.modules()]
    for ours, theirs in zip(fused.modules(), eager.modules(), strict=True):
        assert {*vars(ours)} == {*vars(theirs)}
    assert_same(fused, eager, operators=[])


def test_a_deep_copy_is_fused_and_its_own():
    eager, fused = pair()
    assert_same(fused, eager)
    twin, other = copy.deepcopy(fused), copy.deepcopy(eager)
    for model in (twin, other):
        model.features[2].conv[2].weight.data.mul_(2)
    assert_same(twin, other, operators=["run network"])
    assert_same(fused, eager, operators=["run network"])


def test_averaged_copies_follow_their_own_weights():
    eager, fused = pair()
    averages = [torch.optim.swa_utils.AveragedModel(model) for model in (eager, fused)]
    for model, average in zip((eager, fused), averages, strict=True):
        average.update_parameters(model)
        for parameter in model.parameters():
            parameter.data.mul_(1.1)
        average.update_parameters(model)
    assert_same(averages[1], averages[0], operators=["run network"])


def test_a_saved_model_loads_without_this_package(tmp_path):
    eager, fused = pair()
    assert_same(fused, eager)
    torch.save(fused, tmp_path / "model.pt")
    code = (
        "import sys, torch; sys.modules['mnv2_kernels'] = None; "
        f"print(type(torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False)).__module__)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "torchvision.models.mobilenetv2"
    assert_same(pickle.loads(pickle.dumps(fused)), eager, operators=[])


def test_a_replica_of_data_parallel_runs_its_own_weights():
    eager, fused = pair()
    block, other = fused.features[3], copy.deepcopy(eager.features[3])
    x = torch.randn(1, 16, 8, 8)
    assert_same(block, eager.features[3], x)
    replica = block._replicate_for_data_parallel()
    replica._modules["conv"] = copy.deepcopy(block.conv)
    replica.conv[2].weight.data.mul_(2)
    other.conv[2].weight.data.mul_(2)
    assert_same(replica, other, x)
    assert_same(block, eager.features[3], x)


# --- whose own code runs ---


@pytest.mark.parametrize(
    ("path", "operators"),
    [
        ("features.2.conv.0.1", ["run network", "run network"]),
        ("features.2", ["run network", "run block", "run network"]),
        ("features.4", ["run network", "run block"]),
    ],
)
def test_hooks_run(path, operators):
    eager, fused = pair()
    seen = []
    for model in (fused, eager):
        model.get_submodule(path).register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        assert_same(fused, eager, operators=operators)
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-4, atol=1e-4)


def test_a_hook_that_keeps_its_output_in_the_module_costs_no_reading(monkeypatch):
    eager, fused = pair()
    read = []

    def recorded(*given):
        read.append(given)
        return plan_of(*given)

    monkeypatch.setattr("mnv2_kernels.dropin.plans.plan_of", recorded)
    for model in (fused, eager):
        model.features[3].register_forward_hook(lambda module, args, output: setattr(module, "kept", output))
    for _ in range(2):  # the first call adds the attribute
        assert_same(fused, eager)
    assert read
    read.clear()
    assert_same(fused, eager, 2 * X)
    assert not read
    torch.testing.assert_close(fused.features[3].kept, eager.features[3].kept, rtol=1e-4, atol=1e-4)


def test_features_are_those_of_the_model():
    eager, fused = pair()
    nodes = (
        {"features.2": "a", "features.4.add": "b"}
        if eager.features[4].use_res_connect
        else {"features.2": "a"}
    )
    ours, theirs = (create_feature_extractor(model, nodes)(X) for model in (fused, eager))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-4)
    ours, theirs = (IntermediateLayerGetter(model.features, {"2": "a"})(X) for model in (fused, eager))
    torch.testing.assert_close(ours["a"], theirs["a"], rtol=1e-4, atol=1e-4)


def test_traces_have_the_layers_of_the_model():
    eager, fused = pair()
    nodes = [
        [(node.op, str(node.target)) for node in torch.fx.symbolic_trace(model).graph.nodes]
        for model in (fused, eager)
    ]
    assert nodes[0] == nodes[1]
    exported = torch.export.export(fused, (X,))
    assert not any("mnv2" in str(node.target) for node in exported.graph.nodes)
    assert_same(exported.module(), eager, operators=[])
    assert_same(torch.jit.trace(fused, X), eager, operators=[])
    with torch.no_grad():
        compiled = torch.compile(fused, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(X), eager(X), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
def test_torchscript_scripts_the_model_s_own_class():
    eager, fused = pair()
    kinds = [type(each) for each in fused.modules()]
    assert_same(torch.jit.script(fused), eager, operators=[])
    assert [type(each) for each in fused.modules()] == kinds
    assert_same(fused, eager, operators=["run network"])


def test_onnx_has_the_layers_of_the_model(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    _, fused = pair()
    torch.onnx.export(fused, (X,), tmp_path / "model.onnx", dynamo=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (y,) = session.run(None, {session.get_inputs()[0].name: X.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(y), fused(X), rtol=1e-3, atol=1e-3)


def test_functional_calls_and_transforms():
    eager, fused = pair()
    weights = {name: each.detach() * 1.01 for name, each in eager.named_parameters()}
    with torch.no_grad():
        ours, theirs = (torch.func.functional_call(model, weights, X) for model in (fused, eager))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        mapped = torch.vmap(fused)(X[:, None])
        torch.testing.assert_close(mapped[:, 0], eager(X), rtol=1e-4, atol=1e-4)
    ours, theirs = (
        torch.func.jacrev(lambda x, model=model: model(x)[0, :2])(X[:1]) for model in (fused, eager)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_other_arguments_and_inputs():
    class Dropping(nn.Sequential):
        def forward(self, x, rate=0.0, mask=None):
            y = nn.functional.dropout(super().forward(x), rate, self.training)
            return y if mask is None else y * mask

    eager = Dropping(Block("F.relu6")).eval()
    fused = fuse(copy.deepcopy(eager))
    x = torch.randn(1, 16, 9, 9)
    with torch.no_grad(), calls() as names:
        for options in ({}, {"rate": 0.2}, {"mask": x}):
            torch.testing.assert_close(fused(x, **options), eager(x, **options), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(fused(x=x), eager(x), rtol=1e-4, atol=1e-4)
    assert names.count("run block") == 4
    with torch.no_grad():
        assert fused(x[:0]).shape == x[:0].shape
        with pytest.raises(RuntimeError, match="expected input"):
            fused(torch.randn(1, 3, 9, 9, dtype=torch.float64))
        assert fused.to("meta")(x.to("meta")).shape == x.shape


# --- training and gradients ---


def test_train_mode_is_the_model_s_own():
    models, losses = pair(), []
    for model in models:
        torch.manual_seed(1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(2):
            optimizer.zero_grad()
            loss = model.train()(X).square().mean()
            loss.backward()
            optimizer.step()
            model.eval()(X)
        losses.append(loss.detach())
    assert torch.equal(*losses)
    for ours, theirs in zip(models[1].state_dict().values(), models[0].state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert_same(models[1], models[0], operators=["run network"])


def test_gradients_in_eval_mode_are_the_layers():
    gradients = []
    for model in pair():
        x = X.clone().requires_grad_()
        with calls() as names:
            y = model(x).square().sum()
        model.train()  # which is none of the backward's business
        (first,) = torch.autograd.grad(y, x, create_graph=True)
        first.square().sum().backward()
        gradients.append([x.grad, *(each.grad for each in model.parameters())])
    assert "run network" in names
    for ours, theirs in zip(*gradients, strict=True):
        scale = theirs.abs().max().item()
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * scale)


def test_a_changed_weight_between_forward_and_backward_is_torch_s_error():
    _, fused = pair()
    y = fused(X)
    with torch.no_grad():
        fused.features[2].conv[2].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_frozen_norms_and_checkpoints():
    from torch.utils.checkpoint import checkpoint

    gradients = []
    for model in pair():
        model.train()
        for each in model.modules():
            if isinstance(each, nn.BatchNorm2d):
                each.eval()
        model.features.requires_grad_(False)
        torch.manual_seed(1)
        model(X).square().mean().backward()
        model.eval()
        checkpoint(model, X, use_reentrant=False).square().mean().backward()
        assert model.features[0][0].weight.grad is None
        gradients.append(model.classifier[1].weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


def test_distributed_data_parallel(tmp_path):
    import torch.distributed as dist

    eager, fused = pair()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(fused)
        wrapped.train()(X).square().mean().backward()
        eager.train()(X).square().mean().backward()
        for model in (wrapped, eager):
            model.eval()
        assert_same(wrapped, eager, operators=["run network"])
        wrapped(X).square().mean().backward()
    finally:
        dist.destroy_process_group()


# --- what changes ---


def set_in(path, name, value):
    return lambda model: setattr(
        model.get_submodule(path), name, value(model) if isinstance(value, LambdaType) else value
    )


def _first_channels(model, x):
    return model.features[3].conv[0](x)[:, :16]


CHANGES = {
    "in place": lambda model: model.features[3].conv[0][0].weight.mul_(1.5),
    "data": lambda model: model.features[3].conv[0][1].weight.data.mul_(1.5),
    "load_state_dict": lambda model: model.load_state_dict(
        randomised(copy.deepcopy(model), seed=5).state_dict()
    ),
    "another parameter": set_in(
        "features.3.conv.2", "weight", lambda model: nn.Parameter(torch.ones(16, 96, 1, 1))
    ),
    "an attribute": set_in("features.4", "use_res_connect", False),
    "eps": set_in("features.3.conv.0.1", "eps", 0.1),
    "an activation": set_in("features.3.conv.0", "2", nn.Hardswish()),
    "another module": set_in("features", "4", nn.Identity()),
    "a mode": lambda model: model.features[3].conv[0][1].train(),
    "parametrised": lambda model: parametrizations.weight_norm(model.features[3].conv[2]),
    "half": lambda model: model.to(torch.bfloat16).float(),
    "a function": set_in("features.3.conv", "forward", lambda model: partial(_first_channels, model)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_are_followed(change):
    eager, fused = pair()
    assert_same(fused, eager)
    for model in (eager, fused):
        with torch.no_grad():
            change(model)
    eager, fused = (
        copy.deepcopy(model) if change is CHANGES["a mode"] else model for model in (eager, fused)
    )
    assert_same(fused, eager)


def test_a_field_of_a_configuration_is_followed():
    class Configured(Block):
        def __init__(self, how):
            super().__init__(how)
            self.config = type("Config", (), {})()
            self.config.shortcut = True

        def forward(self, x):
            y = super().forward(x)
            return y if self.config.shortcut else y - x

    eager = Configured("F.relu6")
    fused = fuse(copy.deepcopy(eager))
    x = torch.randn(1, 16, 9, 9)
    assert_same(fused, eager, x, ["run block"])
    eager.config.shortcut = fused.config.shortcut = False
    assert_same(fused, eager, x, [])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    eager, fused = pair()
    eager, fused = eager.to(dtype), fused.to(dtype)
    with torch.no_grad(), calls() as names:
        y = fused(X.to(dtype))
    assert y.dtype == dtype
    assert ("run network" in names) == (dtype != torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(y, eager(X.to(dtype)), rtol=0.1, atol=0.1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert fused.float()(X).dtype == torch.bfloat16


def test_threads_share_a_model():
    eager, fused = pair()
    with torch.no_grad():
        expected = eager(X)

    def run(_):
        with torch.no_grad():
            torch.testing.assert_close(fused(X), expected, rtol=1e-4, atol=1e-4)

    with ThreadPoolExecutor(4) as pool:
        assert len([*pool.map(run, range(12))]) == 12


def test_fuse_leaves_no_trace():
    """Modes, attributes and the state of random numbers; what a trial call keeps is put back."""
    block = Block("expanded tensor kept").train()
    state = torch.get_rng_state()
    fuse(block)
    assert block.training
    assert block.kept is None
    assert torch.equal(torch.get_rng_state(), state)


class Counting(nn.Module):
    """Counts its calls in a buffer, in eval mode, too."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x


def test_no_trial_changes_a_buffer_or_calls_a_hook():
    torch.manual_seed(0)
    model = nn.Sequential(Block("F.relu6"), Block("F.relu6"), Counting(), Block("F.relu6"), Block("F.relu6"))
    model.eval()[1].norms[0].train()
    seen = []
    model[0].expand.register_forward_hook(lambda module, args, output: seen.append(output))
    before = copy.deepcopy(model.state_dict())
    fuse(model)
    fusion_report(model)
    assert not seen
    for ours, theirs in zip(model.state_dict().values(), before.values(), strict=True):
        assert torch.equal(ours, theirs)
    model[1].eval()
    eager = unfuse(copy.deepcopy(model))
    assert_same(model, eager, torch.randn(1, 16, 9, 8), ["run block"] * 3)
    assert len(seen) == 2
    assert model[2].calls == eager[2].calls == 1


def test_the_public_names():
    assert {"fuse", "unfuse", "fusion_report", "FusionReport"} <= set(mnv2_kernels.__all__)


# --- deployment and conversion ---


def test_a_deployed_copy_holds_packed_weights_alone():
    eager, fused = pair()
    deployed = deploy(fused)
    with torch.no_grad(), calls() as names:
        assert torch.equal(deployed(X), fused(X))
    assert names.count("run network") == 2
    assert not [*deployed.parameters()]
    exported = torch.export.export(deployed, (X,))
    assert any("mnv2.run" in str(node.target) for node in exported.graph.nodes)
    fused.features[2].conv[2].weight.data.mul_(2)
    assert_same(deployed, eager)
    with pytest.raises(RuntimeError, match="packed for this machine"):
        deployed.state_dict()


def test_this_package_s_own_network_is_fused_as_it_is():
    model = FusedMobileNetV2.from_model(eager_model())
    kinds = [type(each) for each in model.modules()]
    assert [type(each) for each in fuse(model, strict=True).modules()] == kinds
    assert fusion_report(model).fused == BLOCKS
    eager = nn.Sequential(nn.Hardtanh(), eager_twin(model))
    whole = nn.Sequential(nn.Hardtanh(), model).eval()
    for fused in (whole, fuse(copy.deepcopy(whole))):
        for each in (fused, deploy(fused)):
            assert_same(each, eager, operators=["run network"])
    handle = model.features[2].conv.register_forward_hook(lambda module, args, output: output)
    assert fusion_report(model).fused == ("features.1", "features.3", "features.4")
    handle.remove()


def test_blocks_in_a_network_of_one_s_own_are_chained_and_deployed():
    torch.manual_seed(0)
    blocks = [FusedInvertedResidual(3, 8, 2, 2), FusedInvertedResidual(8, 8, 1, 6)]
    plain = randomised(nn.Sequential(*blocks)).eval()
    eager = eager_twin(copy.deepcopy(plain))
    assert_same(deploy(plain), eager, operators=["run block", "run block"])
    fused = fuse(copy.deepcopy(plain))
    assert [type(each) for each in fused] == [FusedInvertedResidual] * 2
    for each in (fused, deploy(fused)):
        assert_same(each, eager, operators=["run network"])
    assert type(unfuse(fused)) is nn.Sequential
    assert type(fused[0]) is FusedInvertedResidual
    assert_same(eager_twin(fuse(fused)), eager, operators=[])


def test_what_runs_eagerly_is_deployed_as_it_is():
    torch.manual_seed(0)
    eager = nn.Sequential(
        Block("F.relu6"), Block("leaky"), nn.Sequential(Block("F.relu6"), Block("F.relu6"))
    ).eval()
    fused = fuse(copy.deepcopy(eager))
    x = torch.randn(2, 16, 9, 8)
    assert_same(deploy(fused), eager, x, ["run block", "run network"])
    fused[2].register_forward_hook(lambda module, args, output: None)
    with pytest.raises(RuntimeError, match="deploy: 2 has hooks"):
        deploy(fused)
    with pytest.raises(RuntimeError, match="nothing in the model runs fused"):
        deploy(eager)
    with pytest.raises(RuntimeError, match=r"call eval\(\) first"):
        deploy(fused.train())


@pytest.mark.parametrize("call", [fuse, unfuse, fusion_report, deploy])
def test_what_is_no_model_is_named(call):
    for given, found in (("x", "str"), (nn.ReLU, "the class ReLU"), (None, "NoneType")):
        words = rf"^{call.__name__}: expected a model, a torch\.nn\.Module, got {found}$"
        with pytest.raises(TypeError, match=words):
            call(given)


def test_lazy_and_deployed_models_are_named():
    for call in (fuse, fusion_report):
        with pytest.raises(ValueError, match=r"^1\.weight belongs to a lazy module.* call the model once$"):
            call(nn.Sequential(Block("F.relu6"), nn.LazyConv2d(8, 3)))
    with pytest.raises(RuntimeError, match="what deploy returned already: deploy the one it came from"):
        deploy(deploy(pair()[1]))


def test_a_fused_model_converts_as_what_it_was():
    eager, fused = pair()
    assert_same(FusedMobileNetV2.from_model(fused), eager, operators=["run network"])
    assert_same(fused, eager, operators=["run network"])


def test_a_stem_of_one_channel_is_no_depthwise_convolution():
    model = FusedMobileNetV2(5, inverted_residual_setting=SMALL_SETTING, in_channels=1).eval()
    blocks = {f"features.{index}" for index in range(1, 1 + sum(row[2] for row in SMALL_SETTING))}
    assert set(fusion_report(fuse(model, strict=True)).fused) == blocks
    plain = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU6(), FusedInvertedResidual(8, 8, 1, 6)).eval()
    assert not fusion_report(fuse(plain)).eager
