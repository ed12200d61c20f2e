"""Models of any library, fused in place, for --model: which one, with which weights and labels.

libraries.py says what a source may be; sources.py has the networks of this package.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..dropin.fuse import fuse
from ..dropin.report import FusionReport, fusion_report
from ..nn.building import IMAGE_CHANNELS
from .checkpoints import COUNTERS, WeightsError, read_state_dict
from .libraries import Recipe, build, own_recipe
from .photos import Preprocess, open_photo
from .sources import RANDOM, read_labels, unnamed

# What checkpoints of a wrapped model have before its names.
PREFIXES = ("", "module.", "_orig_mod.", "model.")
STATISTICS_IMAGES = 4


@dataclass(frozen=True)
class Model:
    """A float32 model in eval mode as its library has it, and a copy that went through ``fuse``.

    ``name`` says its source and weights. ``size``: height and width of its images, which ``recipe_for``
    makes of photographs. ``labels``: of its classes, none where nobody says; ``labels_file``: somebody's.
    """

    name: str
    eager: nn.Module
    fused: nn.Module
    report: FusionReport
    size: int
    recipe_for: Callable[[int], Recipe]
    labels: tuple[str, ...] = ()
    labels_file: Path | None = None

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            results(self.eager, torch.zeros(1, IMAGE_CHANNELS, self.size, self.size))
        return counter.get_total_flops() // 2

    def images(self, photos: Sequence[Path], size: int | None = None) -> Tensor:
        """Photographs as it takes them, float32 (len(photos), 3, size, size). Raises PhotoError."""
        recipe = self.recipe_for(size or self.size)
        return torch.stack([recipe(open_photo(photo)) for photo in photos])

    def labels_of(self, classes: int) -> tuple[str, ...]:
        """One for each class. Raises WeightsError where the labels asked for are others in number."""
        if self.labels_file is not None:
            return read_labels(self.labels_file, classes)
        return self.labels if len(self.labels) == classes else unnamed(classes)


def load_model(
    source: str,
    labels: Path | None = None,
    *,
    weights: str | None = None,
    pretrained: bool = False,
    preprocess: Preprocess | None = None,
    size: int | None = None,
) -> Model:
    """Builds a model, loads its weights and fuses a copy.

    Args:
        source: as ``libraries.build`` takes it.
        labels: a text file, one label a line; by default what its library has.
        weights: a file that ``read_state_dict`` reads.
        pretrained: with the weights that its library publishes. Without both a library's model gets random
            ones, always the same, with statistics that keep a signal alive.
        preprocess: one of this package's recipes for photographs, in place of the model's own.
        size: height and width of its images; what its library says where None.

    Raises WeightsError where it cannot be built, the weights are of another model, or no block runs fused.
    """
    if weights is not None and pretrained:
        raise WeightsError("--pretrained and --weights: one of them; either replaces the other's weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = build(source, pretrained)
        size = size or built.size
        name = source
        if weights is not None:
            _load_weights(built.model, Path(weights), source)
            name = f"{source}, {weights}"
        elif built.is_random:
            give_statistics(built.model, (size, size))
            name = f"{source}, {RANDOM}"
    eager = built.model.float().requires_grad_(False)
    fused = fuse(copy.deepcopy(eager))
    report = fusion_report(fused)
    if not report.fused:
        why = why_eager(report) or "no inverted residual was found"
        raise WeightsError(f"{source}: none of its blocks runs fused: {why}")
    recipe_for = built.recipe_for if preprocess is None else partial(own_recipe, preprocess)
    return Model(name, eager, fused, report, size, recipe_for, built.labels, labels)


def why_eager(report: FusionReport) -> str:
    """Why blocks stay eager, each reason with their number; "" where none does."""
    reasons = Counter(report.eager.values()).most_common()
    return "; ".join(f"{count} {reason}" for reason, count in reasons)


def _load_weights(model: nn.Module, path: Path, source: str) -> None:
    state_dict = read_state_dict(path)
    wanted = {name for name in model.state_dict() if name.rpartition(".")[2] not in COUNTERS}
    for prefix in PREFIXES:
        given = {
            key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)
        }
        if wanted <= given.keys():
            break
    else:
        given = state_dict
    try:
        missing, unexpected = model.load_state_dict(given, strict=False)
    except RuntimeError as error:  # shapes
        _, *reasons = map(str.strip, str(error).splitlines())
        raise WeightsError(f"{path}: not a state dict of {source}: {reasons[0]}") from error
    missing = [name for name in missing if name in wanted]
    parts = [
        f"{len(names)} {what} ({names[0]})"
        for what, names in (("keys missing", missing), ("unexpected", unexpected))
        if names
    ]
    if parts:
        raise WeightsError(f"{path}: not a state dict of {source}: {', '.join(parts)}")


def results(model: Any, x: Tensor) -> list[Tensor]:
    """What a model makes of images; of a detector without its boxes, whose order may change by a rounding."""
    if hasattr(model, "anchor_generator") and hasattr(model, "head"):
        returned = model.head([*model.backbone(x).values()])
    else:
        returned = model(x)
    if hasattr(returned, "to_tuple"):
        returned = returned.to_tuple()
    return [each for each in tree_leaves(returned) if isinstance(each, Tensor)]


def logits_of(name: str, result: Tensor) -> Tensor:
    """A result that is logits (N, classes). Raises WeightsError where it is not."""
    if result.dim() != 2:
        raise WeightsError(
            f"{name}: its result is no logits (N, classes), but has the shape {tuple(result.shape)}"
        )
    return result


class FirstResult(nn.Module):
    """A model whose result is one tensor, the first of those that ``results`` has."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        return results(self.model, x)[0]


@torch.no_grad()
def give_statistics(model: nn.Module, size: tuple[int, int]) -> nn.Module:
    """Gives norms random images' statistics: with others a signal dies out on its way. In eval mode then."""
    norms = [
        each for each in model.modules() if isinstance(each, nn.BatchNorm2d) and each.track_running_stats
    ]
    for norm in norms:
        norm.momentum = 1.0
        if norm.affine:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.3)
    results(model.train(), torch.randn(STATISTICS_IMAGES, IMAGE_CHANNELS, *size))
    return model.eval()
