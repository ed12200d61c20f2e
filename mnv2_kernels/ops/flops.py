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

from ..layer import layer_shapes, parse_layers
from ..shapes import SYMMETRIC_PADDING, BlockShape, ClassifierShape, HeadShape, StemShape, as_padding

COUNTER_MODULE = "torch.utils.flop_counter"

Shape = Sequence[int]


def _image_size(x: Shape) -> tuple[int, int, int]:
    return x[0], x[2], x[3]


def fused_block(
    x: Shape,
    expand_weight: Shape | None,
    expand_scale: Shape | None,
    expand_bias: Shape | None,
    depthwise_weight: Shape,
    depthwise_scale: Shape | None,
    depthwise_bias: Shape | None,
    project_weight: Shape,
    *_: Shape | None,
    stride: int = 1,
    padding: Sequence[int] = SYMMETRIC_PADDING,
    **__: Any,
) -> int:
    out_channels, expanded_channels = project_weight[:2]
    channels = (x[1], expanded_channels, out_channels)
    expand = expand_weight is not None
    return 2 * BlockShape(*_image_size(x), *channels, stride, as_padding(padding), expand=expand).macs


def stem(
    x: Shape,
    weight: Shape,
    *_: Shape | None,
    stride: int = 2,
    padding: Sequence[int] = SYMMETRIC_PADDING,
    **__: Any,
) -> int:
    return 2 * StemShape(*_image_size(x), x[1], weight[0], stride, as_padding(padding)).macs


def head_pool(x: Shape, weight: Shape, *_: Shape | None, **__: Any) -> int:
    return 2 * HeadShape(*_image_size(x), x[1], weight[0]).macs


def linear(x: Shape, weight: Shape, *_: Shape | None, **__: Any) -> int:
    return 2 * ClassifierShape(x[0], x[1], weight[0]).macs


def run(x: Shape, packed: Shape, *, layers: str, **_: Any) -> int:
    image = (x[0], 1, 1) if len(x) == 2 else _image_size(x)
    return 2 * sum(shape.macs for shape in layer_shapes(parse_layers(layers), *image))


FORMULAS: tuple[Callable[..., int], ...] = (fused_block, stem, head_pool, linear, run)


def _register(counter: ModuleType) -> None:
    for formula in FORMULAS:
        counter.register_flop_formula(getattr(torch.ops.mnv2, formula.__name__))(formula)


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
