"""Each layer of MobileNetV2 1.0 at 224 x 224 by its own operator, on packed weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from cases import Shape, make_case
from conftest import ALL_THREADS, THREADS
from tolerances import assert_within_rounding

from mnv2_kernels import shapes
from mnv2_kernels.dtypes import dtype_name

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
BATCHES = (1, 8, 32)
# The quick ones: of each kind of layer the first, and a block each of early and late.
QUICK_LAYERS = ("stem", "block1", "block12", "head")


def layers(batch: int) -> dict[str, Shape]:
    """All by name, repeated blocks included."""
    network = shapes.mobilenet_v2(batch=batch)
    blocks = {f"block{index}": block for index, block in enumerate(network.blocks)}
    return {"stem": network.stem, **blocks, "head": network.head}


def parameters() -> Iterator[object]:
    for batch in BATCHES:
        for name, shape in layers(batch).items():
            for dtype in DTYPES:
                for threads in THREADS:
                    quick = name in QUICK_LAYERS and (batch, dtype, threads) == (
                        1,
                        torch.float32,
                        ALL_THREADS,
                    )
                    label = f"{name}-b{batch}-{dtype_name(dtype)}-t{threads}" + ("-quick" if quick else "")
                    yield pytest.param(shape, dtype, threads, id=label)


@pytest.mark.parametrize(("shape", "dtype", "threads"), list(parameters()), indirect=["threads"])
def test_layer(shape: Shape, dtype: torch.dtype, threads: int, timed: Callable[..., None]) -> None:
    case = make_case(shape, dtype)
    packed = case.pack()
    assert_within_rounding(case, case.run_packed(packed))
    timed(lambda: case.run_packed(packed), shape.macs, shape.floor_bytes(dtype), threads)
