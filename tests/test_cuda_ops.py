"""The operators of libmnv2_cuda for layers: on a GPU where there is one, else in the emulator."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from cases import DTYPES, Case, Shape, make_case, shape_id
from cuda_operators import DEVICE, ON_GPU, OPS, needs_cuda_library, needs_gpu, to_device
from models import small
from test_errors import BLOCK, DIRECT, HEAD, STEM, call, call_packed
from torch import Tensor
from torch._subclasses import FakeTensorMode

from mnv2_kernels.dtypes import dtype_name
from mnv2_kernels.ops import OPERATORS
from mnv2_kernels.shapes import BlockShape, HeadShape, StemShape

BLOCK_SHAPES = (
    BlockShape(2, 7, 9, 24, 144, 24, residual=True),  # in registers
    BlockShape(2, 7, 9, 64, 384, 64, residual=True),  # in shared memory
    BlockShape(2, 8, 9, 20, 52, 12, stride=2),  # no multiples of eight
    BlockShape(2, 8, 5, 16, 16, 24, expand=False),
)
STEM_SHAPE = StemShape(2, 11, 14, 3, 32)
HEAD_SHAPE = HeadShape(2, 7, 7, 56, 96)
EVERY_OPERATOR = (*BLOCK_SHAPES, STEM_SHAPE, HEAD_SHAPE)
LINEAR = "linear in_channels=20 out_channels=7"

every_shape = pytest.mark.parametrize("shape", EVERY_OPERATOR, ids=shape_id)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)


def run(case: Case, x: Tensor | None = None) -> Tensor:
    x = case.x if x is None else x
    return getattr(OPS, case.op)(x.to(DEVICE), *to_device(case.weights), **case.options).cpu()


def pack(case: Case) -> Tensor:
    return OPS.pack(to_device(case.weights), layers=case.layers)


def run_packed(case: Case, packed: Tensor) -> Tensor:
    return OPS.run(case.x.to(DEVICE), packed, layers=case.layers).cpu()


# --- accuracy ---


# --- options ---


# --- special values ---


# --- bits ---


# --- linear: torch's own ---


# --- packed weights and their lengths ---


@pytest.mark.parametrize("layers", [BLOCK.layers, f"{STEM.layers}; {DIRECT.layers}", LINEAR])
def test_cuda_lengths_tell_dtypes_apart(layers: str) -> None:
    layers = layers.replace("out_channels=8", "out_channels=16")  # of the stem, as the block takes
    lengths = [OPS.cuda_packed_bytes(layers, dtype=dtype_name(dtype)) for dtype in DTYPES]
    assert len(set(lengths)) == len(DTYPES)


@pytest.mark.parametrize("case", [BLOCK, DIRECT, STEM, HEAD], ids=lambda case: case.op)
def test_cuda_weights_packed_for_others_are_refused(case: Case) -> None:
    packed = pack(case)
    lengths = (
        r"expected one of \(\d+, \d+, \d+\) bytes, as packed for these arguments on this device, got \d+"
    )
    with pytest.raises(RuntimeError, match=rf"^mnv2::run: packed: {lengths}$"):
        run_packed(case, packed[1:].clone())
    half = Case(case.shape, case.x, tuple(None if each is None else each.half() for each in case.weights))
    message = r"^mnv2::run: x: expected dtype float16 \(the packed weights'\), got float32$"
    with pytest.raises(RuntimeError, match=message):
        run_packed(case, pack(half))
    shifted = torch.empty(packed.numel() + 1, dtype=torch.uint8, device=packed.device)[1:].copy_(packed)
    with pytest.raises(RuntimeError, match="data aligned to 16 bytes, got a view at an odd offset"):
        run_packed(case, shifted)


@needs_cuda_library
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=dtype_name)
def test_cuda_fakes_are_as_long_as_what_is_packed(dtype: torch.dtype) -> None:
    for case in (BLOCK, DIRECT, STEM, HEAD):
        cast = Case(
            case.shape, case.x, tuple(None if each is None else each.to(dtype) for each in case.weights)
        )
        with FakeTensorMode():
            fakes = [
                None if each is None else torch.empty(each.shape, dtype=dtype, device="cuda")
                for each in cast.weights
            ]
            fake = torch.ops.mnv2.pack(fakes, layers=case.layers)
        assert (fake.device.type, fake.dtype, fake.shape) == ("cuda", torch.uint8, pack(cast).shape)
    with FakeTensorMode():
        fake = torch.ops.mnv2.pack([torch.empty(7, 20, dtype=dtype, device="cuda"), None], layers=LINEAR)
    assert fake.shape == OPS.pack([torch.randn(7, 20, device=DEVICE).to(dtype), None], layers=LINEAR).shape


# --- refusals ---


@pytest.mark.skipif(ON_GPU, reason="compares with the refusals of the CPU's operators, which name its device")
@pytest.mark.parametrize(
    ("case", "changed"),
    [
        (BLOCK, {"x": BLOCK.x.double()}),
        (BLOCK, {"x": BLOCK.x[0]}),
        (BLOCK, {"expand_weight": torch.zeros(96, 24, 1, 1)}),
        (BLOCK, {"stride": 3}),
        (BLOCK, {"activation": "gelu"}),
        (DIRECT, {"expand_bias": torch.zeros(16)}),
        (STEM, {"weight": torch.zeros(8, 3, 1, 1)}),
        (HEAD, {"x": HEAD.x[:, :, :0]}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value.op,
)
def test_cuda_refuses_what_the_cpu_refuses(
    monkeypatch: pytest.MonkeyPatch, case: Case, changed: dict[str, object]
) -> None:
    with pytest.raises(RuntimeError) as expected:
        call(case, **changed)
    monkeypatch.setattr(torch, "ops", SimpleNamespace(mnv2=OPS))
    with pytest.raises(RuntimeError) as refused:
        call(case, **changed)
    assert str(refused.value) == str(expected.value)
    if set(changed) == {"x"}:
        with pytest.raises(RuntimeError, match=r"^mnv2::run: x: expected "):
            call_packed(case, **changed)


@pytest.mark.parametrize("name", OPERATORS)
def test_cuda_has_every_operator_of_a_layer(name: str) -> None:
    key = "CUDA" if ON_GPU else "CPU"
    library = "mnv2" if ON_GPU else "mnv2_emulated"
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"{library}::{name}", key)


# --- a network, layer by layer; in one call: test_cuda_network.py ---


# --- torch's streams, devices and graphs ---


@needs_gpu
def test_cuda_kernels_follow_the_current_stream() -> None:
    case = make_case(BlockShape(64, 56, 56, 24, 144, 24, residual=True), torch.float16)
    packed, x, expected = pack(case), case.x.to(DEVICE), run(case)
    stream = torch.cuda.Stream()
    for _ in range(20):
        late = torch.zeros_like(x)
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(10_000_000)
            late.copy_(x)
            y = OPS.run(late, packed, layers=case.layers)
        stream.synchronize()
        assert torch.equal(y.cpu(), expected)


@needs_gpu
def test_cuda_threads_share_a_kernel_whose_launches_want_different_memory() -> None:
    shapes = [BlockShape(2, 14, 14, channels, 96, channels) for channels in (96, 160)]
    cases = [make_case(shape, torch.float16) for shape in shapes] * 50
    expected = [run(case) for case in cases]
    with ThreadPoolExecutor(2) as pool:
        assert all(map(torch.equal, pool.map(run, cases), expected))


@needs_gpu
@every_shape
def test_cuda_packing_and_running_can_be_captured(shape: Shape) -> None:
    case = make_case(shape, torch.float16)
    x, weights = case.x.to(DEVICE), to_device(case.weights)
    op = getattr(OPS, case.op)
    expected = op(x, *weights, **case.options)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = op(x, *weights, **case.options)
    y.zero_()
    graph.replay()
    assert torch.equal(y, expected)


@needs_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_cuda_kernels_run_where_their_tensors_are() -> None:
    case = make_case(BlockShape(2, 7, 9, 24, 144, 24), torch.float16)
    weights = [weight.to("cuda:1") for weight in case.weights]
    with torch.cuda.device(0):
        y = OPS.fused_block(case.x.to("cuda:1"), *weights, **case.options)
        assert torch.cuda.current_device() == 0
    assert torch.equal(y.cpu(), run(case))


@needs_gpu
@every_dtype
def test_cuda_models_compile_with_reduced_overhead(dtype: torch.dtype) -> None:
    model = small().to(DEVICE, dtype).deploy()
    x = torch.randn(2, 3, 64, 64, device=DEVICE, dtype=dtype)
    compiled = torch.compile(model, fullgraph=True, mode="reduce-overhead")
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(compiled(x), model(x))


@needs_gpu
def test_cuda_autocast_takes_images_to_its_dtype() -> None:
    case = make_case(BLOCK_SHAPES[0])
    x, weights = case.x.to(DEVICE), to_device(case.weights)
    with torch.autocast("cuda", torch.float16):
        y = torch.ops.mnv2.fused_block(x, *weights, **case.options)
    assert torch.equal(y, torch.ops.mnv2.fused_block(x.half(), *weights, **case.options))
