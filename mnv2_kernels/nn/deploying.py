"""``deploy(model)``: a copy of any fused model, for inference on this machine."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import NoReturn

from torch import Tensor, nn

from ..dropin.fused import is_fused
from ..dropin.plans import Plan, plan_of
from ..dropin.survey import check_model
from ..fusion.own_code import copy_obstacle, has_hooks
from ..matching.recording import NO_OPTIONS
from ..packing.cache import Packed
from ..packing.packed_layers import PackedLayers, outside_inference_mode, pack_layers
from .deployed import Deployable, DeployedMobileNetV2
from .image_bytes import ImageLayout, Normalize, reads_bytes


@outside_inference_mode()
def deploy(
    model: nn.Module,
    portable: bool = False,
    normalize: Normalize | None = None,
    layout: ImageLayout = "NCHW",
) -> DeployedMobileNetV2:
    """A copy of a fused model in eval mode, with packed weights in place of the modules that run fused.

    ``model`` went through ``fuse``, or is a FusedMobileNetV2 or QuantizedMobileNetV2, whose ``deploy()`` this
    calls. The copy looks for no changes, works under torch.compile and torch.export, and is neither trained
    nor saved. Modules that run eagerly are copied with their hooks; a fused module's attributes are not.

    Args:
        portable: hold weights for any machine's CPU, for a graph that is saved.
        normalize, layout: take images of bytes, as FusedMobileNetV2's has it. The first thing that the model
            computes has to be a stem that runs fused.

    Raises TypeError for what is no module, ValueError for a ``normalize`` or ``layout`` that is none, and
    RuntimeError where the model is in train mode or was deployed, nothing in it runs fused, a module that
    does has hooks, or a copy would not be independent.
    """
    check_model("deploy", model)
    if isinstance(model, DeployedMobileNetV2):
        raise RuntimeError("deploy: the model is what deploy returned already: deploy the one it came from")
    if isinstance(model, Deployable):
        return model.deploy(portable=portable, normalize=normalize, layout=layout)
    if model.training:
        raise RuntimeError("deploy: expected a model in eval mode; call eval() first")
    if obstacle := copy_obstacle(model):
        raise RuntimeError(f"deploy: {obstacle}")
    if not any(_planned("", model)):
        raise RuntimeError("deploy: nothing in the model runs fused; mnv2_kernels.fusion_report says why")
    if normalize is None:
        network = _deployed("", model, portable)
    else:
        network = _operators("", model, _reading_bytes(model, normalize), portable)
    return DeployedMobileNetV2(network.requires_grad_(False), None, layout)


def _reading_bytes(model: nn.Module, normalize: Normalize) -> Plan:
    """The plan of a model whose first layer reads bytes; RuntimeError where it does not begin with one."""
    plan = plan_of(model, NO_OPTIONS) if is_fused(model) else None
    first = model if plan is None else plan.steps[0]
    if plan is None or isinstance(first, nn.Module):
        raise RuntimeError(
            "deploy: normalize: expected a model that begins with a stem that runs fused, but it begins with "
            f"code of {type(first).__name__}"
        )
    stem, *others = first.fusions
    fusions = [reads_bytes(stem, normalize), *others]
    plan.steps = (first._replace(operator=pack_layers(fusions), fusions=fusions), *plan.steps[1:])
    return plan


def _deployed(prefix: str, module: nn.Module, portable: bool) -> nn.Module:
    """A copy, with operators in place of what runs fused inside."""
    replaced = {
        id(each): _operators(name, each, plan, portable) for name, each, plan in _planned(prefix, module)
    }
    return replaced.get(id(module)) or copy.deepcopy(module, {**replaced})


def _planned(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module, Plan]]:
    """The outermost modules that run fused."""
    plan = plan_of(module, NO_OPTIONS) if is_fused(module) else None
    if plan is not None:
        yield name, module, plan
        return
    for child_name, child in module.named_children():
        yield from _planned(f"{name}.{child_name}".lstrip("."), child)


class InPlaceOf(nn.Module):
    """What runs in place of a fused module, to be called alone: it has other parts than the module had."""

    def __init__(self, steps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x

    def __iter__(self) -> NoReturn:
        raise RuntimeError(
            "a deployed copy has a fused Sequential as one module, and the model's code goes through its "
            "parts: keep them out of fuse by filter"
        )

    def __getitem__(self, index: object) -> NoReturn:
        self.__iter__()


def _operators(name: str, module: nn.Module, plan: Plan, portable: bool) -> nn.Module:
    if has_hooks(module, backward=False):
        raise RuntimeError(f"deploy: {name or 'the model'} has hooks, which a deployed copy would not call")
    names = {each: f"{name}.{inner}".lstrip(".") for inner, each in module.named_modules()}
    steps = [
        _packed(step, portable) if isinstance(step, Packed) else _deployed(names[step], step, portable)
        for step in plan.steps
    ]
    return steps[0] if len(steps) == 1 else InPlaceOf(steps)


def _packed(step: Packed, portable: bool) -> PackedLayers:
    return pack_layers(step.fusions, portable) if portable else step.operator
