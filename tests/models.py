"""Networks for the module tests: small or whole, with statistics that a trained one could have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mnv2_kernels import FusedMobileNetV2
from mnv2_kernels.layer import parse_layers
from mnv2_kernels.nn.eager import eager as eager_twin

# Every kind of block: without expand, stride 2, shortcut.
SMALL_SETTING = [[1, 16, 1, 1], [6, 24, 2, 2], [3, 32, 1, 1]]
CLASSES = 10


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with BatchNorm statistics and parameters, and a classifier, that are neither 0 nor 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                if module.affine:
                    module.weight.uniform_(0.5, 1.5, generator=generator)
                    module.bias.normal_(0, 0.2, generator=generator)
            elif isinstance(module, nn.Linear):
                module.weight.normal_(0, 0.1, generator=generator)
    return model


def changed(module: nn.Module, changes: dict[str, object]) -> nn.Module:
    """The module, some of its modules or their attributes replaced, by their paths."""
    for path, value in changes.items():
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, value)
    return module


def small(seed: int = 0, **options: Any) -> FusedMobileNetV2:
    """A network of four blocks in eval mode."""
    options = {
        "num_classes": CLASSES,
        "width_mult": 0.5,
        "inverted_residual_setting": SMALL_SETTING,
        **options,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return randomised(FusedMobileNetV2(**options), seed).eval()


def torchvisions(model: FusedMobileNetV2) -> nn.Module:
    """Torchvision's network with the tensors of a small one, in its mode."""
    from torchvision.models import MobileNetV2  # which not every environment of the other tests has

    theirs = MobileNetV2(CLASSES, 0.5, SMALL_SETTING, dropout=model.classifier[0].p)
    theirs.load_state_dict(model.state_dict())
    return theirs.train(model.training)


def eager(model: nn.Module, x: Tensor) -> Tensor:
    """What the layers give, without a kernel."""
    with torch.no_grad(), calls() as operators:
        y = eager_twin(model)(x)
    assert not operators
    return y


class _Recorder(TorchDispatchMode):
    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self._names = names

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        namespace, _, name = func.name().partition("::")
        if namespace in ("mnv2", "mnv2_emulated"):
            chain = parse_layers(kwargs["layers"]) if "layers" in (kwargs or {}) else ()
            kind = "network" if len(chain) > 1 else "".join(layer.kind for layer in chain)
            self._names.append(f"{name} {kind}".strip())
        return func(*args, **(kwargs or {}))


@contextmanager
def calls() -> Iterator[list[str]]:
    """Collects the names of the mnv2 operators that run, in order: "run block", "run network" of many."""
    names: list[str] = []
    with _Recorder(names):
        yield names


def packs(names: list[str]) -> int:
    return sum(name.startswith("pack ") for name in names)
