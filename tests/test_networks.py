"""Well-known networks as data, against the models that torchvision and timm build."""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from cases import make_case, options_of
from models import randomised
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mnv2_kernels import reference
from mnv2_kernels.layer import Layer, is_chain, join_layers, layer_shapes, parse_layers
from mnv2_kernels.networks import NETWORKS, layers_of

# Parameters and multiply-accumulates at 224 x 224.
COSTS = {
    "mobilenet_v2": (3_504_872, 300_774_272),
    "efficientnet_lite0": (4_652_008, 385_187_552),
    "mnasnet_b1": (4_383_312, 314_415_872),
    "fbnet_c": (5_572_200, 384_960_160),
    "mobilenetv3_small": (2_542_856, 56_510_400),
    "mobilenetv3_large": (5_483_032, 216_589_760),
    "efficientnet_b0": (5_288_548, 385_814_752),
}
# What is not installed with this package.
TIMM = {"efficientnet_lite0": "efficientnet_lite0", "fbnet_c": "fbnetc_100"}
TORCHVISION = {
    "mobilenet_v2": "mobilenet_v2",
    "mnasnet_b1": "mnasnet1_0",
    "mobilenetv3_small": "mobilenet_v3_small",
    "mobilenetv3_large": "mobilenet_v3_large",
    "efficientnet_b0": "efficientnet_b0",
}
ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Hardswish: "hardswish",
    nn.SiLU: "silu",
}


def build(network: str) -> nn.Module:
    if network in TORCHVISION:
        return getattr(torchvision.models, TORCHVISION[network])()
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    return __import__("timm").create_model(TIMM[network])


every_network = pytest.mark.parametrize("network", NETWORKS)


def test_every_network_has_its_costs():
    assert set(NETWORKS) == set(COSTS) == set(TIMM) | set(TORCHVISION)


@every_network
def test_parameters_and_macs(network):
    shapes = list(layer_shapes(layers_of(network), 1, 224, 224))
    assert sum(shape.parameters for shape in shapes) == COSTS[network][0]
    assert sum(shape.macs for shape in shapes) == COSTS[network][1]


@every_network
def test_macs_are_those_of_the_model(network):
    model = build(network).eval()
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.to("meta")(torch.empty(1, 3, 224, 224))
    shapes = list(layer_shapes(layers_of(network), 1, 224, 224))
    assert 2 * sum(shape.macs for shape in shapes) == counter.get_total_flops()
    assert sum(shape.parameters for shape in shapes) == sum(each.numel() for each in model.parameters())


def convolutions_of(network: str) -> list[tuple[int, ...]]:
    """(output channels, kernel, stride) of every convolution of images, in the order of the network."""
    found = []
    for layer in layers_of(network):
        if layer.kind == "block":
            if layer.expand:
                found.append((layer.expanded_channels, 1, 1))
            found.append((layer.expanded_channels, layer.kernel, layer.stride))
            if layer.squeezed_channels:
                found += [(layer.squeezed_channels, 1, 1), (layer.expanded_channels, 1, 1)]
            found.append((layer.out_channels, 1, 1))
        elif layer.kind == "stem":
            found.append((layer.out_channels, layer.kernel, layer.stride))
        elif layer.kind == "head_pool":
            found.append((layer.out_channels, 1, 1))
    return found


@every_network
def test_convolutions_are_those_of_the_model(network):
    convs = [module for module in build(network).modules() if isinstance(module, nn.Conv2d)]
    assert convolutions_of(network) == [
        (conv.out_channels, conv.kernel_size[0], conv.stride[0]) for conv in convs
    ]


def activations_of(network: str) -> list[str]:
    found = []
    for layer in layers_of(network):
        if layer.kind == "block":
            found += [layer.activation] * (1 + layer.expand)
            found += [layer.squeeze_activation] if layer.squeezed_channels else []
        else:
            found.append(layer.activation)
    return [each for each in found if each != "none"]


@every_network
def test_activations_are_those_of_the_model(network):
    """In the order in which the model calls them."""
    called: list[str] = []
    model: Any = build(network).eval()

    def note(name: str, *_: Any) -> None:
        called.append(name)

    for module in model.modules():
        if type(module) in ACTIVATIONS:
            module.register_forward_hook(partial(note, ACTIVATIONS[type(module)]))
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    assert activations_of(network) == called


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> list[torch.Tensor | None]:
    """Weight, scale and bias."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return [conv.weight, scale, norm.bias - norm.running_mean * scale]


def convolutions_in(module: nn.Module) -> tuple[list[torch.Tensor | None], list[torch.Tensor | None]]:
    """Those with a norm, and those of the gate, which have none."""
    leaves = [each for each in module.modules() if isinstance(each, nn.Conv2d | nn.BatchNorm2d)]
    main: list[torch.Tensor | None] = []
    gate: list[torch.Tensor | None] = []
    for conv, behind in zip(leaves, [*leaves[1:], None], strict=True):
        if isinstance(conv, nn.Conv2d) and isinstance(behind, nn.BatchNorm2d):
            main += folded(conv, behind)
        elif isinstance(conv, nn.Conv2d):
            gate += [conv.weight, conv.bias]
    return main, gate


def blocks_in(model: Any) -> list[nn.Module]:
    """torchvision's, first to last."""
    parts = [*model.features][1:-1]
    return parts if hasattr(parts[0], "use_res_connect") else [block for stage in parts for block in stage]


@torch.no_grad()
@pytest.mark.parametrize("network", ["mobilenetv3_small", "mobilenetv3_large", "efficientnet_b0"])
def test_the_reference_computes_blocks_with_gates(network):
    model = randomised(build(network)).double().eval()
    stem, *blocks = [layer for layer in layers_of(network) if layer.kind in ("stem", "block")]
    x = torch.randn(2, 3, 64, 64).double()
    main, _ = convolutions_in(model.features[0])
    y = reference.stem(x, *main, **options_of(stem.shape(2, 64, 64)))
    torch.testing.assert_close(y, model.features[0](x))
    for layer, module in zip(blocks, blocks_in(model), strict=True):
        x, (main, gate) = y, convolutions_in(module)
        weights = main if layer.expand else [None, None, None, *main]
        y = reference.fused_block(x, *weights, *gate, **options_of(layer.shape(2, *x.shape[2:])))
        torch.testing.assert_close(y, module(x))


def weights_of(layer: Layer, shape: Any) -> tuple[torch.Tensor | None, ...]:
    if layer.kind != "linear":
        return make_case(shape).weights
    generator = torch.Generator().manual_seed(layer.out_channels)
    weight = torch.randn(layer.out_channels, layer.in_channels, generator=generator)
    return weight / layer.in_channels**0.5, torch.randn(layer.out_channels, generator=generator)


@torch.no_grad()
@every_network
@pytest.mark.parametrize("padding", ["torch", "same"])
def test_a_network_runs_as_one_chain(network, padding, set_threads):
    """The bits of its layers, which test_block.py measures, for any threads and images."""
    layers = layers_of(network, padding)
    x = y = torch.randn(3, 3, 65, 64)
    all_weights: list[torch.Tensor | None] = []
    for layer, shape in zip(layers, layer_shapes(layers, 3, 65, 64), strict=True):
        weights = weights_of(layer, shape)
        y = torch.ops.mnv2.run(y, torch.ops.mnv2.pack(weights, layers=str(layer)), layers=str(layer))
        all_weights += weights
    text = join_layers(layers)
    packed = torch.ops.mnv2.pack(all_weights, layers=text)
    assert torch.equal(torch.ops.mnv2.run(x, packed, layers=text), y)
    set_threads(3)
    assert torch.equal(torch.ops.mnv2.run(x[:1], packed, layers=text), y[:1])


@every_network
@pytest.mark.parametrize("padding", ["torch", "same"])
def test_layers_are_a_chain_and_have_a_text(network, padding):
    layers = layers_of(network, padding)
    assert is_chain(layers)
    assert parse_layers(join_layers(layers)) == layers
    sizes = [shape.out_height for shape in layer_shapes(layers, 1, 224, 224) if hasattr(shape, "out_height")]
    assert sizes[0] == 112
    assert min(sizes[:-1]) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("alexnet",), "network: expected one of mobilenet_v2, .*, got 'alexnet'"),
        (("mobilenet_v2", "valid"), "padding: expected 'torch' or 'same', got 'valid'"),
    ],
)
def test_what_is_no_network(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        layers_of(*arguments)
