"""torchvision's MobileNetV2 with one kernel for each block in eval mode."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from os import PathLike

import torch
from torch import Tensor, nn

from ..channels import STEM_STRIDE, STRIDES, Channels
from ..dropin.fused import unfused_twin
from ..fusion.eager_layers import global_average_pool
from ..fusion.functions import chained
from ..fusion.fused_layer import Fusion
from ..fusion.inference import check_is_tensor, is_traced
from ..fusion.own_code import (
    NotFusable,
    class_name,
    copy_obstacle,
    has_global_hooks,
    own_code_obstacle,
    runs_layers,
    runs_own_code,
)
from ..keras.network import load_keras
from ..packing.cache import Packed, PackedCache
from ..packing.packed_layers import pack_chain, pack_layers
from ..shapes import HEAD_CHANNELS, INVERTED_RESIDUAL_SETTING, STEM_CHANNELS, make_divisible
from .building import (
    DROPOUT,
    IMAGE_CHANNELS,
    NormLayer,
    PaddingRule,
    activated,
    block_layers,
    conv3x3,
    initialise,
)
from .conversion import converted_parts, copied, own_parts
from .cuda_graphs import GraphedNetwork
from .deployed import Deployable, DeployedMobileNetV2
from .eager import EagerMobileNetV2, HasEager
from .image_bytes import ImageLayout, Normalize, reads_bytes
from .inverted_residual import FusedInvertedResidual
from .units import FusedClassifier, FusedHead, FusedStem

UNITS = (FusedStem, FusedInvertedResidual, FusedHead, FusedClassifier)
SEQUENTIAL_FORWARD, HEAD_FORWARD = nn.Sequential.forward, FusedHead.forward


class FusedMobileNetV2(HasEager, Deployable):
    """torchvision's MobileNetV2 — names, shapes, initialisation — with fused kernels in eval mode.

    Args:
        num_classes, width_mult, inverted_residual_setting, round_nearest, dropout: as torchvision has them.
        in_channels: of the images.
        block: FusedInvertedResidual or a subclass.
        norm_layer: makes a BatchNorm2d for a number of channels.
        padding: "torch" (1 on every side) or "same" (TensorFlow's, as weights from there need it).

    Raises ValueError or TypeError for what cannot be honoured.

    In train mode it is the eager network. In eval mode it runs fused, with the parameters and buffers as they
    are at that moment, and module by module where a change leaves no kernel; ``fusion_obstacles`` says which
    and why.

    torch does not count writes through ``.data`` or NumPy. On the CPU the next call sees them where they
    change a vector (BatchNorm's, a bias), a weight of at most 64 KiB, or every element of an output or input
    channel of a larger weight. Other writes to a larger weight, to single elements say, are seen by one of
    the next 200 calls. On other devices no such write is seen.

    Gradients in eval mode, of parameters and inputs and also of higher order, are torch's: the forward runs
    fused, and the backward runs the layers once more, on the values and settings of the forward. A change in
    place of an input, parameter or buffer in between is torch's error. Training like this takes longer than
    with torch's layers, which train mode runs. In forward mode and under torch.func's derivatives the layers
    run from the start.

    torch.jit.script, torch.jit.trace and torch.onnx.export give what ``eager()`` returns. Under
    torch.compile it is fused where no parameter can expect a gradient (``torch.no_grad``), but packs its
    weights in every call unless they are frozen: compile or export what ``deploy()`` returns.
    """

    _eager_class = EagerMobileNetV2
    own_methods = ("forward", "_forward_impl", "_pooled_features")
    features: nn.Sequential
    classifier: nn.Module
    last_channel: int

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
        stem = conv3x3(in_channels, channels, STEM_STRIDE, padding)
        features: list[nn.Module] = [activated(FusedStem, stem, norm_layer)]
        for expansion, base_channels, repeats, first_stride in setting:
            out_channels = make_divisible(base_channels * width_mult, round_nearest)
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                features.append(
                    block(channels, out_channels, stride, expansion, norm_layer=norm_layer, padding=padding)
                )
                channels = out_channels
        last = make_divisible(HEAD_CHANNELS * max(1.0, width_mult), round_nearest)
        features.append(activated(FusedHead, nn.Conv2d(channels, last, 1, bias=False), norm_layer))
        classifier = FusedClassifier(nn.Dropout(dropout), nn.Linear(last, num_classes))
        self._hold(nn.Sequential(*features), classifier, last)
        for module in self.modules():
            initialise(module)

    @classmethod
    def from_model(cls, model: nn.Module) -> FusedMobileNetV2:
        """A copy of a torchvision ``mobilenet_v2`` with its weights, eps, classifier, dtype and mode.

        A model that went through ``fuse`` counts as what it was before. Of an instance of this class, also of
        a subclass, it is a plain copy. Called on a subclass it returns
        an instance of that, whose constructor does not run: a subclass that has one is a TypeError.

        Raises ValueError, naming the module and what it has, for any other architecture and where a part that
        this network replaces has code of its own: a subclass's methods, hooks, functions in an instance.
        Convolutions, norms, activations and classifiers are kept with hooks and all, and run eagerly then.
        """
        try:
            return copied(model if isinstance(model, cls) else cls._converted(model))
        except NotFusable as difference:
            raise ValueError(
                f"from_model: expected torchvision's mobilenet_v2, got {type(model).__name__}: {difference}"
            ) from None

    @classmethod
    def _converted(cls, model: nn.Module) -> FusedMobileNetV2:
        """The network of the model's own layers, not copied."""
        model = unfused_twin(model)
        if cls.__init__ is not FusedMobileNetV2.__init__:
            raise TypeError(
                "from_model: expected a class without a constructor of its own, which would not run, got "
                f"{cls.__name__}: construct it, and load the model's state_dict()"
            )
        is_own = isinstance(model, FusedMobileNetV2)
        fused = cls.assemble(*(own_parts(model, FusedMobileNetV2) if is_own else converted_parts(model)))
        fused.training = model.training
        return fused

    @classmethod
    def from_keras(cls, path: str | PathLike[str]) -> FusedMobileNetV2:
        """A Keras MobileNetV2 with its Dense classifier, in eval mode; it returns logits.

        ``path`` is a .keras, .weights.h5 or .h5 file of Keras 2 or 3. Needs h5py. Images go in as [-1, 1],
        also where the file's network scales them itself. Raises FileNotFoundError, or ValueError where the
        file is no such network or has layers that the kernels do not compute. A subclass gets an instance as
        from ``from_model``.
        """

        return cls.from_model(load_keras(path, FusedMobileNetV2.of_channels))

    @classmethod
    def of_channels(
        cls, channels: Channels, norm_layer: NormLayer = nn.BatchNorm2d, padding: PaddingRule = "torch"
    ) -> FusedMobileNetV2:
        """The network whose layers have these channels, with weights to be loaded: they are not initialised
        as the constructor's are.
        """
        stem = conv3x3(channels.image, channels.stem, STEM_STRIDE, padding)
        features: list[nn.Module] = [activated(FusedStem, stem, norm_layer)]
        inp = channels.stem
        for block, stride in zip(channels.blocks, STRIDES, strict=True):
            conv = block_layers(inp, block.expanded, block.out, stride, norm_layer, padding)
            features.append(FusedInvertedResidual.assemble(conv, stride, stride == 1 and inp == block.out))
            inp = block.out
        features.append(activated(FusedHead, nn.Conv2d(inp, channels.head, 1, bias=False), norm_layer))
        classifier = FusedClassifier(nn.Dropout(DROPOUT), nn.Linear(channels.head, channels.classes))
        return cls.assemble(nn.Sequential(*features), classifier, channels.head)

    @classmethod
    def assemble(cls, features: nn.Sequential, classifier: nn.Module, last_channel: int) -> FusedMobileNetV2:
        """The network of existing modules."""
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        model._hold(features, classifier, last_channel)
        return model

    def _hold(self, features: nn.Sequential, classifier: nn.Module, last_channel: int) -> None:
        self.last_channel = last_channel
        self.features = features
        self.classifier = classifier
        self._cache = PackedCache(_pack_network)
        self._features_cache = PackedCache(_pack_features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) images to (N, num_classes) logits."""
        check_is_tensor(x, "(N, C, H, W)")
        return self._forward_impl(x)

    # torchvision's name, which its subclasses know.
    def _forward_impl(self, x: Tensor) -> Tensor:
        classifier = self.classifier
        joins = type(classifier) is FusedClassifier and not classifier.may_train()
        if joins and self._may_skip_module_calls(x):
            packed = self._cache.lookup(self)
            if packed is not None:
                return packed.run(x)
        return classifier(self._pooled_features(x))

    def fusion_obstacles(self) -> dict[str, str]:
        """Where a call in eval mode does something else than run a kernel, in ``features``: name and reason.

        Such a module runs its own code: its layers, hooks, or the forward of a subclass. Two patches are not
        seen: those of torch's functions and, in a network that has run, those of a class's methods except
        forward.
        """
        features = self.features
        if not isinstance(features, nn.Sequential):
            return {"features": f"{class_name(features)} instead of Sequential"}
        why = own_code_obstacle(features, nn.Sequential)
        if has_global_hooks():
            why = "global hooks, or a patch of nn.Module.__call__, watch every module"
        obstacles = {} if why is None else {"features": why}
        for name, unit in features.named_children():
            try:
                own_fusion(unit)
            except NotFusable as reason:
                obstacles[f"features.{name}"] = str(reason)
        return obstacles

    def deploy(
        self,
        cuda_graphs: bool = False,
        portable: bool = False,
        normalize: Normalize | None = None,
        layout: ImageLayout = "NCHW",
    ) -> DeployedMobileNetV2:
        """A lean copy for inference that holds packed weights only.

        Args:
            cuda_graphs: run small batches by CUDA graphs, one captured for each input shape that it meets
                (see GraphedNetwork), as their launches take longer than their kernels.
            portable: hold the weights for any machine's CPU, which packs them in its first call, instead of
                packed for this one: for a graph that is saved.
            normalize: (mean, deviation), one number or one for each channel; "imagenet": torchvision's; or
                "tf". The copy takes images of bytes (uint8), and its first layer reads each byte as
                ``(byte / 255 - mean) / deviation``, of "tf" as ``byte / 127.5 - 1``: in the bits that torch
                computes, and without a copy of the image in floats. CPUs have kernels for it.
            layout: of the images, "NCHW" or "NHWC".

        Raises RuntimeError where the network or something in ``features`` does more than its kernels as it is
        now (hooks, the forward of a subclass: see ``fusion_obstacles``), where the parameters are not on CUDA
        for CUDA graphs, or not on the CPU for portable weights, or where there is no stem to read bytes.
        Raises ValueError for another ``normalize`` or ``layout``. A classifier that no kernel computes is
        copied with its hooks.
        """
        self._check_deployable()
        units, classifier = [*self.features], self.classifier
        fusions = [own_fusion(unit) for unit in units]
        with suppress(NotFusable):
            fusions.append(own_fusion(classifier))
            units.append(classifier)
        if normalize is not None:
            fusions[0] = reads_bytes(fusions[0], normalize)
        device = _device(units)
        chain = pack_chain(fusions, device, portable)
        network: nn.Module = chain or nn.Sequential(*(pack_layers([each], portable) for each in fusions))
        if cuda_graphs:
            if device is None or device.type != "cuda":
                found = "several devices" if device is None else device
                raise RuntimeError(f"deploy: expected parameters on cuda for cuda_graphs, got {found}")
            network = GraphedNetwork(network)
        return DeployedMobileNetV2(network, None if classifier in units else classifier, layout)

    def _check_deployable(self) -> None:
        """Raises RuntimeError, naming module and cause, where a deployed copy would not compute the same."""
        if why := own_code_obstacle(self, FusedMobileNetV2):
            raise RuntimeError(f"deploy: expected a network without code of its own, but {why}")
        obstacles = self.fusion_obstacles()
        if obstacles:
            name, why = next(iter(obstacles.items()))
            advice = "; call eval() first" if self.training else ""
            raise RuntimeError(f"deploy: {name} cannot run fused: {why}{advice}")
        *_, head = self.features
        if not isinstance(head, FusedHead):
            raise RuntimeError(
                f"deploy: features end with {type(head).__name__} instead of the last convolution"
            )
        if obstacle := copy_obstacle(self.classifier, "classifier"):
            raise RuntimeError(f"deploy: {obstacle}")

    def _may_skip_module_calls(self, x: Tensor) -> bool:
        # Each module has to decide for itself in a trace, and where somebody watches all calls.
        plain = runs_own_code(self.features, nn.Sequential, SEQUENTIAL_FORWARD)
        return plain and not self.training and not is_traced() and not runs_layers(x)

    def _pooled_features(self, x: Tensor) -> Tensor:
        features = self.features
        if self._may_skip_module_calls(x):
            packed = self._features_cache.lookup(features)
            if packed is not None:
                return packed.run(x)
        if (
            self.training
            or has_global_hooks()
            or not runs_own_code(features, nn.Sequential, SEQUENTIAL_FORWARD)
        ):
            return global_average_pool(features(x))
        *body, head = features
        for unit in body:
            x = unit(x)
        if runs_own_code(head, FusedHead, HEAD_FORWARD):
            return head.pooled(x)
        return global_average_pool(head(x))


def _pack_network(model: FusedMobileNetV2) -> Packed | None:
    return _pack_units([*model.features, model.classifier])


def _pack_features(features: nn.Sequential) -> Packed | None:
    return _pack_units([*features])


def _pack_units(modules: list[nn.Module]) -> Packed | None:
    """One operator for all; None where there is no such operator or modules have to be called."""
    if any(module.training for module in modules):
        return None
    try:
        fusions = [own_fusion(module) for module in modules]
    except NotFusable:
        return None
    if not fusions or fusions[-1].layer.kind not in ("head_pool", "linear"):
        return None  # what calls this expects pooled features or logits
    operator = pack_chain(fusions, _device(modules))
    function = chained([fusion.function for fusion in fusions])
    return None if operator is None else Packed(operator, function, fusions)


def _device(units: Sequence[nn.Module]) -> torch.device | None:
    """Where all their parameters are; None where they are on several devices."""
    devices = {parameter.device for unit in units for parameter in unit.parameters()}
    return devices.pop() if len(devices) == 1 else None


def own_fusion(unit: nn.Module) -> Fusion:
    """The operator that a call of this module in eval mode runs, if nobody waits for a backward through it.

    Raises NotFusable where a call does something else.
    """
    known = next((each for each in UNITS if isinstance(unit, each)), None)
    if known is None:
        raise NotFusable(f"{type(unit).__name__} has no kernel")
    if why := own_code_obstacle(unit, known):
        raise NotFusable(why)
    fusion: Fusion = unit.fusion()  # type: ignore[operator]
    return fusion
