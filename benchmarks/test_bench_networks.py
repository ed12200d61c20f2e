"""The whole network in one call, from image to logits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from conftest import ALL_THREADS, THREADS

from mnv2_kernels import FusedMobileNetV2, shapes
from mnv2_kernels.bench.accuracy import LARGEST_ERROR
from mnv2_kernels.bench.setting import torch_threads
from mnv2_kernels.dtypes import dtype_name
from mnv2_kernels.nn.networks import eager_copy
from mnv2_kernels.weights.sources import random_model

WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.4)
SIZES = (96, 128, 160, 192, 224, 320, 512)
BATCHES = (1, 8, 32)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
QUICK = ((0.35, 96, 1), (1.0, 224, 1), (1.0, 224, 8), (1.4, 224, 1))
# The float64 reference of more images than these would take longer than what it verifies.
VERIFIED_IMAGES = 2


@cache
def network(width: float) -> FusedMobileNetV2:
    return random_model(width)


@cache
def exact(width: float, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and their float64 logits."""
    x = torch.randn(VERIFIED_IMAGES, 3, size, size, generator=torch.Generator().manual_seed(0))
    # In torch's float64 convolution threads meet at every group: two can be 20 times slower than one.
    with torch_threads(1):
        return x, eager_copy(network(width)).double()(x.double())


def parameters() -> Iterator[object]:
    """Every width at 224 and every size at 1.0 with every batch, dtype and number of threads."""
    nets = dict.fromkeys([*((width, 224) for width in WIDTHS), *((1.0, size) for size in SIZES)])
    for width, size in nets:
        for batch in BATCHES:
            for dtype in DTYPES:
                for threads in THREADS:
                    yield width, size, batch, dtype, threads
    yield 0.35, 96, 1, torch.float32, ALL_THREADS


def label(width: float, size: int, batch: int, dtype: torch.dtype, threads: int) -> str:
    quick = (width, size, batch) in QUICK and (dtype, threads) == (torch.float32, ALL_THREADS)
    return f"{width}-{size}-b{batch}-{dtype_name(dtype)}-t{threads}" + ("-quick" if quick else "")


@pytest.mark.parametrize(
    ("width", "size", "batch", "dtype", "threads"),
    [pytest.param(*each, id=label(*each)) for each in parameters()],
    indirect=["threads"],
)
def test_network(
    width: float, size: int, batch: int, dtype: torch.dtype, threads: int, timed: Callable[..., None]
) -> None:
    x, truth = exact(width, size)
    with torch.inference_mode(False), torch.no_grad():
        deployed = copy.deepcopy(network(width)).to(dtype).deploy()
    # A result depends neither on the batch size nor on what else is in the batch.
    images = x.repeat(-(-batch // len(x)), 1, 1, 1)[:batch].to(dtype)
    error = (deployed(images).double() - truth.repeat(-(-batch // len(x)), 1)[:batch]).abs().max()
    assert error / truth.abs().max() < LARGEST_ERROR[dtype_name(dtype)]
    shape = shapes.mobilenet_v2(width, size, batch)
    logits_bytes = batch * shape.classifier.out_features * dtype.itemsize
    bytes_moved = shape.stem.input_bytes(dtype) + logits_bytes + shape.parameters * dtype.itemsize
    timed(lambda: deployed(images), shape.macs, bytes_moved, threads)
