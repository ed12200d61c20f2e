"""Whether a call of a module runs the code of a class whose results are known, and nothing else.

Kernels replace code that users may change in many places: in a subclass, in an instance, in the class itself
(a patch), or around a call by hooks. What a call runs is known only where there is none of these. Every
decision to leave a module's code out takes its answer from here.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeGuard, TypeVar

from torch import Tensor, fx, nn

from .inference import is_traced, needs_layers

AnyModule = TypeVar("AnyModule", bound=nn.Module)

# What a call of any module runs before and around forward.
CALL = frozenset(
    (
        *("__call__", "_wrapped_call_impl", "_call_impl", "_slow_forward"),
        *("forward", "__getattr__", "__getattribute__"),
    )
)
# Methods that no call runs.
NEVER_CALLED = frozenset(
    (
        *("__init__", "__repr__", "extra_repr", "reset_parameters", "reset_running_stats"),
        *("deploy", "eager", "fusion_obstacles"),
    )
)

_MODULE_CALL = nn.Module.__call__


class NotFusable(Exception):
    """A module computes something else than the kernels do; the message says what."""


def own_code_obstacle(module: nn.Module, known: type[nn.Module], discarded: bool = False) -> str | None:
    """Why a call of ``module``, an instance of ``known``, may run other code than that class's; None: never.

    Hooks of the backward are not looked for: whether there will be one is not known before a call.
    ``discarded``: the module itself is left behind, so that none of its methods may be its own, and it may
    have no hooks of the backward either.
    """
    if replaced := replacement(module, any_method=discarded):
        return replaced
    if has_hooks(module, backward=discarded):
        return f"{class_name(module)} has hooks"
    return class_obstacle(module, known, discarded)


def class_obstacle(module: nn.Module, known: type[nn.Module], discarded: bool = False) -> str | None:
    """As ``own_code_obstacle``, of the class of ``module`` alone."""
    method = _overridden(type(module), known, discarded)
    if method is not None:
        return f"{class_name(module)} has its own {method}"
    method = _patched(known)
    return None if method is None else f"{method} of {known.__name__} is patched"


def replacement(module: nn.Module, any_method: bool = False) -> str | None:
    """Which function the instance has in place of one of its class's; None where it has none.

    ``any_method``: of all methods, not only of those that a call runs.
    """
    for name in vars(module):
        if _is_method(type(module), name) and (any_method or _is_called(name)):
            return f"the {name} of {class_name(module)} is replaced"
    return None


def copy_obstacle(root: nn.Module, name: str = "") -> str | None:
    """Why a deep copy of ``root``, called ``name``, would not be independent of it; None: it would."""
    for path, module in root.named_modules(prefix=name):
        # A function that was put into an instance works on that instance wherever it is copied to.
        if replaced := replacement(module):
            return f"{path or 'model'}: {replaced}"
        for attribute, value in vars(module).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                return (
                    f"{path}.{attribute} is computed in each call, as by pruning or weight_norm, and cannot "
                    "be copied: make it permanent first (prune.remove, remove_weight_norm)"
                )
    return None


def check_own_code(name: str, module: nn.Module, known: type[nn.Module], discarded: bool = False) -> None:
    """Raises NotFusable where there is an ``own_code_obstacle``."""
    if obstacle := own_code_obstacle(module, known, discarded):
        raise NotFusable(f"{name}: {obstacle}")


def runs_own_code(
    module: nn.Module, known: type[AnyModule], forward: Callable[..., Any]
) -> TypeGuard[AnyModule]:
    """A quick look, for every call, at whether a call of ``module`` is one of ``known``'s ``forward``."""
    return (
        type(module) is known
        and known.forward is forward
        and not has_hooks(module, backward=True)
        and CALL.isdisjoint(vars(module))
    )


def runs_layers(x: Any) -> bool:
    """Whether torch's own layers run for an input, whichever module is called.

    torch.fx traces with proxies and wants the layers; global hooks may change what each layer gives.
    """
    return isinstance(x, fx.Proxy) or needs_layers(x) or has_global_hooks()


def has_global_hooks() -> bool:
    """Whether somebody watches, and maybe changes, the calls of all modules."""
    # torch's tracers patch the call of all modules, too, and want our operators.
    patched = nn.Module.__call__ is not _MODULE_CALL and not is_traced()
    return patched or bool(nn.modules.module._has_any_global_hook())


def class_name(module: nn.Module) -> str:
    """Its full name where torch.nn has another class of that name, as quantization does."""
    found = type(module)
    is_namesake = getattr(nn, found.__name__, found) is not found
    return f"{found.__module__}.{found.__name__}" if is_namesake else found.__name__


def has_hooks(module: nn.Module, backward: bool) -> bool:
    """Of the forward and, if asked for, of the backward."""
    if module._forward_hooks or module._forward_pre_hooks:
        return True
    return backward and bool(module._backward_hooks or module._backward_pre_hooks)


def _overridden(derived: type[nn.Module], known: type[nn.Module], discarded: bool) -> str | None:
    """What ``derived`` has in place of a method, or may have in place of an attribute, of ``known``."""
    for each in derived.__mro__:
        if each in known.__mro__:
            continue
        for name, value in vars(each).items():
            replaces = _is_method(known, name) and (discarded or _is_called(name))
            # A property stands for an attribute of the instance, as torch's parametrizations have it.
            if (replaces and name not in NEVER_CALLED) or name in CALL or isinstance(value, property):
                return name
    return None


def _patched(known: type[nn.Module]) -> str | None:
    """A method that comes from elsewhere than its class does, or wraps another one."""
    for home in known.__mro__[: known.__mro__.index(nn.Module)]:
        for name, method in vars(home).items():
            if not (_is_called(name) and _is_method(home, name)) and name not in CALL:
                continue
            if method.__module__ != home.__module__ or hasattr(method, "__wrapped__"):
                return name
    return None


def _is_method(found: type, name: str) -> bool:
    return isinstance(getattr(found, name, None), FunctionType)


def _is_called(name: str) -> bool:
    """Whether a call may run a method: one of every module's call, or what a class adds to nn.Module's."""
    return name in CALL or not hasattr(nn.Module, name)
