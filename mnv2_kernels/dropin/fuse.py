"""``fuse`` and ``unfuse``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from torch import nn

from .candidates import candidates
from .fused import Fused, is_fused, swap, swap_back
from .plans import served_runs
from .report import fusion_report
from .survey import Reading, check_model, survey

AnyModule = TypeVar("AnyModule", bound=nn.Module)
Filter = Callable[[nn.Module, str], bool]


def fuse(model: AnyModule, *, filter: Filter | None = None, strict: bool = False) -> AnyModule:
    """Makes the inverted residuals of any model run by the operators in eval mode: in place, returning it.

    Blocks are recognised by what they compute, whatever their classes: each module that may hold one is
    called with small images of zeros, in eval mode, and the operators that torch runs are read. Consecutive
    blocks, the stem before them, and the head and classifier behind, run in one call where one module runs
    nothing else.

    Args:
        model: in any mode, on any device, with weights loaded or not yet.
        filter: ``filter(module, name)`` says whether the block or stem that a module holds may run fused. By
            default all may.
        strict: raise where no block runs fused, or one stays eager.

    Nothing else changes: classes by ``isinstance`` and name, parameters, ``state_dict``, attributes, hooks.
    In train mode, under a hook inside a block, under torch.fx, torch.compile, ONNX export and TorchScript the
    model's own code runs, as it does for inputs that its layers would refuse. Gradients in eval mode are
    those of the layers, which a backward runs once more. Changed weights, attributes, modules and modes are
    followed as ``FusedMobileNetV2`` says. Results of fused blocks are channels_last.

    ``copy.deepcopy`` gives a fused copy; pickle and ``torch.save`` store the model as it is without ``fuse``.

    Raises ValueError, with the ``fusion_report`` as its text, where ``strict`` is not satisfied; the model is
    as it was then. Raises TypeError for what is no module, and ValueError where lazy modules have no weights
    yet. This package's own modules run fused as they are.
    """
    check_model("fuse", model)
    done = _run_operators(model)
    swapped = [each for each in _to_swap(model, survey(model), filter) if each not in done]
    for each in swapped:
        swap(each)
    if strict:
        report = fusion_report(model)
        if report.eager or not report.fused:
            for each in swapped:
                swap_back(each)
            raise ValueError(f"fuse: strict, but\n{report}")
    return model


def unfuse(model: AnyModule) -> AnyModule:
    """Takes ``fuse`` back, in place: classes, forwards and attributes as they were. Returns the model."""
    check_model("unfuse", model)
    for each in model.modules():
        swap_back(each)
    return model


def _run_operators(model: nn.Module) -> set[nn.Module]:
    """The modules that are fused already, and all that this package's own modules hold."""
    fused = [each for each in model.modules() if is_fused(each)]
    own = [each for each in fused if not isinstance(each, Fused)]
    return {*fused, *(inner for each in own for inner in each.modules())}


def _to_swap(model: nn.Module, readings: Sequence[Reading], filter: Filter | None) -> list[nn.Module]:
    picked: dict[str, bool] = {}
    holds_a_block: set[str] = set()
    for each in candidates(model, readings):
        if each.obstacle:
            continue
        if each.owner not in picked:
            picked[each.owner] = filter is None or filter(model.get_submodule(each.owner), each.owner)
        if each.part.kind == "block":
            holds_a_block.add(each.owner)
    owners = {model.get_submodule(name): name for name, wanted in picked.items() if wanted}
    blocks = [module for module, name in owners.items() if name in holds_a_block]
    return list(dict.fromkeys(blocks + [each.module for each in readings if _gains(each, owners)]))


def _gains(reading: Reading, owners: Collection[nn.Module]) -> bool:
    """Whether a module runs a stem by itself, or several parts in fewer calls than they do by themselves."""
    for served, runs in served_runs(reading.module, reading.runs, owners):
        parts = [part for run in runs for part in run.parts if part.kind in ("block", "stem")]
        leaves = [leaf for run in runs for leaf in run.leaves]
        if served and parts and (reading.module in owners or len(parts) > 1 or len(leaves) > 1):
            return True
    return False
