"""torchvision's MobileNetV2 with one kernel for each block in eval mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Literal, get_args

import torch
from torch import Tensor, fx, nn

from .channels import STRIDES, Channels
from .cuda_graphs import GraphedNetwork
from .deployed import DeployedMobileNetV2
from .fusion import Fusion, PackedLayers, PackedOperator, block_fusion
from .inference import is_traced, wants_gradient
from .joining import joined
from .layers import ConvNormActivation, SamePaddedConv2d, is_batch_norm, read_block
from .packed import Packed, PackedCache
from .shapes import HEAD_CHANNELS, INVERTED_RESIDUAL_SETTING, KERNEL_SIZE, STEM_CHANNELS, make_divisible
from .units import FusedClassifier, FusedHead, FusedStem, FusedUnit, global_average_pool

PaddingRule = Literal["torch", "same"]
NormLayer = Callable[[int], nn.Module]

IMAGE_CHANNELS = 3
STEM_STRIDE = 2
DROPOUT = 0.2


class FusedInvertedResidual(FusedUnit):
    """An inverted residual block: torchvision's in train mode, one kernel in eval mode.

    Args:
        inp, oup: input and output channels.
        stride: 1 or 2, of the depthwise convolution. With 1 and inp == oup there is a shortcut.
        expand_ratio: the depthwise convolution has round(inp * expand_ratio) channels; 1 means no expand.
        norm_layer: makes a BatchNorm2d for a number of channels.
        padding: "torch" (1 on every side) or "same" (TensorFlow's).

    Raises ValueError for what is none of these.
    """

    def __init__(
        self,
        inp: int,
        oup: int,
        stride: int,
        expand_ratio: float,
        norm_layer: NormLayer | None = None,
        padding: PaddingRule = "torch",
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride should be 1 or 2 instead of {stride}")
        norm_layer = nn.BatchNorm2d if norm_layer is None else norm_layer
        hidden = None if expand_ratio == 1 else round(inp * expand_ratio)
        conv = _block_layers(inp, hidden, oup, stride, norm_layer, padding)
        self._hold(conv, stride, use_res_connect=stride == 1 and inp == oup)

    @classmethod
    def assemble(cls, conv: nn.Sequential, stride: int, use_res_connect: bool) -> FusedInvertedResidual:
        """The block of existing layers."""
        block = cls.__new__(cls)
        FusedUnit.__init__(block)
        block._hold(conv, stride, use_res_connect)
        return block

    def _hold(self, conv: nn.Sequential, stride: int, use_res_connect: bool) -> None:
        self.conv = conv
        self.stride = stride
        self.use_res_connect = use_res_connect
        self.out_channels = conv[-2].out_channels

    def packed(self) -> Packed:
        return self._cache.lookup(self, self.use_res_connect)

    def fusion(self) -> Fusion:
        expand, depthwise, project = read_block("conv", self.conv)
        return block_fusion(expand, depthwise, project, bool(self.use_res_connect))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inp, H, W) to (N, oup, H', W'), channels_last where it runs fused."""
        return self._infer(x, self._eager)

    def _eager(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class FusedMobileNetV2(nn.Module):
    """torchvision's MobileNetV2 — names, shapes, initialisation — with fused kernels in eval mode.

    Args:
        num_classes, width_mult, inverted_residual_setting, round_nearest, dropout: as torchvision has them.
        in_channels: of the images.
        block: FusedInvertedResidual or a subclass.
        norm_layer: makes a BatchNorm2d for a number of channels.
        padding: "torch" (1 on every side) or "same" (TensorFlow's, as weights from there need it).

    Raises ValueError or TypeError for what cannot be honoured.

    In train mode it is the eager network. In eval mode it runs fused, with the parameters and buffers as they
    are at that moment (only a write to single weights past torch's version, through ``.data`` or NumPy, may
    go unnoticed). It runs eagerly, with gradients, where the input requires one, and module by module where a
    change leaves no kernel; ``fusion_obstacles`` says which and why. A backward through a fused module to its
    parameters is an error; the classifier trains on fused features.

    Under torch.compile it is fused where no parameter can expect a gradient (``torch.no_grad``), but packs
    its weights in every call unless they are frozen: compile or export what ``deploy()`` returns.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        width_mult: float = 1.0,
        inverted_residual_setting: Sequence[Sequence[int]] | None = None,
        round_nearest: int = 8,
        block: type[FusedInvertedResidual] | None = None,
        norm_layer: NormLayer | None = None,
        dropout: float = DROPOUT,
        in_channels: int = IMAGE_CHANNELS,
        padding: PaddingRule = "torch",
    ) -> None:
        super().__init__()
        block = FusedInvertedResidual if block is None else block
        if not (isinstance(block, type) and issubclass(block, FusedInvertedResidual)):
            raise TypeError(f"block: expected FusedInvertedResidual or a subclass of it, got {block}")
        norm_layer = nn.BatchNorm2d if norm_layer is None else norm_layer
        setting = (
            INVERTED_RESIDUAL_SETTING if inverted_residual_setting is None else inverted_residual_setting
        )
        if len(setting) == 0 or any(len(row) != 4 for row in setting):
            raise ValueError(
                "inverted_residual_setting: expected rows of expansion, channels, repeats and stride, "
                f"got {setting}"
            )
        if in_channels < 1:
            raise ValueError(f"in_channels: expected at least 1, got {in_channels}")

        channels = make_divisible(STEM_CHANNELS * width_mult, round_nearest)
        stem = _conv3x3(in_channels, channels, STEM_STRIDE, padding)
        features: list[nn.Module] = [_activated(FusedStem, stem, norm_layer)]
        for expansion, base_channels, repeats, first_stride in setting:
            out_channels = make_divisible(base_channels * width_mult, round_nearest)
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                features.append(
                    block(channels, out_channels, stride, expansion, norm_layer=norm_layer, padding=padding)
                )
                channels = out_channels
        self.last_channel = make_divisible(HEAD_CHANNELS * max(1.0, width_mult), round_nearest)
        features.append(
            _activated(FusedHead, nn.Conv2d(channels, self.last_channel, 1, bias=False), norm_layer)
        )
        self.features = nn.Sequential(*features)
        self.classifier = FusedClassifier(nn.Dropout(dropout), nn.Linear(self.last_channel, num_classes))
        self._cache = PackedCache(_pack_network)
        self._features_cache = PackedCache(_pack_features)
        for module in self.modules():
            _initialise(module)

    @classmethod
    def from_model(cls, model: nn.Module) -> FusedMobileNetV2:
        """A copy of a torchvision ``mobilenet_v2`` with its weights, eps, classifier, dtype and mode.

        Raises ValueError, naming the module, for any other architecture.
        """
        from .conversion import from_model

        return from_model(model)

    @classmethod
    def from_keras(cls, path: str | PathLike[str]) -> FusedMobileNetV2:
        """A Keras MobileNetV2 with its Dense classifier, in eval mode; it returns logits.

        ``path`` is a .keras, .weights.h5 or .h5 file of Keras 2 or 3. Needs h5py. Images go in as [-1, 1],
        also where the file's network scales them itself. Raises FileNotFoundError, or ValueError where the
        file is no such network or has layers that the kernels do not compute.
        """
        from .keras import load_keras

        return load_keras(path)

    @classmethod
    def of_channels(
        cls, channels: Channels, norm_layer: NormLayer = nn.BatchNorm2d, padding: PaddingRule = "torch"
    ) -> FusedMobileNetV2:
        """The network whose layers have these channels, with weights to be loaded: they are not initialised
        as the constructor's are.
        """
        stem = _conv3x3(channels.image, channels.stem, STEM_STRIDE, padding)
        features: list[nn.Module] = [_activated(FusedStem, stem, norm_layer)]
        inp = channels.stem
        for block, stride in zip(channels.blocks, STRIDES, strict=True):
            conv = _block_layers(inp, block.expanded, block.out, stride, norm_layer, padding)
            features.append(FusedInvertedResidual.assemble(conv, stride, stride == 1 and inp == block.out))
            inp = block.out
        features.append(_activated(FusedHead, nn.Conv2d(inp, channels.head, 1, bias=False), norm_layer))
        classifier = FusedClassifier(nn.Dropout(DROPOUT), nn.Linear(channels.head, channels.classes))
        return cls.assemble(nn.Sequential(*features), classifier, channels.head)

    @classmethod
    def assemble(cls, features: nn.Sequential, classifier: nn.Module, last_channel: int) -> FusedMobileNetV2:
        """The network of existing modules."""
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        model.last_channel = last_channel
        model.features = features
        model.classifier = classifier
        model._cache = PackedCache(_pack_network)
        model._features_cache = PackedCache(_pack_features)
        return model

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) images to (N, num_classes) logits."""
        classifier = self.classifier
        joins = type(classifier) is FusedClassifier and not classifier.may_train()
        if joins and self._may_skip_module_calls(x):
            packed = self._cache.lookup(self)
            if packed.operator is not None:
                return packed.run(x)
        return classifier(self._pooled_features(x))

    def fusion_obstacles(self) -> dict[str, str]:
        """The modules of ``features`` that run eagerly in eval mode, by name, and why."""
        obstacles = {}
        for name, unit in self.features.named_children():
            why = (
                unit.fusion_obstacle()
                if isinstance(unit, FusedUnit)
                else f"{type(unit).__name__} has no kernel"
            )
            if why is not None:
                obstacles[f"features.{name}"] = why
        return obstacles

    def deploy(self, cuda_graphs: bool = False) -> DeployedMobileNetV2:
        """A lean copy for inference on this machine that holds packed weights only.

        Args:
            cuda_graphs: run small batches by CUDA graphs, one captured for each input shape that it meets
                (see GraphedNetwork), as their launches take longer than their kernels.

        Raises RuntimeError where something in ``features`` has no kernel as it is now, or where CUDA graphs
        are asked for and the parameters are not on CUDA.
        """
        obstacles = self.fusion_obstacles()
        if obstacles:
            name, why = next(iter(obstacles.items()))
            raise RuntimeError(f"deploy: {name} cannot run fused: {why}. In train mode call eval() first.")
        *_, head = self.features
        if not isinstance(head, FusedHead):
            raise RuntimeError(
                f"deploy: features end with {type(head).__name__} instead of the last convolution"
            )
        units = [*self.features]
        classifier: nn.Module | None = self.classifier
        if isinstance(classifier, FusedClassifier) and classifier.fusion_obstacle() is None:
            units.append(classifier)
            classifier = None
        fusions, device = [unit.fusion() for unit in units], _device(units)
        network = joined(fusions, device) or nn.Sequential(*(fusion.operator() for fusion in fusions))
        if cuda_graphs:
            if device is None or device.type != "cuda":
                found = "several devices" if device is None else device
                raise RuntimeError(f"deploy: expected parameters on cuda for cuda_graphs, got {found}")
            network = GraphedNetwork(network)
        return DeployedMobileNetV2(network, classifier)

    def _may_skip_module_calls(self, x: Tensor) -> bool:
        return not self.training and _only_calls_children(self.features) and not _needs_module_calls(x)

    def _pooled_features(self, x: Tensor) -> Tensor:
        features = self.features
        if self._may_skip_module_calls(x):
            packed = self._features_cache.lookup(features)
            if packed.operator is not None:
                return packed.run(x)
        if self.training or not _only_calls_children(features):
            return global_average_pool(features(x))
        *body, head = features
        for unit in body:
            x = unit(x)
        if isinstance(head, FusedHead) and not _has_hooks(head):
            return head.pooled(x)
        return global_average_pool(head(x))


def _needs_module_calls(x: Tensor) -> bool:
    """Whether each module has to decide for itself (a trace, a gradient), or somebody watches all calls."""
    return (
        isinstance(x, fx.Proxy)
        or is_traced()
        or wants_gradient(x)
        or nn.modules.module._has_any_global_hook()
    )


def _pack_network(model: FusedMobileNetV2) -> PackedOperator | PackedLayers | None:
    return _pack_units([*model.features, model.classifier])


def _pack_features(features: nn.Sequential) -> PackedOperator | PackedLayers | None:
    return _pack_units([*features])


def _pack_units(units: list[nn.Module]) -> PackedOperator | PackedLayers | None:
    """One operator for all; None where there is none or modules have to be called."""
    if not all(map(_is_own_operator, units)):
        return None
    return joined([unit.fusion() for unit in units], _device(units))


def _device(units: list[nn.Module]) -> torch.device | None:
    """Where all their parameters are; None where they are on several devices."""
    devices = {parameter.device for unit in units for parameter in unit.parameters()}
    return devices.pop() if len(devices) == 1 else None


def _is_own_operator(unit: nn.Module) -> bool:
    """Whether a call of this module does nothing but run its kernel."""
    return (
        type(unit) in (FusedStem, FusedInvertedResidual, FusedHead, FusedClassifier)
        and not unit.training
        and not _has_hooks(unit)
        and "forward" not in vars(unit)
        and unit.fusion_obstacle() is None
    )


def _block_layers(
    inp: int, hidden: int | None, oup: int, stride: int, norm_layer: NormLayer, padding: PaddingRule
) -> nn.Sequential:
    """Expand, depthwise and project of a block; ``hidden`` is None where it has no expand."""
    layers: list[nn.Module] = []
    if hidden is not None:
        layers.append(_activated(ConvNormActivation, nn.Conv2d(inp, hidden, 1, bias=False), norm_layer))
    hidden = inp if hidden is None else hidden
    layers.append(
        _activated(ConvNormActivation, _conv3x3(hidden, hidden, stride, padding, hidden), norm_layer)
    )
    return nn.Sequential(*layers, nn.Conv2d(hidden, oup, 1, bias=False), _norm(norm_layer, oup))


def _conv3x3(inp: int, oup: int, stride: int, padding: PaddingRule, groups: int = 1) -> nn.Conv2d:
    if padding not in get_args(PaddingRule):
        raise ValueError(f"padding: expected 'torch' or 'same', got {padding!r}")
    # With stride 1, SAME is 1 on every side.
    if padding == "same" and stride != 1:
        return SamePaddedConv2d(inp, oup, KERNEL_SIZE, stride, groups=groups, bias=False)
    return nn.Conv2d(inp, oup, KERNEL_SIZE, stride, padding=1, groups=groups, bias=False)


def _norm(norm_layer: NormLayer, channels: int) -> nn.Module:
    norm = norm_layer(channels)
    if not is_batch_norm(norm):
        raise TypeError(f"norm_layer: expected what makes a BatchNorm2d, got {type(norm).__name__}")
    return norm


def _activated(unit: type[ConvNormActivation], conv: nn.Conv2d, norm_layer: NormLayer) -> ConvNormActivation:
    return unit(conv, _norm(norm_layer, conv.out_channels), nn.ReLU6(inplace=True))


def _initialise(module: nn.Module) -> None:
    """torchvision's initialisation, draw for draw."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.BatchNorm2d) and module.affine:
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)


def _has_hooks(module: nn.Module) -> bool:
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks)


def _only_calls_children(features: nn.Module) -> bool:
    return type(features) is nn.Sequential and not _has_hooks(features) and "forward" not in vars(features)
