"""Checkpoints as others write them: nested, prefixed, by other names, of other widths and images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from cli_cases import FAST, refusal, save_photo, save_weights
from models import randomised
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from mnv2_kernels import FusedMobileNetV2
from mnv2_kernels.cli.app import main
from mnv2_kernels.shapes import INVERTED_RESIDUAL_SETTING, make_divisible
from mnv2_kernels.weights.checkpoints import WeightsError, build_network, read_state_dict
from mnv2_kernels.weights.sources import load_network

CLASSES = 7
SIZE = 64
# Relative to the largest logit: two float32 networks that sum in another order.
TOLERANCE = 1e-4

StateDict = Mapping[str, Tensor]


class FlatBlock(nn.Module):
    """An inverted residual whose layers are numbered through, with an expand unless hidden is None."""

    def __init__(self, inp: int, hidden: int | None, oup: int, stride: int) -> None:
        super().__init__()
        self.shortcut = stride == 1 and inp == oup
        expand = () if hidden is None else activated(nn.Conv2d(inp, hidden, 1, bias=False))
        hidden = hidden or inp
        depthwise = activated(nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False))
        project = nn.Conv2d(hidden, oup, 1, bias=False), nn.BatchNorm2d(oup)
        self.conv = nn.Sequential(*expand, *depthwise, *project)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


class FlatNetwork(nn.Module):
    """MobileNetV2 as d-li14 names it, or as tonylins does, whose head is the last of the features.

    ``width`` gives a layer's channels from those of width 1.
    """

    def __init__(
        self, width: Callable[[int], int], head_in_features: bool, first_expands: bool = False, image: int = 3
    ) -> None:
        super().__init__()
        inp, head_channels = width(32), max(1280, width(1280))
        layers: list[nn.Module] = [nn.Sequential(*activated(nn.Conv2d(image, inp, 3, 2, 1, bias=False)))]
        for expansion, channels, repeats, first_stride in INVERTED_RESIDUAL_SETTING:
            for repeat in range(repeats):
                expands = expansion > 1 or first_expands
                stride = 1 if repeat else first_stride
                layers.append(FlatBlock(inp, inp * expansion if expands else None, width(channels), stride))
                inp = width(channels)
        head = nn.Sequential(*activated(nn.Conv2d(inp, head_channels, 1, bias=False)))
        linear = nn.Linear(head_channels, CLASSES)
        self.features = nn.Sequential(*layers, head) if head_in_features else nn.Sequential(*layers)
        self.conv = nn.Sequential() if head_in_features else head
        self.classifier = nn.Sequential(nn.Dropout(), linear) if head_in_features else linear

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.conv(self.features(x)).mean((2, 3)))


def activated(conv: nn.Conv2d) -> tuple[nn.Module, ...]:
    return conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU6(inplace=True)


def rounded(width: float, divisor: int = 8) -> Callable[[int], int]:
    return lambda channels: make_divisible(width * channels, divisor)


def assert_same_function(fused: nn.Module, model: nn.Module, image: int = 3) -> None:
    x = torch.randn(2, image, SIZE, SIZE)
    with torch.no_grad():
        expected = model.eval()(x)
        assert expected.std() > 1e-3, "a network that tells inputs apart"
        assert torch.allclose(fused(x), expected, rtol=0, atol=TOLERANCE * expected.abs().max().item())


def built(state_dict: StateDict) -> FusedMobileNetV2:
    return build_network(state_dict, "torch", 1e-5, "file")


@pytest.fixture(scope="module")
def torchvision_network() -> nn.Module:
    return randomised(mobilenet_v2(width_mult=0.35, num_classes=CLASSES)).eval()


# --- checkpoints around a state dict ---


def with_prefix(prefix: str, state_dict: StateDict) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in state_dict.items()}


def optimiser_state(state_dict: StateDict) -> dict[str, object]:
    moments = {
        index: {"exp_avg": value, "step": torch.ones(())} for index, value in enumerate(state_dict.values())
    }
    return {"state": moments, "param_groups": [{"lr": 0.1, "params": [0]}]}


WRAPPERS: dict[str, Callable[[StateDict], dict]] = {
    "DataParallel": lambda weights: with_prefix("module.", weights),
    "torch.compile": lambda weights: with_prefix("_orig_mod.", weights),
    "both": lambda weights: with_prefix("module._orig_mod.", weights),
    "AveragedModel": lambda weights: {"n_averaged": torch.tensor(3), **with_prefix("module.", weights)},
    "state_dict": lambda weights: {"state_dict": weights, "epoch": 3, "best_acc1": torch.tensor(71.9)},
    "model": lambda weights: {"model": weights, "optimizer": optimiser_state(weights), "epoch": 3},
    "model_state_dict": lambda weights: {"model_state_dict": weights, "loss": 0.5},
    "Lightning": lambda weights: {
        "state_dict": with_prefix("model.", weights),
        "optimizer_states": [optimiser_state(weights)],
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.7)}},
        "pytorch-lightning_version": "2.5.0",
    },
    "nested": lambda weights: {"checkpoint": {"model": with_prefix("module.", weights)}},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_weights_are_found_inside_a_checkpoint(
    wrapper: str, tmp_path: Path, torchvision_network: nn.Module
) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save(WRAPPERS[wrapper](torchvision_network.state_dict()), path)
    assert_same_function(load_network(str(path)).model, torchvision_network)


def test_several_networks_are_ambiguous(tmp_path: Path, torchvision_network: nn.Module) -> None:
    weights, path = dict(torchvision_network.state_dict()), tmp_path / "checkpoint.pt"
    torch.save({"model": weights, "model_ema": weights}, path)
    with pytest.raises(
        WeightsError,
        match=r"checkpoint\.pt: it holds several state dicts, file\['model'\] and file\['model_ema'\]: save",
    ):
        read_state_dict(path)
    with pytest.raises(
        WeightsError, match=r"file: it holds several networks, whose names begin with 'ema\.' and 'model\.'"
    ):
        built({**with_prefix("model.", weights), **with_prefix("ema.", weights)})


def test_layers_beside_the_network_are_refused(torchvision_network: nn.Module) -> None:
    weights = with_prefix("backbone.", torchvision_network.state_dict())
    with pytest.raises(WeightsError, match=r"not a MobileNetV2 state dict: 1 unexpected \(fc\.weight\)$"):
        built({**weights, "fc.weight": torch.zeros(2, CLASSES)})


def test_what_is_missing_has_the_file_s_name(torchvision_network: nn.Module) -> None:
    weights = with_prefix("module.", torchvision_network.state_dict())
    del weights["module.features.3.conv.2.weight"]
    with pytest.raises(WeightsError, match=r"1 keys missing \(module\.features\.3\.conv\.2\.weight\)$"):
        built(weights)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda weight: weight.to(torch.int8), "int8, strided, on cpu"),
        (lambda weight: weight.to_sparse(), "float32, sparse_coo, on cpu"),
        (lambda weight: weight.to("meta"), "float32, strided, on meta"),
    ],
)
def test_what_holds_no_numbers_to_compute_with(
    change: Callable[[Tensor], Tensor], kind: str, torchvision_network: nn.Module
) -> None:
    key = "features.3.conv.2.weight"
    weights = dict(torchvision_network.state_dict())
    weights[key] = change(weights[key])
    with pytest.raises(
        WeightsError, match=rf"file: {key} is {kind}; expected a dense tensor of floating point"
    ):
        built(weights)


# --- names of others ---


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: FlatNetwork(rounded(0.35), head_in_features=False), id="d-li14"),
        pytest.param(lambda: FlatNetwork(rounded(0.1, 4), head_in_features=False), id="d-li14, by 4"),
        pytest.param(lambda: FlatNetwork(rounded(1.0), head_in_features=True), id="tonylins"),
        pytest.param(
            lambda: FlatNetwork(lambda channels: int(0.3 * channels), True, first_expands=True),
            id="tonylins, with an expand in every block and channels not rounded",
        ),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_flat_names(model: Callable[[], nn.Module], prefix: str) -> None:
    network = randomised(model())
    assert_same_function(built(with_prefix(prefix, network.state_dict())), network)


def timm_name(name: str) -> str:
    """timm's name of a weight by torchvision's."""
    layer, _, kind = name.rpartition(".")
    outside = {"features.0.0": "conv_stem", "features.0.1": "bn1", "features.18.0": "conv_head"}
    outside |= {"features.18.1": "bn2", "classifier.1": "classifier"}
    if layer in outside:
        return f"{outside[layer]}.{kind}"
    index, part, inner = re.fullmatch(r"features\.(\d+)\.conv\.(\d)(?:\.(\d))?", layer).groups()
    block = int(index) - 1
    stage = next(stage for stage in range(7) if block < sum((1, 2, 3, 4, 3, 3, 1)[: stage + 1]))
    repeat = block - sum((1, 2, 3, 4, 3, 3, 1)[:stage])
    convs = ("dw", "pw") if block == 0 else ("pw", "dw", "pwl")
    is_norm = inner == "1" or int(part) == len(convs)
    position = int(part) - (inner is None and is_norm)
    return (
        f"blocks.{stage}.{repeat}."
        + (f"bn{position + 1}" if is_norm else f"conv_{convs[position]}")
        + f".{kind}"
    )


def test_timm_s_names(torchvision_network: nn.Module) -> None:
    weights = {timm_name(name): value for name, value in torchvision_network.state_dict().items()}
    assert {"blocks.0.0.bn2.bias", "blocks.6.0.conv_pwl.weight", "conv_head.weight"} <= weights.keys()
    assert_same_function(built(weights), torchvision_network)


def mmpretrain_name(name: str) -> str:
    """mmpretrain's name of a weight by torchvision's, by way of timm's."""
    outside = {"conv_stem": "conv1.conv", "bn1": "conv1.bn", "conv_head": "conv2.conv", "bn2": "conv2.bn"}
    layer, _, kind = timm_name(name).rpartition(".")
    if layer == "classifier":
        return f"head.fc.{kind}"
    if layer in outside:
        return f"backbone.{outside[layer]}.{kind}"
    stage, repeat, part = re.fullmatch(r"blocks\.(\d)\.(\d)\.(\w+)", layer).groups()
    convs = ["conv_dw", "conv_pw"] if stage == "0" else ["conv_pw", "conv_dw", "conv_pwl"]
    index, what = (convs.index(part), "conv") if part in convs else (int(part[-1]) - 1, "bn")
    return f"backbone.layer{int(stage) + 1}.{repeat}.conv.{index}.{what}.{kind}"


@pytest.mark.parametrize("prefix", ["", "module."])
def test_mmpretrain_s_names(torchvision_network: nn.Module, prefix: str) -> None:
    weights = {
        prefix + mmpretrain_name(name): each for name, each in torchvision_network.state_dict().items()
    }
    assert f"{prefix}backbone.layer1.0.conv.1.bn.running_var" in weights
    assert f"{prefix}backbone.layer7.0.conv.2.conv.weight" in weights
    assert_same_function(built(weights), torchvision_network)


def test_a_classifier_of_one_linear_layer(torchvision_network: nn.Module) -> None:
    weights = {
        name.replace("classifier.1.", "classifier."): value
        for name, value in torchvision_network.state_dict().items()
    }
    assert_same_function(built(weights), torchvision_network)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("mobilenet_v2.conv_stem.first_conv.convolution.weight", "transformers"),
        ("backbone.layer1.0.conv.0.conv.weight", "mmpretrain"),
    ],
)
def test_names_that_are_not_read_are_recognised(name: str, source: str) -> None:
    with pytest.raises(
        WeightsError, match=f"is a name of {source}'s MobileNetV2; expected those of torchvision"
    ):
        built({name: torch.zeros(32, 3, 3, 3)})


# --- widths and images ---


@pytest.mark.parametrize(("width", "round_nearest"), [(0.6, 8), (2.0, 8), (0.1, 4), (0.37, 1), (1.0, 16)])
def test_shapes_tell_every_width(width: float, round_nearest: int) -> None:
    model = randomised(mobilenet_v2(width_mult=width, num_classes=CLASSES, round_nearest=round_nearest))
    network = built(model.state_dict())
    assert network.last_channel == model.last_channel
    assert_same_function(network, model)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels(channels: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = mobilenet_v2(width_mult=0.35, num_classes=CLASSES)
    model.features[0][0] = nn.Conv2d(channels, 16, 3, 2, 1, bias=False)
    randomised(model)
    assert_same_function(built(model.state_dict()), model, image=channels)
    ours = FusedMobileNetV2(CLASSES, 0.35, in_channels=channels)
    ours.load_state_dict(model.state_dict())
    assert_same_function(ours.eval(), model, image=channels)
    assert_same_function(ours.deploy(), model, image=channels)

    weights, photo = save_weights(tmp_path, model.state_dict()), save_photo(tmp_path)
    for command in ("classify", "verify"):
        line = refusal(capsys, [command, photo, "--weights", weights, *FAST])
        assert f"its images have {channels} channels and photographs 3; `mnv2 verify` without" in line
    assert main(["verify", "--weights", str(weights), *FAST]) == 0
    assert main(["profile", "--weights", str(weights), "--rounds", "1", *FAST]) == 0
