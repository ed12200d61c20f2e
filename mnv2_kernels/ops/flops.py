"""FLOP formulas for torch's FlopCounterMode: two for every multiply-accumulate of shapes.py."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

from ..layer import Layer, LayerKind, layer_of_operator, layer_shapes, parse_layers

COUNTER_MODULE = "torch.utils.flop_counter"

Shape = Sequence[int]


def _macs(layers: Sequence[Layer], x: Shape) -> int:
    batch, _, height, width = (*x, 1, 1)[:4]
    return sum(shape.macs for shape in layer_shapes(layers, batch, height, width))


def _layer_formula(kind: LayerKind) -> Callable[..., int]:
    def formula(x: Shape, *weights: Shape | None, out_shape: Any = None, **options: Any) -> int:
        outputs = [None if weight is None else weight[0] for weight in weights]
        return 2 * _macs([layer_of_operator(kind, x[1], outputs, options)], x)

    return formula


def _run_formula(x: Shape, packed: Shape, *, layers: str, out_shape: Any = None) -> int:
    return 2 * _macs(parse_layers(layers), x)


FORMULAS = {
    "fused_block": _layer_formula("block"),
    "stem": _layer_formula("stem"),
    "head_pool": _layer_formula("head_pool"),
    "linear": _layer_formula("linear"),
    "run": _run_formula,
}


def _register(counter: ModuleType) -> None:
    for name, formula in FORMULAS.items():
        counter.register_flop_formula(getattr(torch.ops.mnv2, name))(formula)


class _CounterFinder(MetaPathFinder):
    """Finds torch.utils.flop_counter as everybody does, and has the formulas registered once it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != COUNTER_MODULE or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_then_register(module: ModuleType) -> None:
            execute(module)
            _register(module)

        spec.loader.exec_module = execute_then_register  # type: ignore[method-assign]
        return spec


def register_on_import() -> None:
    """Registers the formulas as soon as torch.utils.flop_counter is imported, but does not import it.

    That module imports Triton where it is installed: 85 ms and 77 MB beside torch's 1.3 s and 520 MB, and
    TRITON_INTERPRET would be read before a program sets it. FlopCounterMode copies the formulas when it is
    made, so that the first call of an operator would be too late.
    """
    if COUNTER_MODULE in sys.modules:
        _register(sys.modules[COUNTER_MODULE])
    else:
        sys.meta_path.insert(0, _CounterFinder())
