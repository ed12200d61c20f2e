"""torchvision's mobilenet_v2 as a FusedMobileNetV2, without importing torchvision."""

from __future__ import annotations

import copy

from torch import nn

from .layers import ConvNormActivation, Layer, NotFusable, class_name, is_batch_norm, read_block, read_layer
from .modules import FusedInvertedResidual, FusedMobileNetV2
from .shapes import KERNEL_SIZE
from .units import FusedClassifier, FusedHead, FusedStem


def from_model(model: nn.Module) -> FusedMobileNetV2:
    """A FusedMobileNetV2 of copies of the model's layers.

    Raises ValueError, naming the module, where it is another network.
    """
    try:
        return _convert(copy.deepcopy(model))
    except NotFusable as difference:
        raise ValueError(
            f"from_model: expected torchvision's mobilenet_v2, got {type(model).__name__}: {difference}"
        ) from None


def _convert(model: nn.Module) -> FusedMobileNetV2:
    for name in ("features", "classifier"):
        if not isinstance(getattr(model, name, None), nn.Module):
            raise NotFusable(f"it has no module '{name}'")
    if not isinstance(model.features, nn.Sequential) or len(model.features) < 3:
        raise NotFusable("features is no Sequential of a stem, blocks and a head")
    stem, *blocks, head = model.features
    units = [
        _activated(FusedStem, "features.0", stem, KERNEL_SIZE),
        *(_block(f"features.{index}", block) for index, block in enumerate(blocks, start=1)),
        _activated(FusedHead, f"features.{len(blocks) + 1}", head, kernel_size=1),
    ]
    features = _like(model.features, nn.Sequential(*units))
    classifier = model.classifier
    if type(classifier) is nn.Sequential:
        classifier = _like(classifier, FusedClassifier(*classifier))
    return _like(model, FusedMobileNetV2.assemble(features, classifier, units[-1].out_channels))


def _activated(
    unit: type[ConvNormActivation], name: str, module: nn.Module, kernel_size: int
) -> ConvNormActivation:
    layer = read_layer(name, module)
    _check(layer, kernel_size)
    return _like(module, unit(layer.conv, layer.norm, layer.activation))


def _block(name: str, block: nn.Module) -> FusedInvertedResidual:
    for attribute in ("conv", "use_res_connect"):
        if not hasattr(block, attribute):
            raise NotFusable(f"{name} is {type(block).__name__} and has no '{attribute}'")
    expand, depthwise, project = read_block(f"{name}.conv", block.conv)
    if expand is not None:
        _check(expand, kernel_size=1)
    _check(depthwise, KERNEL_SIZE)
    _check(project, kernel_size=1)
    if depthwise.conv.groups != depthwise.conv.out_channels:
        raise NotFusable(
            f"{depthwise.name} has {depthwise.conv.groups} groups instead of one for each channel"
        )
    activated = list(block.conv.children())[:-2]
    conv = nn.Sequential(
        *(_like(each, ConvNormActivation(*each)) for each in activated), project.conv, project.norm
    )
    stride, shortcut = depthwise.conv.stride[0], bool(block.use_res_connect)
    return _like(block, FusedInvertedResidual.assemble(_like(block.conv, conv), stride, shortcut))


def _check(layer: Layer, kernel_size: int) -> None:
    if not isinstance(layer.conv, nn.Conv2d):
        raise NotFusable(f"{layer.name} is {class_name(layer.conv)} instead of Conv2d")
    if layer.conv.kernel_size != (kernel_size, kernel_size):
        raise NotFusable(
            f"{layer.name}: kernel is {layer.conv.kernel_size} instead of {(kernel_size, kernel_size)}"
        )
    if not is_batch_norm(layer.norm):
        raise NotFusable(f"{layer.name}: the norm is {class_name(layer.norm)} instead of BatchNorm2d")


def _like(source: nn.Module, target: nn.Module) -> nn.Module:
    """``target``, in the mode of ``source`` whatever the mode of the modules inside."""
    target.training = source.training
    return target
