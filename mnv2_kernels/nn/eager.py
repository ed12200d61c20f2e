"""The same network in torch's own modules: to script, to export to ONNX, to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from ..dropin.twins import twin_of
from ..fusion.eager_layers import global_average_pool


class HasEager(nn.Module):
    """Base of the modules that kernels compute, each of which has a twin of plain torch.nn modules."""

    # A class whose forward is what the layers alone compute.
    _eager_class: ClassVar[type[nn.Module]]
    # What of a subclass decides that, and so has no twin where it is another's.
    own_methods: ClassVar[tuple[str, ...]] = ("forward",)

    def eager(self) -> nn.Module:
        """The same module without kernels, of torch.nn modules alone, under the same names.

        It shares parameters, buffers and hooks with this one, and nothing else: modes, attributes and
        submodules are its own (copy.deepcopy makes it independent). torch.jit.script takes it in this one's
        place, and where it scripts a module that holds this one it leaves the twin there: script a copy.

        Raises ValueError, naming the module, where a subclass or an instance has a forward of its own.
        """
        return eager(self)

    def __prepare_scriptable__(self) -> nn.Module:
        # torch.jit.script's hook: scripts this instead.
        return self.eager()


class EagerInvertedResidual(nn.Module):
    """The twin of FusedInvertedResidual: torchvision's block."""

    if TYPE_CHECKING:  # TorchScript would read these
        conv: nn.Sequential
        use_res_connect: bool

    def forward(self, x: Tensor) -> Tensor:
        """(N, inp, H, W) to (N, oup, H', W')."""
        if self.use_res_connect:
            return x + self.conv(x)
        return self.conv(x)


class EagerMobileNetV2(nn.Module):
    """The twin of FusedMobileNetV2: torchvision's network, also with SAME padding."""

    if TYPE_CHECKING:
        features: nn.Sequential
        classifier: nn.Module

    def _forward_impl(self, x: Tensor) -> Tensor:
        return self.classifier(global_average_pool(self.features(x)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) images to (N, num_classes) logits."""
        return self._forward_impl(x)


def eager(module: nn.Module) -> nn.Module:
    """``HasEager.eager`` of any module that has such modules, or fused ones, inside."""
    return twin_of(module, _class_without_kernels)


def _class_without_kernels(module: nn.Module, name: str) -> type[nn.Module]:
    """Raises ValueError where its forward computes something else."""
    kind = type(module)
    if isinstance(module, HasEager):
        base = next(each for each in kind.mro() if "_eager_class" in vars(each))
        for method in module.own_methods:
            if method in vars(module) or getattr(kind, method) is not getattr(base, method):
                described = f"{name}: {kind.__name__}" if name else kind.__name__
                raise ValueError(f"eager: {described} has a {method} of its own, which torch's layers lack")
    return getattr(kind, "_eager_class", kind)
