"""CUDA graphs by input: on a GPU where there is one; what is kept and when, by a stand-in on the CPU."""

from __future__ import annotations

import copy
import pickle
from contextlib import nullcontext

import pytest
import torch
from models import small
from torch import Tensor, nn

from mnv2_kernels.nn import cuda_graphs
from mnv2_kernels.nn.cuda_graphs import LARGEST_BATCH, MAX_GRAPHS, Captured, GraphedNetwork, static_copy

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Stream:
    """A stream and an event in one, which write down what is asked of them."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def wait_event(self, event: Stream) -> None:
        self.calls.append("wait")

    def wait_stream(self, stream: Stream) -> None:
        self.calls.append("wait")

    def record(self, stream: Stream) -> None:
        stream.calls.append("record")

    def synchronize(self) -> None:
        self.calls.append("synchronize")


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    stream = Stream()
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(cuda_graphs, "_is_small_on_cuda", lambda x: 0 < x.shape[0] <= LARGEST_BATCH)
    return stream


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class Recorder:
    """Captures without a GPU."""

    def __init__(self) -> None:
        self.captured = 0
        self.event = Stream()  # of all graphs

    def __call__(self, network: nn.Module, x: Tensor) -> Captured:
        self.captured += 1
        static, output = static_copy(x), static_copy(network(x))
        return Captured(static, output, lambda: output.copy_(network(static)), self.event)


def images(batch: int = 1, size: int = 4) -> Tensor:
    return torch.randn(batch, 3, size, size)


def test_a_shape_is_captured_once(stream: Stream) -> None:
    recorder = Recorder()
    network = GraphedNetwork(Double(), recorder)
    first, second = images(), images()
    y = network(first)
    assert torch.equal(network(second), 2 * second)
    assert torch.equal(y, 2 * first), "the first result was written over"
    assert recorder.captured == 1
    assert stream.calls == ["wait", "record"] * 2


@pytest.mark.parametrize(
    "other",
    [images(2), images(size=5), images().half(), images().to(memory_format=torch.channels_last)],
    ids=["batch", "size", "dtype", "strides"],
)
def test_another_input_is_captured_anew(stream: Stream, other: Tensor) -> None:
    recorder = Recorder()
    network = GraphedNetwork(Double(), recorder)
    network(images())
    assert torch.equal(network(other), 2 * other)
    assert recorder.captured == 2


def test_another_autocast_is_captured_anew(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    network = GraphedNetwork(Double(), recorder)
    network(images())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device == "cuda")
    network(images())
    network(images())
    assert recorder.captured == 2


def test_graphs_used_last_are_kept(stream: Stream) -> None:
    recorder = Recorder()
    network = GraphedNetwork(Double(), recorder)
    for size in range(1, MAX_GRAPHS + 1):
        network(images(size=size))
    network(images(size=1))
    assert recorder.event.calls == []
    network(images(size=MAX_GRAPHS + 1))
    assert recorder.event.calls == ["synchronize"]  # what it still ran may use the memory it leaves
    assert recorder.captured == MAX_GRAPHS + 1
    network(images(size=1))
    assert recorder.captured == MAX_GRAPHS + 1
    network(images(size=2))
    assert recorder.captured == MAX_GRAPHS + 2


@pytest.mark.parametrize("batch", [0, LARGEST_BATCH + 1])
def test_other_batches_run_directly(stream: Stream, batch: int) -> None:
    recorder = Recorder()
    x = images(batch)
    assert torch.equal(GraphedNetwork(Double(), recorder)(x), 2 * x)
    assert recorder.captured == 0


def test_a_gradient_is_not_lost(stream: Stream) -> None:
    recorder = Recorder()
    x = images().requires_grad_()
    GraphedNetwork(Double(), recorder)(x).sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 2.0))
    assert recorder.captured == 0


def test_a_transformed_call_runs_directly(stream: Stream) -> None:
    recorder = Recorder()
    x = torch.randn(2, 1, 3, 4, 4)
    assert torch.equal(torch.vmap(GraphedNetwork(Double(), recorder))(x), 2 * x)
    assert recorder.captured == 0


def test_a_copy_has_graphs_of_its_own(stream: Stream) -> None:
    recorder = Recorder()
    network = GraphedNetwork(Double(), recorder)
    network(images())
    copy.deepcopy(network)(images())
    assert recorder.captured == 2
    with pytest.raises(RuntimeError, match="not saved"):
        pickle.dumps(network)


@pytest.mark.parametrize("first", [True, False])
def test_a_graph_serves_in_inference_mode_and_out_of_it(stream: Stream, first: bool) -> None:
    recorder = Recorder()
    network = GraphedNetwork(Double(), recorder)
    for inference in (first, not first):
        with torch.inference_mode(inference):
            x = images()
            assert torch.equal(network(x), 2 * x)
    assert recorder.captured == 1


def test_the_cpu_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"^deploy: expected parameters on cuda for cuda_graphs, got cpu$"):
        small().deploy(cuda_graphs=True)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_graphs_give_the_bits_of_the_network(dtype: torch.dtype) -> None:
    model = small().cuda().to(dtype)
    network, graphed = model.deploy(), model.deploy(cuda_graphs=True)
    for size in (33, 46, 33):
        x = torch.randn(2, 3, size, size, device="cuda", dtype=dtype)
        assert torch.equal(graphed(x), network(x))
    assert len(graphed.network._graphs) == 2


@needs_gpu
def test_graphs_on_two_streams_do_not_meet() -> None:
    model = small().cuda()
    graphed, network = model.deploy(cuda_graphs=True), model.deploy()
    inputs = [torch.randn(2, 3, 64, 64, device="cuda") for _ in range(2)]
    expected = [network(x) for x in inputs]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in inputs]
    for _ in range(20):
        results = []
        for x, stream in zip(inputs, streams, strict=True):
            with torch.cuda.stream(stream):
                results.append(graphed(x))
        torch.cuda.synchronize()
        assert all(map(torch.equal, results, expected))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_graphs_of_two_devices_run_on_their_own() -> None:
    for device in ("cuda:0", "cuda:1"):
        model = small().to(device)
        network, graphed = model.deploy(), model.deploy(cuda_graphs=True)
        for _ in range(2):
            x = torch.randn(2, 3, 64, 64, device=device)
            assert torch.equal(graphed(x), network(x))
