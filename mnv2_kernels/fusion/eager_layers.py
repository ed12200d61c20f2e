"""The layers of an eager MobileNetV2, and which of them a kernel can take over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor

from ..shapes import KERNEL_SIZE, MAX_CHANNELS, Padding
from .own_code import NotFusable, check_own_code, class_name, class_obstacle

ACTIVATION_NAMES: dict[type[nn.Module], str] = {
    nn.ReLU6: "relu6",
    nn.Hardtanh: "relu6",
    nn.ReLU: "relu",
    nn.Identity: "none",
}
# By a Hardtanh's bounds; ReLU6 is one, too.
NAMES_BY_BOUNDS: dict[tuple[float, float], str] = {(0, 6): "relu6"}

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

    ``norm`` is like a BatchNorm2d, with which torchvision's FrozenBatchNorm2d shares no base, or an Identity.
    """

    name: str
    conv: nn.Conv2d
    norm: Any
    activation: nn.Module | None = None

    @property
    def activation_name(self) -> str:
        if isinstance(self.activation, nn.Hardtanh):
            return NAMES_BY_BOUNDS[self.activation.min_val, self.activation.max_val]
        return "none" if self.activation is None else ACTIVATION_NAMES[type(self.activation)]

    @property
    def padding(self) -> Padding | None:
        """(top, left, bottom, right), or None for SAME."""
        if type(self.conv) is SamePaddedConv2d:
            return None
        assert isinstance(self.conv.padding, tuple)  # check() refuses names
        vertical, horizontal = self.conv.padding
        return vertical, horizontal, vertical, horizontal

    def check(self, kernel_size: int, depthwise: bool = False) -> None:
        """Raises NotFusable unless a kernel computes just this."""
        _check_convolution(self.name, self.conv, kernel_size, depthwise)
        _check_norm(self._name_behind(1), self.norm)
        if self.activation is not None:
            _check_activation(self._name_behind(2), self.activation)

    def _name_behind(self, modules: int) -> str:
        """The name of what comes that many modules behind the convolution in its Sequential."""
        parent, dot, index = self.name.rpartition(".")
        return f"{parent}{dot}{int(index) + modules}"


def read_layer(name: str, module: nn.Module) -> EagerLayer:
    """A Sequential of convolution, norm and activation as a layer; NotFusable for anything else."""
    return layer_of(f"{name}.0", _sequential_children(name, module))


def layer_of(name: str, children: list[nn.Module]) -> EagerLayer:
    """The modules of a ConvNormActivation as a layer; NotFusable for another number of them."""
    if len(children) != 3:
        raise NotFusable(f"{name} is one of {len(children)} modules instead of convolution, norm, activation")
    conv, norm, activation = children
    return EagerLayer(name, _convolution(name, conv), norm, activation)


def read_block(name: str, conv: nn.Module) -> tuple[EagerLayer | None, EagerLayer, EagerLayer]:
    """The expand (None: no expand), depthwise and project layers of an inverted residual's ``conv``."""
    children = _sequential_children(name, conv)
    if len(children) not in (3, 4):
        raise NotFusable(f"{name} has {len(children)} modules instead of 3, or 4 with an expand")
    *activated, project, norm = children
    layers = [read_layer(f"{name}.{index}", module) for index, module in enumerate(activated)]
    expand = layers[0] if len(layers) == 2 else None
    last = f"{name}.{len(layers)}"
    return expand, layers[-1], EagerLayer(last, _convolution(last, project), norm)


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


def check_weight(name: str, weight: Tensor) -> None:
    """Raises NotFusable where a weight (out_channels, in_channels, ...) is none that the kernels take."""
    check_tensors(name, weight)
    if weight.dtype.itemsize > 4:
        raise NotFusable(f"{name}: weights are {weight.dtype}, and the kernels compute in float32")
    if not all(1 <= channels <= MAX_CHANNELS for channels in weight.shape[:2]):
        shape = tuple(weight.shape)
        raise NotFusable(
            f"{name}: weights are of shape {shape}, and the kernels take 1 to {MAX_CHANNELS} channels"
        )


def check_tensors(name: str, *tensors: Tensor | None) -> None:
    """Raises NotFusable where one is no plain tensor: a subclass, or one without strides."""
    for tensor in tensors:
        if tensor is not None and type(tensor) not in PLAIN_TENSORS:
            raise NotFusable(f"{name} has a {type(tensor).__name__} instead of a plain Tensor")
        if tensor is not None and tensor.layout is not torch.strided:
            raise NotFusable(f"{name} has a tensor of layout {tensor.layout} instead of torch.strided")


def _check_convolution(name: str, conv: nn.Conv2d, kernel_size: int, depthwise: bool) -> None:
    if type(conv) not in (nn.Conv2d, SamePaddedConv2d):
        raise NotFusable(f"{name} is {class_name(conv)} instead of Conv2d")
    check_own_code(name, conv, type(conv))
    check_weight(name, conv.weight)
    check_tensors(name, conv.bias)
    strides, sides = ((1, 2), (0, 1)) if kernel_size == KERNEL_SIZE else ((1,), (0,))
    groups = conv.weight.shape[0] if depthwise else 1
    _check(name, "kernel", tuple(conv.weight.shape[2:]), [(kernel_size, kernel_size)])
    _check(name, "stride", conv.stride, [(stride, stride) for stride in strides])
    if kernel_size > 1:  # a single tap has no neighbour to be far from
        _check(name, "dilation", conv.dilation, [(1, 1)])
    _check(name, "groups", conv.groups, [groups])
    if depthwise:
        _check(name, "number of input channels in a group", conv.weight.shape[1], [1])
    _check(name, "padding_mode", conv.padding_mode, ["zeros"])
    if type(conv) is not SamePaddedConv2d:
        _check(
            name,
            "padding",
            conv.padding,
            [(vertical, horizontal) for vertical in sides for horizontal in sides],
        )


def _check(name: str, what: str, given: object, allowed: Sequence[object]) -> None:
    if given not in allowed:
        raise NotFusable(f"{name}: {what} is {given}, not {' or '.join(map(str, allowed))}")


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


def _check_activation(name: str, activation: nn.Module) -> None:
    if type(activation) not in ACTIVATION_NAMES:
        raise NotFusable(f"{name}: the activation is {class_name(activation)}")
    check_own_code(name, activation, type(activation))
    if isinstance(activation, nn.Hardtanh):
        bounds = (activation.min_val, activation.max_val)
        _check(name, f"the range of {class_name(activation)}", bounds, [*NAMES_BY_BOUNDS])
