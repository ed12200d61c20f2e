"""A network of kernels as a CUDA graph for each input: at small batches launches take longer than kernels."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from ..fusion.inference import is_traced, is_transformed, wants_gradient
from ..packing.packed_layers import NOT_SAVED, outside_inference_mode

# Each holds the activations of a network; a server meets few shapes.
MAX_GRAPHS = 8

# At 32 images the first blocks take some 20 us on an H100, as long as the host needs for an operator.
LARGEST_BATCH = 32

WARM_UP_RUNS = 2  # before a capture: the first loads code, the second allocates as all later ones do

Capture = Callable[[nn.Module, Tensor], "Captured"]

# PyTorch captures one graph at a time in a process, whichever network it belongs to.
_one_capture = threading.RLock()


class Captured(NamedTuple):
    """``run`` computes ``output`` from ``input``; ``event`` is when their last user was done with them."""

    input: Tensor
    output: Tensor
    run: Callable[[], None]
    event: torch.cuda.Event


def capture(network: nn.Module, x: Tensor) -> Captured:
    """The network as a CUDA graph on a copy of ``x``."""
    with _one_capture, torch.cuda.device(x.device):
        static = static_copy(x)
        # torch's own stream belongs to the first device that was captured on, and would record nothing.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                network(static)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Not "global", under which an allocation of another thread fails, and the capture with it.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            output = network(static)
        return Captured(static, output, graph.replay, torch.cuda.Event())


def static_copy(x: Tensor) -> Tensor:
    """A copy that later calls write to, in inference mode or out of it."""
    with outside_inference_mode():
        return x.clone()


class GraphedNetwork(nn.Module):
    """Runs a network by CUDA graphs, one for each shape, dtype, device and autocast that it meets.

    The ``MAX_GRAPHS`` that were used last are kept. It runs the network itself for batches above
    ``LARGEST_BATCH``, off CUDA, and where the call is traced, transformed or captured by somebody else. The
    graphs read the network's weights where they are: they have to stay there.
    """

    def __init__(self, network: nn.Module, capture: Capture = capture) -> None:
        super().__init__()
        self.network = network
        self._capture = capture
        self._graphs: OrderedDict[tuple[Any, ...], Captured] = OrderedDict()
        self._lock = threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        if not _worth_a_graph(x):
            return self.network(x)
        with self._lock, torch.cuda.device(x.device):
            graph = self._lookup(x)
            stream = torch.cuda.current_stream()
            stream.wait_event(graph.event)
            graph.input.copy_(x)
            graph.run()
            y = graph.output.clone()
            graph.event.record(stream)
        return y

    def _lookup(self, x: Tensor) -> Captured:
        key = (x.shape, x.stride(), x.dtype, x.device, _autocast_dtype())
        graph = self._graphs.get(key)
        if graph is None:
            graph = self._graphs[key] = self._capture(self.network, x)
            if len(self._graphs) > MAX_GRAPHS:
                self._drop_oldest()
        self._graphs.move_to_end(key)
        return graph

    def _drop_oldest(self) -> None:
        """Once its last run is over: on another stream it may still read the memory that this gives back."""
        _, graph = self._graphs.popitem(last=False)
        graph.event.synchronize()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GraphedNetwork:
        while self._graphs:  # weights move
            self._drop_oldest()
        return super()._apply(fn, recurse)

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphedNetwork:
        return GraphedNetwork(copy.deepcopy(self.network, memo), self._capture)

    def __getstate__(self) -> NoReturn:
        raise RuntimeError(NOT_SAVED)


def _worth_a_graph(x: Tensor) -> bool:
    if is_traced() or is_transformed(x) or wants_gradient(x):
        return False
    return _is_small_on_cuda(x) and not torch.cuda.is_current_stream_capturing()


def _is_small_on_cuda(x: Tensor) -> bool:
    return x.is_cuda and x.dim() == 4 and 0 < x.shape[0] <= LARGEST_BATCH


def _autocast_dtype() -> torch.dtype | None:
    return torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
