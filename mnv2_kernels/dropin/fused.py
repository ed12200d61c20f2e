"""The class of a fused module: its own, with a forward that runs the module's plan where that may be."""

from __future__ import annotations

import copyreg
from copy import deepcopy
from functools import cache, wraps
from typing import Any, TypeGuard

from torch import Tensor, nn

from ..fusion.inference import is_traced, is_transformed
from ..fusion.own_code import runs_layers
from ..matching.recording import Options
from .plans import Plan, PlanCache
from .twins import twin_of

_PLAIN = (bool, int, float, str, tuple, type(None))
_CACHE = "_fused_plan"


class Fused:
    """Mixed in before a module's class, which is ``_eager_class``."""

    _eager_class: Any

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        plan = _plan_for(self, args, kwargs)  # type: ignore[arg-type]
        if plan is None:
            return self._eager_class.forward(self, *args, **kwargs)
        return plan.run(args[0])

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickled as what it was, as in-place torch.compile does: the file needs no other package."""
        reduced: Any = super().__reduce_ex__(protocol)
        _, _, state, *rest = reduced
        kind = self._eager_class
        # Not copyreg.__newobj__, for which pickle insists on the object's own class.
        make = copyreg._reconstructor  # type: ignore[attr-defined]
        return make, (kind, object, None), _without_plan(state), *rest

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        kind: Any = type(self)
        if hasattr(self._eager_class, "__deepcopy__"):
            copied = self._eager_class.__deepcopy__(self, memo)
        else:
            copied = memo[id(self)] = kind.__new__(kind)
            reduced: Any = super().__reduce_ex__(4)
            copied.__setstate__(deepcopy(_without_plan(reduced[2]), memo))
        copied.__class__ = kind
        vars(copied)[_CACHE] = PlanCache()
        return copied

    def __prepare_scriptable__(self) -> Any:
        # torch.jit.script's hook: it scripts a twin of the module's own class.
        return unfused_twin(self)  # type: ignore[arg-type]


def is_fused(module: nn.Module) -> TypeGuard[Any]:
    """Whether its class runs operators: one that ``fuse`` made, or one of this package's own."""
    return hasattr(type(module), "_eager_class")


def swap(module: nn.Module) -> None:
    """Gives a module, which has none, its fused class."""
    module.__class__ = fused_class(type(module))  # type: ignore[arg-type]
    vars(module)[_CACHE] = PlanCache()


def swap_back(module: nn.Module) -> None:
    if isinstance(module, Fused):
        module.__class__ = module._eager_class
        vars(module).pop(_CACHE, None)


@cache
def fused_class(eager: type[nn.Module]) -> type[nn.Module]:
    """A subclass that nobody can tell from the class but by ``is``: torch's parametrisations do the same."""
    kept = {name: getattr(eager, name) for name in ("__module__", "__qualname__", "__doc__")}

    @wraps(eager.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return Fused.forward(self, *args, **kwargs)

    return type(eager.__name__, (Fused, eager), {**kept, "_eager_class": eager, "forward": forward})


def unfused_twin(module: nn.Module) -> nn.Module:
    """The module as it was before ``fuse``, with the same tensors, hooks and unfused modules inside."""
    return twin_of(module, _class_before)


def _class_before(module: nn.Module, name: str) -> type[nn.Module] | None:
    if not any(isinstance(each, Fused) for each in module.modules()):
        return None
    return module._eager_class if isinstance(module, Fused) else type(module)


def _without_plan(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != _CACHE}


def _plan_for(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan | None:
    """What runs in place of a call of ``module``; None where its own code does."""
    if module.training or not args or type(args[0]) is not Tensor:
        return None
    if is_traced() or is_transformed(args[0]) or runs_layers(args[0]):
        return None
    options: Options = (args[1:], tuple(kwargs.items()))
    if (args[1:] or kwargs) and not all(isinstance(each, _PLAIN) for each in (*args[1:], *kwargs.values())):
        return None
    cache = vars(module).get(_CACHE)
    if cache is None:  # made by the class, as a slice of a Sequential is
        cache = vars(module)[_CACHE] = PlanCache()
    plan = cache.lookup(module, options)
    return plan if plan is not None and plan.takes(args[0]) else None
