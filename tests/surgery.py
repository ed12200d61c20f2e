"""What users do to a MobileNetV2, torchvision's or fused: random changes of code, attributes and weights.

A surgery works on either network, as both have the same names, and does the same to both where their random
generators are in the same state. It returns words of which an error about it has to contain one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import fusion, parametrizations, parametrize, prune

from mnv2_kernels.fusion.eager_layers import SamePaddedConv2d

FACTOR = 0.5  # exact in any dtype
SUBCLASS = "Surgical"

Words = list[str]
Operation = Callable[["Patient"], Words]


class NotApplicable(Exception):
    """The network has nothing that this surgery could work on."""


@dataclass
class Patient:
    network: nn.Module
    random: Random
    undo: Callable[[Callable[[], None]], Any]  # takes what restores the state of the process

    def pick(self, *names: str) -> tuple[str, nn.Module]:
        name = self.random.choice(names)
        return name, self.network.get_submodule(name)

    def pick_of(self, *classes: type[nn.Module]) -> tuple[str, nn.Module]:
        modules = dict(self.network.named_modules())
        names = [name for name, module in modules.items() if type(module) in classes]
        if not names:
            raise NotApplicable
        return self.pick(*names)

    def pick_any(self) -> tuple[str, nn.Module]:
        return self.pick(*dict(self.network.named_modules()))

    def pick_part(self) -> tuple[str, nn.Module]:
        units = [f"features.{name}" for name in self.network.features._modules]
        return self.pick("features", "classifier", *units)

    def blocks(self) -> list[str]:
        return [f"features.{name}" for name in list(self.network.features._modules)[1:-1]]

    def pick_block(self, shortcut: bool | None = None) -> tuple[str, nn.Module]:
        blocks = [(name, self.network.get_submodule(name)) for name in self.blocks()]
        found = [
            name
            for name, block in blocks
            if hasattr(block, "use_res_connect") and shortcut in (None, bool(block.use_res_connect))
        ]
        if not found:
            raise NotApplicable
        return self.pick(*found)

    def pick_depthwise(self, shortcut: bool | None = None) -> tuple[str, nn.Module]:
        name, block = self.pick_block(shortcut)
        path = f"{name}.conv.{len(block.conv) - 3}.0"
        if not isinstance(self.network.get_submodule(path), nn.Conv2d):
            raise NotApplicable
        return path, self.network.get_submodule(path)

    def put(self, name: str, module: nn.Module) -> None:
        """With a dtype and a mode as the network's."""
        like = self.network.classifier.state_dict()
        dtype = next(iter(like.values())).dtype
        self.network.set_submodule(name, module.to(dtype).eval())


Picked = tuple[str, nn.Module]


whole, features = methodcaller("pick", ""), methodcaller("pick", "features")
with_shortcut = methodcaller("pick_block", shortcut=True)
bare_depthwise = methodcaller("pick_depthwise", shortcut=False)


def one(pick: Callable[[Patient], Picked], change: Callable[[Patient, nn.Module], object]) -> Operation:
    """Changes one module."""

    def operation(patient: Patient) -> Words:
        name, module = pick(patient)
        change(patient, module)
        return [name or type(module).__name__]

    return operation


def one_of(*classes: type[nn.Module], do: Callable[[Patient, nn.Module], object]) -> Operation:
    return one(lambda patient: patient.pick_of(*classes), do)


def setting(attribute: str, *values: object) -> Callable[[Patient, nn.Module], None]:
    """A change of an attribute to one of the values."""
    return lambda patient, module: setattr(module, attribute, patient.random.choice(values))


def replaced_by(*modules: Callable[[], nn.Module]) -> Operation:
    """Puts one of the modules in an activation's place."""

    def operation(patient: Patient) -> Words:
        name, _ = patient.pick_of(nn.ReLU6)
        patient.put(name, patient.random.choice(modules)())
        return [name]

    return operation


# --- code ---


def override(module: nn.Module, method: str = "forward", factor: float = FACTOR) -> None:
    """Gives the module a class whose method returns ``factor`` times what that of its class returns."""
    parent = type(module)

    def scaled(self: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        return factor * getattr(parent, method)(self, *args, **kwargs)

    module.__class__ = type(SUBCLASS, (parent,), {method: scaled})


def overriding(*methods: str) -> Callable[[Patient, nn.Module], None]:
    return lambda patient, module: override(module, patient.random.choice(methods))


def _reverse_container(patient: Patient) -> Words:
    """A Sequential that goes through its modules twice where that fits: in a norm's place."""
    name, module = patient.pick(*(f"{block}.conv" for block in patient.blocks()))

    def twice(self: nn.Sequential) -> Any:
        *first, last = self._modules.values()
        return iter([*first, last, last])

    module.__class__ = type(SUBCLASS, (type(module),), {"__iter__": twice})
    return [name]


def _replace_conv_forward(patient: Patient, conv: nn.Module) -> None:
    old = conv._conv_forward
    conv._conv_forward = lambda *args: FACTOR * old(*args)


def _replace_forward(patient: Patient) -> Words:
    name, module = patient.pick_any()
    method = patient.random.choice(("forward", "_call_impl"))
    old = getattr(module, method)
    setattr(module, method, lambda *args: FACTOR * old(*args))
    return [name or "model", type(module).__name__]


def _scale_shortcut(patient: Patient) -> Words:
    name, block = patient.pick_block()

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        y = self.conv(x)
        return FACTOR * x + y if self.use_res_connect else FACTOR * y

    block.__class__ = type(SUBCLASS, (type(block),), {"forward": forward})
    return [name]


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu())
        return x * gate.sigmoid()


def _squeeze(patient: Patient) -> Words:
    """In a subclass of the block, or as one more module of its Sequential."""
    name, block = patient.pick_block()
    gate = SqueezeExcite(block.out_channels)
    if patient.random.random() < 0.5:
        patient.put(f"{name}.conv.{len(block.conv)}", gate)
        return [name]
    patient.put(f"{name}.gate", gate)
    parent = type(block)
    forward = lambda self, x: self.gate(parent.forward(self, x))  # noqa: E731
    block.__class__ = type(SUBCLASS, (parent,), {"forward": forward})
    return [name]


def _insert(patient: Patient) -> Words:
    where = patient.random.randrange(1, len(patient.network.features))
    patient.network.features.insert(where, nn.Tanh())
    return ["features"]


def _repeat(patient: Patient) -> Words:
    name, block = patient.pick_block(shortcut=True)
    index = int(name.partition(".")[2])
    patient.network.features.insert(index, block)
    return ["features"]


def _remove(patient: Patient) -> Words:
    name, _ = patient.pick_block(shortcut=True)
    del patient.network.features[int(name.partition(".")[2])]
    return ["features"]


def _hold_more(patient: Patient) -> Words:
    name, module = patient.pick("", "features.0", *patient.blocks())
    if patient.random.random() < 0.5 and name != "features.0":
        module.auxiliary = nn.Linear(1, 1)
    else:
        module.register_buffer("calls", torch.zeros(1))
    return [name or "model"]


def _patch_class(patient: Patient) -> Words:
    blocks = [type(patient.network.get_submodule(name)) for name in patient.blocks()]
    patched = patient.random.choice([nn.ReLU6, nn.BatchNorm2d, nn.Conv2d, nn.Linear, *blocks])
    # What comes next to it in the other network may be of another class.
    old, is_own = patched.forward, "forward" in vars(patched)
    if getattr(old, "surgical", False):
        return [patched.__name__, "patched"]

    def scaled(self: nn.Module, x: Tensor) -> Tensor:
        return FACTOR * old(self, x)

    scaled.surgical = True
    patched.forward = scaled
    patient.undo(
        partial(setattr, patched, "forward", old) if is_own else partial(delattr, patched, "forward")
    )
    return [patched.__name__, "patched"]


# --- hooks ---


def _scale_result(module: nn.Module, inputs: Any, result: Tensor) -> Tensor:
    return result * FACTOR


def _hook(patient: Patient) -> Words:
    name, module = patient.pick_any()
    if patient.random.random() < 0.5:
        module.register_forward_hook(_scale_result, always_call=patient.random.random() < 0.5)
    else:
        module.register_forward_hook(
            lambda module, args, kwargs, result: result + FACTOR, with_kwargs=True, prepend=True
        )
    return [name or "hooks"]


def _pre_hook(patient: Patient) -> Words:
    name, module = patient.pick_any()
    if patient.random.random() < 0.5:
        module.register_forward_pre_hook(lambda module, inputs: inputs[0] * FACTOR)
    else:
        module.register_forward_pre_hook(
            lambda module, args, kwargs: ((args[0] * FACTOR,), kwargs), with_kwargs=True
        )
    return [name or "hooks"]


def _backward_hook(patient: Patient) -> Words:
    name, module = patient.pick("", "features", "classifier", "classifier.1", *patient.blocks())
    if patient.random.random() < 0.5:
        module.register_full_backward_hook(
            lambda module, inputs, outputs: tuple(None if each is None else each * FACTOR for each in inputs)
        )
    else:
        module.register_full_backward_pre_hook(lambda module, outputs: (outputs[0] * FACTOR,))
    return [name or "hooks"]


def _global_hook(patient: Patient) -> Words:
    """On whichever network is called; once for all of them."""
    found = patient.random.choice((nn.Conv2d, nn.BatchNorm2d, nn.ReLU6, nn.Linear, nn.Sequential, nn.Module))

    def scale(module: nn.Module, inputs: Any, result: Tensor) -> Tensor | None:
        return result * FACTOR if isinstance(module, found) else None

    if not torch.nn.modules.module._global_forward_hooks:
        patient.undo(nn.modules.module.register_module_forward_hook(scale).remove)
    return ["global hooks"]


# --- other layers ---


def _activations(patient: Patient) -> Words:
    for name in [name for name, module in patient.network.named_modules() if type(module) is nn.ReLU6]:
        patient.put(name, nn.ReLU())
    return ["features"]


def _depthwise(patient: Patient) -> Words:
    name, conv = patient.pick_depthwise()
    channels = conv.out_channels
    new = patient.random.choice(
        (
            nn.Conv2d(channels, channels, 5, conv.stride, 2, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 3, conv.stride, 1, groups=channels // 8),
            nn.Conv2d(channels, channels, 3, conv.stride, 1, groups=channels, padding_mode="circular"),
            SamePaddedConv2d(channels, channels, 3, conv.stride, groups=channels),
        )
    )
    patient.put(name, new)
    return [name]


def _project(patient: Patient) -> Words:
    name, block = patient.pick_block()
    path = f"{name}.conv.{len(block.conv) - 2}"
    channels, out_channels = block.conv[-2].in_channels, block.out_channels
    groups = patient.random.choice((1, 8))
    patient.put(path, nn.Conv2d(channels, out_channels, 1, groups=groups, bias=groups == 1))
    return [path]


def _norm(patient: Patient) -> Words:
    name, norm = patient.pick_of(nn.BatchNorm2d)
    channels = norm.num_features
    patient.put(
        name,
        patient.random.choice(
            (nn.GroupNorm(2, channels), nn.InstanceNorm2d(channels), nn.BatchNorm2d(channels, affine=False))
        ),
    )
    return [name, name.rpartition(".")[0]]


def _fold(patient: Patient) -> Words:
    name, block = patient.pick_block()
    *_, conv, norm = block.conv
    if type(conv) is not nn.Conv2d or "weight" not in conv._parameters or type(norm) is not nn.BatchNorm2d:
        raise NotApplicable
    index = len(block.conv) - 2
    # Folding rounds the weights, which has to happen before they become float64.
    folded = fusion.fuse_conv_bn_eval(conv.float(), norm.float())
    patient.put(f"{name}.conv.{index}", folded)
    patient.put(f"{name}.conv.{index + 1}", nn.Identity())
    return [name]


def _classifier(patient: Patient) -> Words:
    features, classes = patient.network.last_channel, 5
    linear = nn.Linear(features, features)
    patient.put(
        "classifier",
        patient.random.choice(
            (
                nn.Linear(features, classes),
                nn.Sequential(nn.Dropout(), nn.Linear(features, 6), nn.Tanh(), nn.Linear(6, classes)),
                nn.Sequential(nn.Linear(features, classes), nn.Tanh()),
                nn.Sequential(nn.Dropout(), linear, linear),
                nn.Sequential(linear, nn.Linear(features, classes)),
            )
        ),
    )
    return ["classifier"]


# --- attributes ---


def _dilate(patient: Patient, conv: nn.Module) -> None:
    conv.dilation = conv.padding = (2, 2)


def _dilation_of_one_tap(patient: Patient) -> Words:
    name, block = patient.pick_block()
    block.conv[-2].dilation = (2, 2)
    return [name]


def _padding_mode(patient: Patient) -> Words:
    name, conv = patient.pick_depthwise()
    if conv.padding != (1, 1):
        raise NotApplicable
    conv.padding_mode = "reflect"
    conv._reversed_padding_repeated_twice = [1, 1, 1, 1]
    return [name]


def _bounds(patient: Patient) -> Words:
    name, activation = patient.pick_of(nn.ReLU6)
    attribute, value = patient.random.choice(
        (("max_val", 3), ("max_val", 0.5), ("min_val", -1), ("min_val", 1))
    )
    if value == 1:
        activation.max_val = 7.0
    setattr(activation, attribute, value)
    return [name]


def _equal_bounds(patient: Patient) -> Words:
    _, activation = patient.pick_of(nn.ReLU6)
    activation.min_val, activation.max_val = 0, 6
    return []


def _idle(patient: Patient) -> Words:
    """Attributes that no forward in eval mode reads."""
    name, norm = patient.pick_of(nn.BatchNorm2d)
    norm.momentum, norm.track_running_stats = 0.9, False
    _, conv = patient.pick_depthwise()
    conv.in_channels = conv.output_padding = 7
    _, block = patient.pick_block()
    block.stride, block.note = 5, "nothing"
    return [name]


def _batch_statistics(patient: Patient) -> Words:
    """Of the first norm: further on, one that divides by a small deviation would enlarge any difference."""
    name, norm = patient.pick("features.0.1")
    if type(norm) is not nn.BatchNorm2d:
        raise NotApplicable
    if patient.random.random() < 0.5:
        norm.train()
        norm.momentum = 0.0  # otherwise each call would change the next one
    else:
        norm.running_mean = norm.running_var = None
    return [name]


# --- weights ---


def _weight(patient: Patient) -> tuple[str, nn.Module, str]:
    names = (
        ("weight",) if patient.random.random() < 0.5 else ("weight", "bias", "running_mean", "running_var")
    )
    name, module = patient.pick_of(*((nn.Conv2d, nn.Linear) if len(names) == 1 else (nn.BatchNorm2d,)))
    return name, module, patient.random.choice(names)


def _values(patient: Patient, tensor: Tensor) -> Tensor:
    """New ones for a whole tensor or, in the same place in each network, for some of its output channels."""
    new = tensor.detach().clone()
    channels = patient.random.sample(range(len(new)), k=patient.random.choice((1, 2, len(new))))
    new[channels] = patient.random.choice(
        (torch.zeros_like(new), 2 * new, torch.rand_like(new.float()).to(new))
    )[channels]
    return new


def _write(store: Callable[[nn.Module, str, Tensor], None]) -> Operation:
    def write(patient: Patient) -> Words:
        name, module, attribute = _weight(patient)
        store(module, attribute, _values(patient, getattr(module, attribute)))
        return [name]

    return write


def _through_data(module: nn.Module, name: str, values: Tensor) -> None:
    tensor = getattr(module, name).data
    for channel in range(len(values)):
        if not torch.equal(tensor[channel], values[channel]):
            tensor[channel] = values[channel]


def _other_parameter(module: nn.Module, name: str, values: Tensor) -> None:
    setattr(module, name, nn.Parameter(values) if name in module._parameters else values)


def _drop_weight_or_bias(patient: Patient, norm: nn.Module) -> None:
    setattr(norm, patient.random.choice(("weight", "bias")), None)


def _add_bias(patient: Patient, conv: nn.Module) -> None:
    conv.bias = nn.Parameter(torch.randn(len(conv.weight)).to(conv.weight))


class Halve(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * FACTOR


def _halve_weight(patient: Patient, module: nn.Module) -> None:
    parametrize.register_parametrization(module, "weight", Halve())


def _weight_norm(patient: Patient) -> Words:
    name, module = patient.pick_of(nn.Conv2d, nn.Linear)
    if patient.random.random() < 0.5:
        module = parametrizations.weight_norm(module)
        module.parametrizations.weight.original0.data.mul_(2)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nn.utils.weight_norm(module)
        module.weight_g.data.mul_(2)
    return [name]


def _prune(patient: Patient) -> Words:
    name, module = patient.pick_of(nn.Conv2d, nn.Linear)
    prune.l1_unstructured(module, "weight", 0.5)
    if patient.random.random() < 0.5:
        prune.remove(module, "weight")
    return [name]


# What runs fused all the same, wherever it is done.
FUSED: dict[str, Operation] = {
    "all activations": _activations,
    "dilation of a 1x1 convolution": _dilation_of_one_tap,
    "eps": one_of(nn.BatchNorm2d, do=setting("eps", 0.5, 1e-3, 2)),
    "equal bounds": _equal_bounds,
    "no shortcut": one(with_shortcut, setting("use_res_connect", False, 0, None)),
    "idle attributes": _idle,
    "repeated block": _repeat,
    "removed block": _remove,
    "data": _write(_through_data),
    "other parameter": _write(_other_parameter),
    "no affine": one_of(nn.BatchNorm2d, do=_drop_weight_or_bias),
    "bias": one_of(nn.Conv2d, do=_add_bias),
}
# What changes no result: all the same it has to be noticed where it goes with the module.
IDLE = {"equal bounds", "idle attributes", "held", "mode", "dilation of a 1x1 convolution", "backward hook"}
SURGERIES: dict[str, Operation] = {
    **FUSED,
    "overridden model": one(whole, overriding("forward", "__call__", "_call_impl", "_forward_impl")),
    "overridden part": one(Patient.pick_part, overriding("forward", "__call__", "_call_impl")),
    "overridden anywhere": one(Patient.pick_any, overriding("forward", "__call__")),
    "overridden convolution": one_of(nn.Conv2d, do=overriding("forward", "_conv_forward", "__call__")),
    "container": _reverse_container,
    "replaced forward": _replace_forward,
    "replaced inner method": one_of(nn.Conv2d, do=_replace_conv_forward),
    "scaled shortcut": _scale_shortcut,
    "squeeze": _squeeze,
    "features of its own": one(features, overriding("forward")),
    "inserted": _insert,
    "held": _hold_more,
    "patched class": _patch_class,
    "hook": _hook,
    "pre-hook": _pre_hook,
    "backward hook": _backward_hook,
    "global hook": _global_hook,
    "activation": replaced_by(nn.ReLU, nn.Hardswish, nn.LeakyReLU, nn.Identity, nn.SiLU),
    "hardtanh": replaced_by(*(partial(nn.Hardtanh, *bounds) for bounds in ((0, 3), (-1, 1), (0, 6.0)))),
    "depthwise": _depthwise,
    "project": _project,
    "norm": _norm,
    "folded norm": _fold,
    "classifier": _classifier,
    "stride": one(bare_depthwise, setting("stride", (1, 1), (2, 2), (1, 2), 1, [2, 2])),
    "padding": one(bare_depthwise, setting("padding", (0, 0), (1, 0), (2, 2), 0, "valid")),
    "dilation": one(Patient.pick_depthwise, _dilate),
    "padding_mode": _padding_mode,
    "bounds": _bounds,
    "batch statistics": _batch_statistics,
    "mode": one(Patient.pick_block, setting("training", True)),
    "parametrized": one_of(nn.Conv2d, nn.Linear, nn.BatchNorm2d, do=_halve_weight),
    "weight_norm": _weight_norm,
    "pruned": _prune,
}
