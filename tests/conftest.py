from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import settings

from mnv2_kernels import _native

# Triton's decorators look at it when kernels are imported: without a GPU they run in the interpreter.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

SUPPORTED_ISAS = [isa["name"] for isa in _native.isas() if isa["compiled"] and isa["supported"]]

# No deadline: the first call pays for torch's own start-up. Derandomised: a red run is red again.
settings.register_profile("mnv2", deadline=None, derandomize=True)
settings.load_profile("mnv2")


# On top of other parameters it varies fastest, so that a cached float64 result serves every instruction set.
every_isa = pytest.mark.parametrize("isa", SUPPORTED_ISAS, indirect=True)


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
