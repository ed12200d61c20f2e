"""The layers of an eager MobileNetV2, by the modules that hold them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor

from .own_code import NotFusable, check_own_code, class_name, class_obstacle

ACTIVATION_NAMES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.Identity: "none",
    nn.Hardswish: "hardswish",
    nn.SiLU: "silu",
}

# What a graph that is being made has for an int is none that torch declares so.
sym_max: Any = torch.sym_max

# The last two stand for plain tensors in a graph that is being made.
PLAIN_TENSORS = (Tensor, nn.Parameter, FakeTensor, FunctionalTensor)


class ConvNormActivation(nn.Sequential):
    """Convolution, normalisation and activation under torchvision's names: 0, 1 and 2."""

    def __init__(self, conv: nn.Conv2d, norm: nn.Module, activation: nn.Module) -> None:
        super().__init__(conv, norm, activation)
        self.out_channels = conv.out_channels


class SamePaddedConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding for any input size; its ``padding`` is not read."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]

    def forward(self, x: Tensor) -> Tensor:
        x = pad_same(x, self.kernel_size, self.stride, self.dilation)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, padding=same"


def pad_same(
    x: Tensor, kernel_size: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Tensor:
    """x (N, C, H, W) with the zeros around it that TensorFlow's SAME padding gives a convolution."""
    top, bottom = _same_sides(x.shape[-2], kernel_size[0], stride[0], dilation[0])
    left, right = _same_sides(x.shape[-1], kernel_size[1], stride[1], dilation[1])
    return F.pad(x, [left, right, top, bottom])


def _same_sides(size: int, kernel_size: int, stride: int, dilation: int) -> tuple[int, int]:
    reach = (kernel_size - 1) * dilation + 1
    # ONNX divides towards zero: no negative numbers here.
    outputs = (size + stride - 1) // stride
    missing = (outputs - 1) * stride + reach - size
    # TorchScript has no sym_max, torch.fx cannot trace max(), and a trace for ONNX has tensors for sizes.
    if torch.jit.is_scripting():
        total = max(missing, 0)
    elif isinstance(missing, Tensor):
        total = missing.clamp(min=0)
    else:
        total = sym_max(missing, 0)
    return total // 2, total - total // 2


def global_average_pool(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, C)."""
    return torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1)


class EagerLayer(NamedTuple):
    """A convolution, named as in its unit, the norm behind it and the activation behind that, if any.

    ``conv`` may also be a Linear. ``norm`` is like a BatchNorm2d, with which torchvision's FrozenBatchNorm2d
    shares no base, or an Identity.
    """

    name: str
    conv: Any
    norm: Any
    activation: nn.Module | None = None

    def check(self) -> None:
        """Raises NotFusable where it is not of torch's own code, or a tensor is no plain one."""
        conv, activation = self.conv, self.activation
        if type(conv) not in (nn.Conv2d, SamePaddedConv2d):
            raise NotFusable(f"{self.name} is {class_name(conv)} instead of Conv2d")
        check_own_code(self.name, conv, type(conv))
        check_tensors(self.name, conv.weight, conv.bias)
        _check_norm(self._name_behind(1), self.norm)
        if activation is not None:
            check_own_code(self._name_behind(2), activation, type(activation))

    @property
    def activation_name(self) -> str:
        """As the operators call it; raises NotFusable for a class that is none of torch's."""
        activation = self.activation
        if activation is None:
            return "none"
        if type(activation) in (nn.ReLU6, nn.Hardtanh):
            return clamp_name(activation.min_val, activation.max_val)
        if type(activation) not in ACTIVATION_NAMES:
            raise NotFusable(f"{self._name_behind(2)}: the activation is {class_name(activation)}")
        return ACTIVATION_NAMES[type(activation)]

    def _name_behind(self, modules: int) -> str:
        """The name of what comes that many modules behind the convolution in its Sequential."""
        parent, dot, index = self.name.rpartition(".")
        return f"{parent}{dot}{int(index) + modules}"


def clamp_name(low: object, high: object) -> str:
    """An activation that is a clamp, as the operators call it, or by its bounds."""
    known: dict[Any, str] = {(0, 6): "relu6", (0, None): "relu"}
    return known.get((low, high), f"clamp({low}, {high})")


def read_layer(name: str, module: nn.Module) -> EagerLayer:
    """A Sequential of convolution, norm and activation as a layer; NotFusable for anything else."""
    return layer_of(f"{name}.0", _sequential_children(name, module))


def layer_of(name: str, children: list[nn.Module]) -> EagerLayer:
    """The modules of a ConvNormActivation as a layer; NotFusable for another number of them."""
    if len(children) != 3:
        raise NotFusable(f"{name} is one of {len(children)} modules instead of convolution, norm, activation")
    conv, norm, activation = children
    return EagerLayer(name, _convolution(name, conv), norm, activation)


def read_block(name: str, conv: nn.Module) -> list[EagerLayer]:
    """The expand, if there is one, depthwise and project layers of an inverted residual's ``conv``."""
    children = _sequential_children(name, conv)
    if len(children) not in (3, 4):
        raise NotFusable(f"{name} has {len(children)} modules instead of 3, or 4 with an expand")
    *activated, project, norm = children
    layers = [read_layer(f"{name}.{index}", module) for index, module in enumerate(activated)]
    last = f"{name}.{len(layers)}"
    return [*layers, EagerLayer(last, _convolution(last, project), norm)]


def _convolution(name: str, module: nn.Module) -> nn.Conv2d:
    if not isinstance(module, nn.Conv2d):
        raise NotFusable(f"{name} is {class_name(module)} instead of Conv2d")
    return module


def _sequential_children(name: str, module: nn.Module) -> list[nn.Module]:
    if not isinstance(module, nn.Sequential):
        raise NotFusable(f"{name} is {class_name(module)} instead of Sequential")
    check_own_code(name, module, nn.Sequential)
    # Not children(), which leaves out a module that comes twice.
    return list(module)


def norm_obstacle(norm: nn.Module) -> str | None:
    """Why the class of a norm does not compute what BatchNorm2d does, and no more; None where it does.

    timm's BatchNormAct2d also activates.
    """
    known = _known_norm(norm)
    if known is None:
        return f"the norm is {class_name(norm)} instead of BatchNorm2d"
    return class_obstacle(norm, known)


def _known_norm(norm: nn.Module) -> type[nn.Module] | None:
    if _is_frozen_batch_norm(norm):
        return type(norm)
    return next((known for known in (nn.BatchNorm2d, nn.SyncBatchNorm) if isinstance(norm, known)), None)


def _is_frozen_batch_norm(norm: nn.Module) -> bool:
    # By name, as torchvision is not imported here.
    return type(norm).__name__ == "FrozenBatchNorm2d" and type(norm).__module__.startswith("torchvision.")


def check_tensors(name: str, *tensors: Tensor | None) -> None:
    """Raises NotFusable where one is no plain tensor: a subclass, or one without strides."""
    for tensor in tensors:
        if tensor is not None and type(tensor) not in PLAIN_TENSORS:
            raise NotFusable(f"{name} has a {type(tensor).__name__} instead of a plain Tensor")
        if tensor is not None and tensor.layout is not torch.strided:
            raise NotFusable(f"{name} has a tensor of layout {tensor.layout} instead of torch.strided")


def _check_norm(name: str, norm: Any) -> None:
    if type(norm) is nn.Identity:
        check_own_code(name, norm, nn.Identity)
        return
    known = _known_norm(norm)
    if known is None:
        raise NotFusable(f"{name}: {norm_obstacle(norm)}")
    check_own_code(name, norm, known)
    if norm.running_mean is None or norm.running_var is None:
        raise NotFusable(f"{name}: the norm tracks no statistics")
    check_tensors(name, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    if norm.training and not _is_frozen_batch_norm(norm):
        raise NotFusable(f"{name}: the norm is in training mode")
