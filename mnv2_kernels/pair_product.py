"""Which layers may be computed by the pair product, and why.

It takes a multiply-add and two additions in the place of two multiply-adds, which is faster where additions
have ports of their own. csrc/core/pair_product.h has the arithmetic, csrc/cpu/pair_choice.cpp the choice.
"""

from __future__ import annotations

import os
from typing import Literal, get_args

from . import _native

VARIABLE = "MNV2_PAIR_PRODUCT"

# None; expands and heads that pass the accuracy test when they are packed; and all projects, too.
PairProduct = Literal["off", "safe", "all"]
PAIR_PRODUCTS: tuple[PairProduct, ...] = get_args(PairProduct)


def check_pair_product(value: object) -> None:
    """Raises ValueError unless ``value`` is one of the choices, or None for the machine's own."""
    if value is not None and value not in PAIR_PRODUCTS:
        raise ValueError(f"pair_product: expected one of {', '.join(PAIR_PRODUCTS)}, or None, got {value!r}")


def modes(dtype: str) -> tuple[PairProduct, ...]:
    """The choices there are for weights of a dtype: just "off" where the kernels have no pair product."""
    return PAIR_PRODUCTS if _native.has_pair_product(dtype) else ("off",)


def selected(wanted: PairProduct | None, dtype: str) -> PairProduct:
    """What weights of a dtype are packed with where a module asks for ``wanted``."""
    if wanted is not None and _native.has_pair_product(dtype):
        return wanted
    return _native.selected_pair_product(dtype)


def selection_reason() -> str:
    """Why ``_native.selected_pair_product()`` is what it is."""
    if not _native.has_pair_product():
        return f"{_native.selected_isa()} has no kernels for it"
    if os.environ.get(VARIABLE):
        return f"set by {VARIABLE}"
    if _native.additions_are_free():
        return "additions have ports of their own, as measured"
    return "additions take the multiply-adds' ports, as measured"
