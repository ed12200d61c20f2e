"""torchvision's mobilenet_v2 as parts of a FusedMobileNetV2, without importing torchvision.

``fuse`` keeps a model's code and may ask what it computes; a conversion leaves code behind, with its hooks
and methods, and so takes only classes whose code is known.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from torch import nn

from ..fusion.eager_layers import ConvNormActivation, EagerLayer, layer_of, norm_obstacle, read_block
from ..fusion.own_code import (
    AnyModule,
    NotFusable,
    check_own_code,
    class_name,
    copy_obstacle,
    own_code_obstacle,
)
from ..shapes import KERNEL_SIZE
from .inverted_residual import FusedInvertedResidual
from .units import FusedClassifier, FusedHead, FusedStem

FLOAT_FUNCTIONAL = "torch.ao.nn.quantized.modules.functional_modules.FloatFunctional"

# The classes whose forward is known, the most derived first. Beside the modules that carry weights they hold
# modules that pass everything on until the network is prepared for quantization: name and class.
NETWORKS = {
    "torchvision.models.quantization.mobilenetv2.QuantizableMobileNetV2": {
        "quant": "torch.ao.quantization.stubs.QuantStub",
        "dequant": "torch.ao.quantization.stubs.DeQuantStub",
    },
    "torchvision.models.mobilenetv2.MobileNetV2": {},
}
BLOCKS = {
    "torchvision.models.quantization.mobilenetv2.QuantizableInvertedResidual": {"skip_add": FLOAT_FUNCTIONAL},
    "torchvision.models.mobilenetv2.InvertedResidual": {},
}


# What FusedMobileNetV2.assemble takes: features, classifier, and the head's channels.
Parts = tuple[nn.Sequential, nn.Module, int]

AnySequential = TypeVar("AnySequential", bound=nn.Sequential)


def copied(model: AnyModule) -> AnyModule:
    """A copy; raises NotFusable where it would share something with the model."""
    if obstacle := copy_obstacle(model):
        raise NotFusable(obstacle)
    return copy.deepcopy(model)


def own_parts(model: Any, known: type[nn.Module]) -> Parts:
    """The parts, not copied, of a ``known``; raises NotFusable where it is more than that."""
    _check_part("model", model, known, ("features", "classifier"))
    return model.features, model.classifier, model.last_channel


def converted_parts(model: Any) -> Parts:
    """The parts of a torchvision ``mobilenet_v2``, not copied; raises NotFusable for another network."""
    for name in ("features", "classifier"):
        if not isinstance(getattr(model, name, None), nn.Module):
            raise NotFusable(f"it has no module '{name}'")
    if not isinstance(model.features, nn.Sequential) or len(model.features) < 3:
        raise NotFusable("features is no Sequential of a stem, blocks and a head")
    stem, *blocks, head = model.features
    first = _activated(FusedStem, "features.0", stem, KERNEL_SIZE)
    inner = [_block(f"features.{index}", block) for index, block in enumerate(blocks, start=1)]
    last = _activated(FusedHead, f"features.{len(blocks) + 1}", head, kernel_size=1)
    features = _like("features", model.features, nn.Sequential(first, *inner, last))
    _check_known("model", model, NETWORKS, ("features", "classifier"))
    return features, _classifier(model.classifier), last.out_channels


def _activated(
    unit: type[ConvNormActivation], name: str, module: nn.Module, kernel_size: int
) -> ConvNormActivation:
    if type(module) is unit:
        return module
    if not isinstance(module, nn.Sequential):
        raise NotFusable(f"{name} is {class_name(module)} instead of Sequential")
    layer = layer_of(f"{name}.0", list(module))
    _check_layer(layer, kernel_size)
    return _like(name, module, unit(layer.conv, *list(module)[1:]))


def _block(name: str, block: Any) -> FusedInvertedResidual:
    if isinstance(block, FusedInvertedResidual):
        return block
    for attribute in ("conv", "use_res_connect"):
        if not hasattr(block, attribute):
            raise NotFusable(f"{name} is {type(block).__name__} and has no '{attribute}'")
    _check_known(name, block, BLOCKS, ("conv",))
    *expand, depthwise, project = read_block(f"{name}.conv", block.conv)
    for layer in expand:
        _check_layer(layer, kernel_size=1)
    _check_layer(depthwise, KERNEL_SIZE)
    _check_layer(project, kernel_size=1)
    if depthwise.conv.groups != depthwise.conv.out_channels:
        raise NotFusable(
            f"{depthwise.name} has {depthwise.conv.groups} groups instead of one for each channel"
        )
    activated = list(block.conv)[:-2]
    layers = [
        _like(f"{name}.conv.{index}", each, ConvNormActivation(*each)) for index, each in enumerate(activated)
    ]
    conv = _like(f"{name}.conv", block.conv, nn.Sequential(*layers, project.conv, project.norm))
    fused = FusedInvertedResidual.assemble(conv, block.stride, bool(block.use_res_connect))
    fused.training = block.training
    return fused


def _classifier(classifier: nn.Module) -> nn.Module:
    """With our kernel where it is plain; else as it is, with all its code."""
    if type(classifier) is not nn.Sequential or own_code_obstacle(classifier, nn.Sequential, discarded=True):
        return classifier
    return _like("classifier", classifier, FusedClassifier(*classifier))


def _check_layer(layer: EagerLayer, kernel_size: int) -> None:
    if layer.conv.kernel_size != (kernel_size, kernel_size):
        raise NotFusable(
            f"{layer.name}: kernel is {layer.conv.kernel_size} instead of {(kernel_size, kernel_size)}"
        )
    if obstacle := norm_obstacle(layer.norm):
        raise NotFusable(f"{layer.name}: {obstacle}")


def _like(name: str, source: nn.Module, target: AnySequential) -> AnySequential:
    """``target`` in place of a Sequential ``source``: in its mode, the modules under the names of its own.

    Raises NotFusable where ``source`` is more than a Sequential of modules.
    """
    _check_part(name, source, nn.Sequential, source._modules)
    target._modules = dict(zip(source._modules, target._modules.values(), strict=True))
    target.training = source.training
    return target


def _check_known(
    name: str, module: nn.Module, classes: dict[str, dict[str, str]], children: Iterable[str]
) -> None:
    """Raises NotFusable unless a call of ``module`` does what one of ``classes`` does, and nothing else."""
    for path, helpers in classes.items():
        known = _loaded(path)
        if known is None or not isinstance(module, known):
            continue
        _check_part(name, module, known, [*children, *helpers])
        for helper, helper_path in helpers.items():
            _check_passes_on(f"{name}.{helper}", getattr(module, helper), _loaded(helper_path))
        return
    raise NotFusable(
        f"{name} is {type(module).__module__}.{type(module).__qualname__}, whose forward may compute "
        "anything: convert what a wrapper holds, or load the state_dict() of the same network into a "
        "FusedMobileNetV2"
    )


def _check_passes_on(name: str, module: nn.Module, known: type[nn.Module]) -> None:
    """Raises NotFusable where one of the quantizable network's own modules has got something to do."""
    if type(module) is not known:
        raise NotFusable(f"{name} is {class_name(module)} instead of {known.__name__}")
    check_own_code(name, module, known, discarded=True)
    for child_name, child in module.named_children():
        if type(child) is not nn.Identity:
            raise NotFusable(f"{name}.{child_name} is {class_name(child)} instead of Identity")
        check_own_code(f"{name}.{child_name}", child, nn.Identity)


def _check_part(name: str, module: nn.Module, known: type[nn.Module], children: Iterable[str]) -> None:
    """Raises NotFusable unless ``module``, which the result lacks, is a ``known`` of ``children`` alone."""
    check_own_code(name, module, known, discarded=True)
    for attribute, hooks in vars(module).items():
        if attribute.endswith("_hooks") and hooks:  # of state_dict, say
            raise NotFusable(f"{name} has {attribute.strip('_')}")
    held = {*module._modules, *module._parameters, *module._buffers} - {*children}
    if held:
        raise NotFusable(f"{name} has '{min(held)}', which a {known.__name__} does not use")


def _loaded(path: str) -> Any:
    """The class of that name, None where its module is not imported: then no object is of that class."""
    module, _, name = path.rpartition(".")
    return getattr(sys.modules.get(module), name, None)
