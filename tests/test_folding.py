"""BatchNorm as scale and bias."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mnv2_kernels.fusion.eager_layers import EagerLayer
from mnv2_kernels.matching.known import head_fusion

CHANNELS = 6


def convolution(bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(4, CHANNELS, 1, bias=bias)


def norm(**options: object) -> nn.BatchNorm2d:
    """With a negative gamma, a dead channel whose scale eps decides, and a large variance."""
    module = nn.BatchNorm2d(CHANNELS, **options).eval()
    module.running_mean.normal_()
    module.running_var.copy_(torch.tensor([1.0, 0.3, 3.9e-36, 483.0, 1e-7, 2.0]))
    if module.affine:
        with torch.no_grad():
            module.weight.copy_(torch.tensor([1.0, -0.7, 1.3, 0.0, 0.2, 5.0]))
            module.bias.normal_()
    return module


def fold(conv: nn.Conv2d, module: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """Scale and bias."""
    return head_fusion(EagerLayer("0", conv, module)).weights()[1:]


def applied(conv: nn.Conv2d, scale: Tensor | None, bias: Tensor | None, x: Tensor) -> Tensor:
    y = nn.functional.conv2d(x, conv.weight.double())
    if scale is not None:
        y = y * scale.double()[:, None, None]
    return y if bias is None else y + bias.double()[:, None, None]


@pytest.mark.parametrize("conv_bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_is_what_the_layers_compute(eps: float, affine: bool, conv_bias: bool) -> None:
    conv, module = convolution(conv_bias), norm(eps=eps, affine=affine)
    weight = conv.weight.detach().clone()
    scale, bias = fold(conv, module)
    x = torch.randn(2, 4, 5, 3).double()
    with torch.no_grad():
        y = applied(conv, scale, bias, x)
        expected = module.double()(conv.double()(x))
    # One rounding of each factor to float32, relative to what the additions meet.
    magnitude = expected.abs().amax((0, 2, 3), keepdim=True) + module.running_mean[:, None, None].abs() * (
        scale.double()[:, None, None].abs()
    )
    assert ((y - expected).abs() <= 4 * torch.finfo(torch.float32).eps * (1 + magnitude)).all()
    assert torch.equal(conv.weight, weight.double())


def test_is_rounded_once_from_float64() -> None:
    module = norm(eps=1e-3)
    scale, bias = fold(convolution(), module)
    exact = module.double()
    exact_scale = exact.weight / (exact.running_var + 1e-3).sqrt()
    assert scale.dtype == bias.dtype == torch.float32
    assert torch.equal(scale, exact_scale.float())
    assert torch.equal(bias, (exact.bias - exact.running_mean * exact_scale).float())
    assert not scale.requires_grad
    assert not bias.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_values_are_taken_as_they_are(dtype: torch.dtype) -> None:
    module = norm(eps=1e-3).to(dtype)
    scale, bias = fold(convolution().to(dtype), module)
    exact_scale, exact_bias = fold(convolution(), module.float())
    assert torch.equal(scale, exact_scale)
    assert torch.equal(bias, exact_bias)
