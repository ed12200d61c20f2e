"""Every refusal: a RuntimeError that names operator, argument, what was expected and what came."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import Case, make_case

from mnv2_kernels import _native
from mnv2_kernels.dtypes import dtype_name
from mnv2_kernels.layer import layer_of
from mnv2_kernels.shapes import BlockShape, HeadShape, StemShape

BLOCK = make_case(BlockShape(1, 7, 7, 16, 96, 16, residual=True))
DIRECT = make_case(BlockShape(1, 7, 7, 16, 16, 24, expand=False))
STEM = make_case(StemShape(1, 9, 9, 3, 8))
HEAD = make_case(HeadShape(1, 3, 3, 8, 24))
BLOCK_WEIGHTS = [
    f"{layer}_{part}" for layer in ("expand", "depthwise", "project") for part in ("weight", "scale", "bias")
]
LAYER_WEIGHTS = ["weight", "scale", "bias"]


def arguments_of(case: Case) -> dict[str, torch.Tensor | None]:
    names = BLOCK_WEIGHTS if case.op == "fused_block" else LAYER_WEIGHTS
    return dict(zip(names, case.weights, strict=True))


def call(case: Case, **changed) -> torch.Tensor:
    """The case's operator by name of its arguments, some of them changed."""
    arguments = {"x": case.x, **arguments_of(case), **case.options, **changed}
    return getattr(torch.ops.mnv2, case.op)(**arguments)


def call_packed(case: Case, **changed) -> torch.Tensor:
    """mnv2::run, with other tensors or fields of its layer."""
    tensors = {name: changed.pop(name) for name in ("x", "packed") if name in changed}
    arguments = {"x": case.x, "packed": case.pack(), **tensors}
    return torch.ops.mnv2.run(**arguments, layers=str(replace(layer_of(case.shape), **changed)))


# From core/packed_header.h and core/packing.h, in bytes and in numbers of 32 bits.
HEADER_BYTES = LINE_BYTES = 64
HEADER_ISA = 3
NEON_BF16 = 5


def refuses(message: str):
    return pytest.raises(RuntimeError, match=f"^{re.escape(message)}$")


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


@pytest.mark.parametrize("case", [BLOCK, STEM, HEAD], ids=lambda case: case.op)
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.int64, torch.uint8, torch.complex64, torch.bool], ids=str
)
def test_dtype_of_x(case, dtype):
    name = dtype_name(dtype)
    message = f"mnv2::{{}}: x: expected dtype float32, float16 or bfloat16, got {name}"
    x = case.x.to(dtype)
    with refuses(message.format(case.op)):
        call(case, x=x)
    with refuses(message.format("run")):
        call_packed(case, x=x)


@pytest.mark.parametrize("case", [BLOCK, STEM, HEAD], ids=lambda case: case.op)
def test_none_in_the_place_of_a_tensor(case):
    weight = "project_weight" if case.op == "fused_block" else "weight"
    for name in ("x", weight):
        with refuses(f"mnv2::{case.op}: {name}: expected a tensor, got None"):
            call(case, **{name: None})
    with refuses("mnv2::run: packed: expected a tensor, got None"):
        call_packed(case, packed=None)


@pytest.mark.parametrize("case", [BLOCK, STEM, HEAD], ids=lambda case: case.op)
def test_dimensions_of_x(case):
    shape = tuple(case.x.shape[1:])
    with refuses(f"mnv2::{case.op}: x: expected 4 dimensions, got shape {shape}"):
        call(case, x=case.x[0])
    with refuses("mnv2::run: x: expected 4 dimensions, got shape ()"):
        call_packed(case, x=torch.tensor(0.0))


@pytest.mark.parametrize("case", [BLOCK, STEM, HEAD], ids=lambda case: case.op)
def test_channels_of_x(case):
    channels, x = case.shape.in_channels, case.x[:, :-1]
    with refuses(f"mnv2::run: x: expected shape (N, {channels}, H, W), got {tuple(x.shape)}"):
        call_packed(case, x=x)
    with refuses(f"mnv2::{case.op}: x: expected 1 to 1048576 channels, got 0"):
        call(case, x=case.x[:, :0])


@pytest.mark.parametrize(
    ("case", "name", "wrong"),
    [
        (BLOCK, "expand_weight", (96, 24, 1, 1)),
        (BLOCK, "expand_weight", (96, 16)),
        (BLOCK, "expand_scale", (95,)),
        (BLOCK, "expand_bias", (96, 1)),
        (BLOCK, "depthwise_weight", (96, 1, 5, 3)),
        (BLOCK, "depthwise_weight", (96,)),
        (BLOCK, "depthwise_bias", (16,)),
        (BLOCK, "project_weight", (16, 95, 1, 1)),
        (BLOCK, "project_weight", (16, 96, 1)),
        (BLOCK, "project_scale", ()),
        (DIRECT, "depthwise_weight", (24, 1, 3, 3)),
        (STEM, "weight", (8, 4, 3, 3)),
        (STEM, "weight", (8, 27)),
        (STEM, "scale", (3,)),
        (HEAD, "weight", (24, 7, 1, 1)),
        (HEAD, "bias", (25,)),
    ],
)
def test_shapes_of_weights(case, name, wrong):
    right = tuple(arguments_of(case)[name].shape)
    with refuses(f"mnv2::{case.op}: {name}: expected shape {right}, got {wrong}"):
        call(case, **{name: zeros(*wrong)})


@pytest.mark.parametrize(
    ("case", "changed", "message"),
    [
        *[
            (DIRECT, {name: zeros(16)}, f"{name}: expected None without an expand, got a tensor")
            for name in ("expand_scale", "expand_bias")
        ],
        (STEM, {"weight": zeros(0, 3, 3, 3)}, "weight: expected 1 to 1048576 channels, got 0"),
        (
            BLOCK,
            {"depthwise_weight": zeros()},
            "depthwise_weight: expected a weight for each output channel, got shape ()",
        ),
    ],
)
def test_weights_that_no_layer_has(case, changed, message):
    with refuses(f"mnv2::{case.op}: {message}"):
        call(case, **changed)


@pytest.mark.parametrize("name", BLOCK_WEIGHTS)
def test_dtypes_of_weights(name):
    weights = dict(zip(BLOCK_WEIGHTS, BLOCK.weights, strict=True))
    with refuses(f"mnv2::fused_block: {name}: expected dtype float32, float16 or bfloat16, got float64"):
        call(BLOCK, **{name: weights[name].double()})
    with refuses(f"mnv2::fused_block: {name}: expected dtype float32 or float16 (x's), got bfloat16"):
        call(BLOCK, x=BLOCK.x.half(), **{name: weights[name].bfloat16()})


def test_weights_that_do_not_fit_their_layers():
    with refuses("mnv2::pack: project_bias: expected shape (16,), got (1,)"):
        torch.ops.mnv2.pack([*BLOCK.weights[:-1], zeros(1)], layers=BLOCK.layers)
    with refuses("mnv2::pack: weight: expected shape (8, 3, 3, 3), got (8, 3, 1, 1)"):
        torch.ops.mnv2.pack([zeros(8, 3, 1, 1), None, None], layers=STEM.layers)
    with refuses("mnv2::pack: scale: expected dtype float32, float16 or bfloat16, got int64"):
        torch.ops.mnv2.pack([HEAD.weights[0], zeros(24, dtype=torch.int64), None], layers=HEAD.layers)
    with refuses("mnv2::pack: expand_weight: expected a tensor, got None"):
        torch.ops.mnv2.pack([None, *BLOCK.weights[1:]], layers=BLOCK.layers)


ACTIVATION = 'expected "none", "relu", "relu6", "hardswish" or "silu"'
PADDING = "padding: expected (top, left, bottom, right), each 0 or 1"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stride": 3}, "stride: expected 1 or 2, got 3"),
        ({"stride": 0}, "stride: expected 1 or 2, got 0"),
        ({"padding": [1, 1]}, f"{PADDING}, got (1, 1)"),
        ({"padding": [1, 1, 2, 1]}, f"{PADDING}, got (1, 1, 2, 1)"),
        ({"padding": [-1, 0, 0, 0]}, f"{PADDING}, got (-1, 0, 0, 0)"),
        ({"activation": "gelu"}, f'activation: {ACTIVATION}, got "gelu"'),
        ({"project_activation": ""}, f'project_activation: {ACTIVATION}, got ""'),
        ({"depthwise_activation": "gelu"}, f'depthwise_activation: {ACTIVATION}, got "gelu"'),
        ({"squeeze_activation": "gelu"}, f'squeeze_activation: {ACTIVATION}, got "gelu"'),
        (
            {"excite_activation": "relu"},
            'excite_activation: expected "sigmoid" or "hardsigmoid", got "relu"',
        ),
        ({"squeeze_activation": "silu"}, "squeezed_channels: expected those of a gate, got none"),
        (
            {"excite_weight": zeros(96, 8, 1, 1)},
            "squeeze_weight: expected a tensor beside those of a gate, got None",
        ),
        ({"squeeze_weight": zeros(8, 96, 1, 1)}, "excite_weight: expected a tensor, got None"),
        (
            {"squeeze_weight": zeros(8, 95, 1, 1), "excite_weight": zeros(96, 8, 1, 1)},
            "squeeze_weight: expected shape (8, 96, 1, 1), got (8, 95, 1, 1)",
        ),
        (
            {
                "squeeze_weight": zeros(8, 96, 1, 1),
                "excite_weight": zeros(96, 8, 1, 1),
                "excite_bias": zeros(8),
            },
            "excite_bias: expected shape (96,), got (8,)",
        ),
        ({"depthwise_weight": zeros(96, 1, 4, 4)}, "kernel: expected 3, 5 or 7, got 4"),
        (
            {"depthwise_weight": zeros(96, 1, 5, 5)},
            "residual: expected padding (2, 2, 2, 2), got (1, 1, 1, 1)",
        ),
        ({"stride": 2}, "residual: expected stride 1, got 2"),
        ({"padding": [0, 0, 1, 1]}, "residual: expected padding (1, 1, 1, 1), got (0, 0, 1, 1)"),
        (
            {"project_weight": zeros(24, 96, 1, 1), "project_scale": None, "project_bias": None},
            "residual: expected equal input and output channels, got 16 and 24",
        ),
    ],
)
def test_options(changed, message):
    with refuses(f"mnv2::fused_block: {message}"):
        call(BLOCK, **changed)


@pytest.mark.parametrize(
    ("case", "size", "padding"),
    [(DIRECT, (2, 2), (0, 0, 0, 0)), (DIRECT, (0, 5), (1, 1, 1, 1)), (STEM, (5, 1), (1, 0, 1, 1))],
)
def test_an_image_too_small_for_one_output(case, size, padding):
    x = zeros(1, case.shape.in_channels, *size)
    message = f"expected a height and width of at least 3 with padding {padding}, got shape {tuple(x.shape)}"
    with refuses(f"mnv2::{case.op}: x: {message}"):
        call(case, x=x, padding=padding)
    with refuses(f"mnv2::run: x: {message}"):
        call_packed(case, x=x, padding=padding)


def test_sizes_whose_products_overflow():
    x = zeros(1, 3, 1, 1).expand(1, 3, 2**31, 3)
    with refuses(f"mnv2::stem: x: expected sizes of at most 2147483647, got {tuple(x.shape)}"):
        call(STEM, x=x)
    # The elements of all images overflow, or of a single one.
    for batch, size in ((2**12, 2**24), (1, 2**30)):
        x = zeros(1, 3, 1, 1).expand(batch, 3, size, size)
        with refuses(f"mnv2::stem: cannot allocate a result of shape {(batch, 8, size, size)}"):
            call(STEM, x=x, stride=1)


def test_scratch_memory_that_does_not_fit():
    x = zeros(1, 16, 1, 1).expand(1, 16, 1, 2**24)
    shape = re.escape(str(tuple(x.shape)))
    with (
        address_space(2**29),
        pytest.raises(RuntimeError, match=f"^mnv2::fused_block: cannot allocate .* {shape}$"),
    ):
        call(DIRECT, x=x, project_weight=zeros(1, 16, 1, 1), project_scale=None, project_bias=None)


@contextmanager
def address_space(spare_bytes: int) -> Iterator[None]:
    """Leaves the process so much more memory than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + spare_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# --- packed weights ---


@pytest.mark.parametrize("case", [BLOCK, STEM, HEAD], ids=lambda case: case.op)
def test_what_is_not_packed_weights(case):
    op, packed = "mnv2::run: packed", case.pack()
    with refuses(f"{op}: expected dtype uint8, got float32"):
        call_packed(case, packed=packed.float())
    with refuses(f"{op}: expected 1 dimension, got shape (1, {len(packed)})"):
        call_packed(case, packed=packed[None])
    with refuses(f"{op}: expected a contiguous tensor, got stride 2"):
        call_packed(case, packed=packed[::2])
    with refuses(f"{op}: expected data aligned to 4 bytes, got a view at an odd offset"):
        call_packed(case, packed=torch.cat([zeros(1, dtype=torch.uint8), packed])[1:])
    with pytest.raises(RuntimeError, match=f"^{op}: expected .*, got 10 bytes$"):
        call_packed(case, packed=packed[:10])
    with pytest.raises(RuntimeError, match=f"^{op}: expected .*, got {len(packed) - 4}$"):
        call_packed(case, packed=packed[:-4])
    with pytest.raises(RuntimeError, match=f"^{op}: expected packed layers, got "):
        call_packed(case, packed=torch.zeros_like(packed))


def test_weights_of_another_layer():
    with refuses(f"mnv2::run: packed: expected weights of {BLOCK.layers}, got those of {STEM.layers}"):
        call_packed(BLOCK, packed=STEM.pack())
    with pytest.raises(RuntimeError, match=r"packed: .* out_channels=32, got .* out_channels=24$"):
        call_packed(HEAD, out_channels=32)
    with pytest.raises(RuntimeError, match=r"packed: expected weights of block .* got .* expand=0$"):
        call_packed(BLOCK, packed=DIRECT.pack())


# --- instruction sets ---


def test_an_unknown_instruction_set(monkeypatch):
    monkeypatch.setenv("MNV2_FORCE_ISA", "sse9")
    with pytest.raises(RuntimeError, match="MNV2_FORCE_ISA") as error:
        BLOCK.pack()
    assert "sse9" in str(error.value)
    assert all(isa["name"] in str(error.value) for isa in _native.isas() if isa["supported"])


def test_weights_stay_with_the_instruction_set_they_were_packed_for(monkeypatch):
    monkeypatch.setenv("MNV2_FORCE_ISA", "scalar")
    packed, y = BLOCK.pack(), BLOCK.run()
    monkeypatch.delenv("MNV2_FORCE_ISA")
    assert torch.equal(BLOCK.run_packed(packed), y)


def test_weights_for_sixteen_bit_arithmetic_take_no_other_dtype(monkeypatch):
    """As ARM packs them: headers of any machine, their instruction set and vector width exchanged."""
    layers = "head_pool in_channels=4 out_channels=4"
    monkeypatch.setenv("MNV2_FORCE_ISA", "scalar")
    packed = torch.ops.mnv2.pack([torch.ones(4, 4, 1, 1), None, None], layers=layers)
    # The header of all layers, a line that tells the first one's bytes, and its own header; four channels of
    # scales, biases and halves follow.
    layer_bytes = HEADER_BYTES + 4 * (4 + 4 + 2 * 4)
    foreign = packed[: HEADER_BYTES + LINE_BYTES + -(-layer_bytes // LINE_BYTES) * LINE_BYTES].clone()
    for header in (foreign, foreign[HEADER_BYTES + LINE_BYTES :]):
        of_isa = header[4 * HEADER_ISA : 4 * (HEADER_ISA + 2)]
        of_isa.view(torch.int32)[:] = torch.tensor([NEON_BF16, 4], dtype=torch.int32)
    foreign[HEADER_BYTES : HEADER_BYTES + 8].view(torch.int64)[:] = layer_bytes
    for dtype in (torch.float32, torch.float16):
        name = dtype_name(dtype)
        with refuses(f"mnv2::run: x: expected dtype bfloat16 (the packed weights'), got {name}"):
            torch.ops.mnv2.run(torch.ones(1, 4, 2, 2, dtype=dtype), foreign, layers=layers)


# --- devices ---


def test_a_tensor_on_another_device():
    """The dispatcher looks at all tensors; a call that reaches the CPU with a foreign one is refused."""
    cpu = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
    weights = [weight.to("meta") for weight in BLOCK.weights]
    with refuses("mnv2::fused_block: expand_weight: expected a tensor on cpu, got one on meta"):
        torch.ops.mnv2.fused_block.default.redispatch(cpu, BLOCK.x, *weights)
    with refuses("mnv2::run: packed: expected a tensor on cpu, got one on meta"):
        op = torch.ops.mnv2.run.default
        op.redispatch(cpu, BLOCK.x, BLOCK.pack().to("meta"), layers=BLOCK.layers)
