"""A MobileNetV2 of packed weights, for inference on the machine it was made on."""

from __future__ import annotations

import copy
from typing import Any, NoReturn

from torch import Tensor, nn

from ..fusion.inference import check_is_tensor
from ..packing.packed_layers import NOT_SAVED
from .image_bytes import ImageLayout, Normalize, check_layout


class DeployedMobileNetV2(nn.Module):
    """What ``FusedMobileNetV2.deploy()`` returns: operators and their packed weights, not to train or save.

    ``network`` is one operator, mnv2::run, maybe in CUDA graphs.
    ``classifier`` is a copy of one that no kernel computes, with its mode and hooks, else Identity: the
    network gives the logits. ``layout`` is that of the images.

    Works under torch.compile(fullgraph=True) and torch.export, and copies with copy.deepcopy. A saved export
    holds the packed weights: it loads after ``import mnv2_kernels`` and runs where their instruction set
    does; portable weights run on any CPU (``mnv2_kernels.export``). ``train()``, ``state_dict()``,
    ``load_state_dict()``, pickling and torch.jit.script raise RuntimeError.
    """

    network: nn.Module
    classifier: nn.Module

    def __init__(
        self, network: nn.Module, classifier: nn.Module | None, layout: ImageLayout = "NCHW"
    ) -> None:
        super().__init__()
        check_layout(layout)
        self.layout = layout
        self.network = network
        self.classifier = (
            nn.Identity() if classifier is None else copy.deepcopy(classifier).requires_grad_(False)
        )
        self.training = False
        self.network.eval()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) images, or (N, H, W, 3) by ``layout``, to (N, num_classes) logits."""
        check_is_tensor(x, "(N, C, H, W)" if self.layout == "NCHW" else "(N, H, W, C)")
        if self.layout == "NHWC":
            x = x.movedim(-1, 1)
        return self.classifier(self.network(x))

    def train(self, mode: bool = True) -> DeployedMobileNetV2:
        if mode:
            raise RuntimeError("a deployed network cannot be trained: train the model it came from")
        return super().train(mode)

    def __prepare_scriptable__(self) -> NoReturn:
        # torch.jit.script's hook.
        raise RuntimeError("a deployed network cannot be scripted: script the model it came from")

    def state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(NOT_SAVED)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(NOT_SAVED)


class Deployable(nn.Module):
    """A network that says itself what is deployed of it."""

    def deploy(
        self, *, portable: bool = False, normalize: Normalize | None = None, layout: ImageLayout = "NCHW"
    ) -> DeployedMobileNetV2:
        raise NotImplementedError
