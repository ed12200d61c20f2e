"""The ATen operators that one small call of a module runs, as a graph of values.

Below autograd torch has few operators, whatever the spelling in Python was: ``F.relu6``, ``nn.ReLU6`` and a
clamp in a norm's class all come out as ``hardtanh`` or ``clamp``. The call is real, in eval mode, on zeros.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from ..fusion.inference import eager_only
from ..fusion.own_code import NotFusable

# Positional and keyword arguments of a call behind the image.
Options = tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]
NO_OPTIONS: Options = ((), ())

_shape: Any = Tensor.shape
_SIZE_READERS = (
    *(_shape.__get__, Tensor.size, Tensor.numel, Tensor.nelement, Tensor.__len__, Tensor.stride),
)
_VALUE_READERS = (Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.data_ptr, Tensor.untyped_storage)


@dataclass(eq=False)
class Value:
    """A result of an operator, of a call's input, or a tensor that no input changes.

    ``tensor`` is the tensor itself where no input changes it. ``watched``: it is a parameter or buffer, or
    computed from such alone. An operator with several results has an ``item`` for each.
    """

    op: str
    args: tuple[Any, ...] = ()
    shape: tuple[int, ...] = ()
    tensor: Tensor | None = None
    watched: bool = True
    order: int = 0
    func: Any = None
    keywords: dict[str, Any] = field(default_factory=dict)

    @property
    def varies(self) -> bool:
        return self.tensor is None

    def constant(self) -> Tensor:
        """Its tensor, of float64 where operators compute it: a rounding of theirs would cost accuracy.

        Raises NotFusable where nothing would notice that it changes.
        """
        if self.tensor is None or not self.watched:
            raise NotFusable("a weight is neither a parameter nor a buffer")
        return self.tensor.detach() if self.op == "constant" else _exact(self)


def _exact(value: Any) -> Any:
    if not isinstance(value, Value):
        return value
    if value.op == "constant":
        tensor = value.tensor.detach()  # type: ignore[union-attr]
        return tensor.double() if tensor.is_floating_point() else tensor
    if value.op == "item":
        made, index = value.args
        return _exact(made)[index]
    keywords = {name: _exact(each) for name, each in value.keywords.items() if name != "dtype"}
    return value.func(*tree_map(_exact, value.args), **keywords)


class _Operators(TorchDispatchMode):
    """Makes a Value of every tensor that a call of a module computes."""

    def __init__(self, x: Tensor, value: Value, parameters: Sequence[Tensor], kept: Sequence[Tensor]) -> None:
        super().__init__()
        self.input = value
        self.wanted_channels: int | None = None  # by the first convolution
        self.has_fixed_window = False
        self._parameters = {tensor._cdata for tensor in parameters}
        self._not_to_change = {_memory(each) for each in (*kept, *parameters)}
        self._in_memory: defaultdict[int | None, set[int]] = defaultdict(set)
        self._values = {x._cdata: value}
        # Another tensor might get the address of one that is gone.
        self._alive: list[Tensor] = [x]
        self._results: list[Tensor] = []  # those that the input changes
        self._order = value.order

    def value(self, tensor: Tensor) -> Value:
        if tensor._cdata not in self._values:
            watched = tensor._cdata in self._parameters
            self._values[tensor._cdata] = Value("constant", (), tuple(tensor.shape), tensor, watched)
            self._alive.append(tensor)
        return self._values[tensor._cdata]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():  # whose mode would take our questions for the module's
            return self._record(func, args, kwargs or {})

    def _record(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        self._refuse(func, name, args)
        tensors: list[Value] = []
        values, keywords = tree_map(lambda each: self._see(each, tensors), (tuple(args), kwargs))
        if name == "convolution" and values[0] is self.input:
            self.wanted_channels = args[1].shape[1] * args[-1]
        self.has_fixed_window |= name == "avg_pool2d"
        result = func(*args, **kwargs)
        self._order += 1
        order, varies = self._order, any(each.varies for each in tensors)
        watched = all(each.watched for each in tensors)
        made = Value(name, values, (), None, watched, order, func, keywords)
        for index, tensor in enumerate(result if isinstance(result, (tuple, list)) else [result]):
            if not isinstance(tensor, Tensor):
                continue
            constant = None if varies else tensor
            if tensor is result:
                made.shape, made.tensor = tuple(tensor.shape), constant
                value = made
            else:
                value = Value("item", (made, index), tuple(tensor.shape), constant, watched, order)
            self._values[tensor._cdata] = value
            self._in_memory[_memory(tensor)].add(tensor._cdata)
            (self._results if varies else self._alive).append(tensor)
        return result

    def _refuse(self, func: Any, name: str, args: Any) -> None:
        if name == "_local_scalar_dense":
            raise NotFusable("it decides by values")
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise NotFusable("it draws random numbers")
        if func._schema.is_mutable:
            memory = _memory(args[0])
            if memory in self._not_to_change:
                raise NotFusable("it changes its input, a parameter or a buffer")
            if len(self._in_memory[memory] | {args[0]._cdata}) > 1:
                raise NotFusable("it changes what a view shows")

    def _see(self, argument: Any, tensors: list[Value]) -> Any:
        if not isinstance(argument, Tensor):
            return argument
        tensors.append(self.value(argument))
        return tensors[-1]

    def keeps_a_result(self, y: Tensor) -> bool:
        """Whether somebody holds what only the call itself needed; ``y`` is what it returned."""
        if self._has_held_results(y):
            gc.collect()  # nobody can ask for what a cycle holds
            return self._has_held_results(y)
        return False

    def _has_held_results(self, y: Tensor) -> bool:
        # An operator in place gives the same tensor once more.
        times = Counter(map(id, self._results))
        return any(
            # torch's own references to a tensor are one to its object.
            sys.getrefcount(each) > times[id(each)] + _REFERENCES_OF_A_LOOK + (_torch_s_references(each) > 1)
            for each in self._results
            if each is not y
        )


def _torch_s_references(tensor: Any) -> int:
    return tensor._use_count()


# The variable of a loop and the argument of getrefcount.
_REFERENCES_OF_A_LOOK = 2


def _memory(argument: Any) -> int | None:
    return argument.untyped_storage()._cdata if isinstance(argument, Tensor) else None


class _Questions(TorchFunctionMode):
    """What Python asks of tensors and of autograd, on which the rest of a call may then depend."""

    def __init__(self) -> None:
        super().__init__()
        self.size = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.size |= func in _SIZE_READERS
        if func in _VALUE_READERS:
            raise NotFusable("it decides by values")
        if func is Tensor.is_contiguous:  # which differs between images of one size
            raise NotFusable("it asks how its image lies in memory")
        if func is torch._C._set_grad_enabled:
            raise NotFusable("it turns gradients on or off")
        return func(*args, **(kwargs or {}))


@dataclass
class Recording:
    """A call of a module: what went in and came out, and whether the same holds for images of other sizes."""

    input: Value
    output: Value
    result: Tensor
    asks_size: bool


@dataclass
class CallFails(NotFusable):
    """A call raised an error of its own, maybe because the image has other channels than ``wanted``."""

    words: str
    wanted: int | None

    def __str__(self) -> str:
        return self.words


def record(
    module: nn.Module,
    x: Tensor,
    value: Value,
    options: Options = NO_OPTIONS,
    kept: Sequence[Tensor] | None = None,
) -> Recording:
    """A call of ``module.forward`` with x, whose value is ``value``, and ``options``.

    ``kept``: beside parameters and buffers what the call may not change, by default x.
    Raises NotFusable where the graph would not say all that the call does.
    """
    kept = [x] if kept is None else kept
    operators = _Operators(x, value, [*module.parameters(), *module.buffers()], kept)
    questions, before = _Questions(), _attributes(module)
    try:
        with undisturbed(x.device), without_hooks(module), questions, operators:
            y = module.forward(x, *options[0], **dict(options[1]))
        if _changed(module, before):
            raise NotFusable("it keeps what it computes")
    except NotFusable:
        raise
    except Exception as error:  # the module's own, for an input that is none of its
        words = " ".join(f"a call fails: {type(error).__name__}: {error}".split())
        raise CallFails(words[:MOST_WORDS], operators.wanted_channels) from None
    finally:
        _restore(module, before)
    if not isinstance(y, Tensor):
        raise NotFusable(f"it returns a {type(y).__name__}")
    if operators.keeps_a_result(y):
        raise NotFusable("it keeps what it computes")
    return Recording(value, operators.value(y), y, questions.size or operators.has_fixed_window)


MOST_WORDS = 160  # of an error, whose text may be a page


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """For a call of a module's own code that is to leave no trace, nor depend on where it comes from."""
    devices = [device] if device.type == "cuda" else []
    can_cast = torch.amp.is_autocast_available(device.type)
    no_autocast = torch.autocast(device.type, enabled=False) if can_cast else nullcontext()
    with eager_only(), torch.no_grad(), no_autocast, torch.random.fork_rng(devices=devices):
        yield


# Held while a module lacks its hooks, and by whoever looks at them: calls in other threads may do.
hooks_are_changing = threading.RLock()

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


@contextmanager
def without_hooks(module: nn.Module) -> Iterator[None]:
    """Calls of the modules inside ``module`` run no hooks: a trial is nothing that a user wants to see."""
    with hooks_are_changing:
        held = [
            (vars(each), name, vars(each)[name])
            for each in module.modules()
            for name in _HOOKS
            if vars(each)[name]
        ]
        try:
            for attributes, name, _ in held:
                attributes[name] = OrderedDict()
            yield
        finally:
            for attributes, name, hooks in held:
                attributes[name] = hooks


_Attributes = list[tuple[nn.Module, dict[str, Any]]]


def _attributes(module: nn.Module) -> _Attributes:
    return [(each, dict(vars(each))) for each in module.modules()]


def _changed(module: nn.Module, before: _Attributes) -> bool:
    now = _attributes(module)
    return len(now) != len(before) or any(
        [*map(id, held.values())] != [*map(id, vars(each).values())] for each, held in before
    )


def _restore(module: nn.Module, before: _Attributes) -> None:
    for each, held in before:
        if [*map(id, held.values())] != [*map(id, vars(each).values())]:
            vars(each).clear()
            vars(each).update(held)
