from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from mnv2_kernels import _native

# What setup.py builds in; with MNV2_BUILD_TESTS=ON, as make test has it, the C++ tests' programs, too.
RELEASE = Path(__file__).resolve().parent.parent / "build" / f"{sys.implementation.cache_tag}-release"

# Triton's decorators look at it when kernels are imported: without a GPU they run in the interpreter.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

SUPPORTED_ISAS = [isa["name"] for isa in _native.isas() if isa["compiled"] and isa["supported"]]

# No deadline: the first call pays for torch's own start-up. Derandomised: a red run is red again.
settings.register_profile("mnv2", deadline=None, derandomize=True)
settings.load_profile("mnv2")


# On top of other parameters it varies fastest, so that a cached float64 result serves every instruction set.
every_isa = pytest.mark.parametrize("isa", SUPPORTED_ISAS, indirect=True)
# For float32 weights: of the others, each leaves them to one of these (tests/cpp/test_dispatch.cpp).
every_float32_isa = pytest.mark.parametrize(
    "isa", [isa for isa in SUPPORTED_ISAS if not isa.endswith("16")], indirect=True
)


def _repeats_a_float32_isa(item: pytest.Item) -> bool:
    """Whether an instruction set of a 16-bit type would leave the test's dtype to one of float32."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    isa, dtype = str(parameters.get("isa", "")), parameters.get("dtype")
    own = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(isa[-4:])
    return own is not None and isinstance(dtype, torch.dtype) and dtype != own


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    repeated = [item for item in items if _repeats_a_float32_isa(item)]
    if repeated:
        config.hook.pytest_deselected(items=repeated)
        items[:] = [item for item in items if not _repeats_a_float32_isa(item)]


@pytest.fixture
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The instruction set of ``every_isa``, forced for what is packed during the test."""
    monkeypatch.setenv("MNV2_FORCE_ISA", request.param)
    return request.param


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """float64 convolutions meet at a barrier for every group: on a busy machine two threads crawl."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """torch.set_num_threads, undone after the test."""
    threads = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(threads)
