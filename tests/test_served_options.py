"""An option of a layer that a backend has no kernels for is an error that names both, never a slow path."""

from __future__ import annotations

import importlib.util
import re

import pytest
import torch
from cases import make_case

from mnv2_kernels import _native
from mnv2_kernels.layer import join_layers, parse_layers

BLOCK = "block in_channels=8 expanded_channels=48 out_channels=8"
STEM = "stem in_channels=3 out_channels=8"
LINEAR = "linear in_channels=8 out_channels=8"
BYTES = f"{STEM} bytes_as=float32"

# Layers, and the error of a backend that serves MobileNetV2's alone, as int8 does: argument, what was
# expected, what came.
UNSERVED = {
    f"{BLOCK} kernel=5": ("kernel", "3", "5"),
    f"{STEM} kernel=7": ("kernel", "3", "7"),
    f"{BLOCK} activation=silu": ("activation", "one that clamps", "silu"),
    f"{BLOCK} project_activation=hardswish": ("project_activation", "one that clamps", "hardswish"),
    f"{BLOCK} depthwise_activation=relu": ("depthwise_activation", "the expand's, relu6", "relu"),
    "block in_channels=8 expanded_channels=8 out_channels=8 depthwise_activation=silu expand=0": (
        "depthwise_activation",
        "one that clamps",
        "silu",
    ),
    f"{BLOCK} squeezed_channels=4": ("squeezed_channels", "none", "4"),
    f"{STEM}; {BLOCK} squeezed_channels=4": ("layers[1]: squeezed_channels", "none", "4"),
    f"{LINEAR} activation=relu": ("activation", "none", "relu"),
    BYTES: ("bytes_as", "none", "float32"),
    f"{LINEAR}; {LINEAR}": ("layers[1]", "one linear layer", "another one"),
}
every_unserved = pytest.mark.parametrize("layers", UNSERVED)
every_one_of_floats = pytest.mark.parametrize("layers", [each for each in UNSERVED if each != BYTES])


def refusal(backend: str, layers: str, op: str = "pack") -> str:
    argument, expected, got = UNSERVED[layers]
    others = f"({backend} has no kernels for others)"
    return re.escape(f"mnv2::{op}: {argument}: expected {expected} {others}, got {got}")


def weights_of(layers: str) -> list[torch.Tensor | None]:
    weights: list[torch.Tensor | None] = []
    for layer in parse_layers(layers):
        if layer.kind == "linear":
            weights += [torch.zeros(layer.out_channels, layer.in_channels), None]
        else:
            weights += make_case(layer.shape(1, 9, 9)).weights
        if layer.bytes_as:
            weights.append(torch.zeros(layer.in_channels, 256))
    return weights


@every_unserved
def test_the_cpu_serves_them_all(layers):
    torch.ops.mnv2.pack(weights_of(layers), layers=layers)


@every_unserved
def test_int8(layers):
    text = join_layers(parse_layers(layers)).replace(";", " arithmetic=int8;") + " arithmetic=int8"
    for op, arguments in {"pack": ([torch.zeros(1)],), "run": (torch.zeros(1), torch.zeros(1))}.items():
        with pytest.raises(RuntimeError, match=f"^{refusal('int8', layers, op)}$"):
            getattr(torch.ops.mnv2, op)(*arguments, layers=text)


@every_one_of_floats
def test_cuda_serves_them_all(layers):
    from cuda_operators import OPS, to_device

    OPS.pack(to_device(tuple(weights_of(layers))), layers=layers)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@every_one_of_floats
def test_triton_serves_them_all(layers):
    from mnv2_kernels.triton import operators

    operators.pack(weights_of(layers), layers=layers)


def test_cuda_refuses_bytes():
    from cuda_operators import OPS, to_device

    with pytest.raises(RuntimeError, match=f"^{refusal('CUDA', BYTES)}$"):
        OPS.pack(to_device(tuple(weights_of(BYTES))), layers=BYTES)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_triton_refuses_bytes():
    from mnv2_kernels.triton import operators

    with pytest.raises(RuntimeError, match=f"^{refusal('Triton', BYTES)}$"):
        operators.pack(weights_of(BYTES), layers=BYTES)


def test_measured_blocks():
    image = {"height": 9, "width": 9}
    with pytest.raises(
        ValueError, match=r"^layer: kernel: expected 3 \(int8 has no kernels for others\), got 5$"
    ):
        _native.Int8BlockRun(f"{BLOCK} kernel=5 arithmetic=int8", **image)
