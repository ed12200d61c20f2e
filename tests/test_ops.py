"""The operators as torch sees them: opcheck, compile, export, autocast, vmap, FLOP counts, autograd."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from cases import LAYOUTS, Case, make_case, shape_id
from conftest import every_isa
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from mnv2_kernels import ops
from mnv2_kernels.shapes import BlockShape, HeadShape, StemShape

SHAPES = (
    BlockShape(2, 9, 10, 8, 48, 8, residual=True),
    BlockShape(2, 9, 8, 17, 17, 5, stride=2, padding=(0, 0, 1, 1), expand=False),
    StemShape(2, 9, 8, 3, 16),
    HeadShape(2, 3, 5, 24, 40),
    BlockShape(2, 9, 8, 8, 24, 8, padding=(2, 2, 2, 2), kernel=5, activation="silu", residual=True),
    BlockShape(2, 9, 8, 8, 24, 16, activation="hardswish", squeezed_channels=6),
)
CASES = [make_case(shape) for shape in SHAPES]
BLOCK, DIRECT, STEM, HEAD, _, _ = CASES

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: shape_id(case.shape))


class Unpacked(nn.Module):
    """One operator with its weights as buffers."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case

    def forward(self, x: Tensor) -> Tensor:
        return getattr(torch.ops.mnv2, self.case.op)(x, *self.case.weights, **self.case.options)


class Packed(nn.Module):
    """One operator on packed weights."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.register_buffer("packed", case.pack())
        self.layers = case.layers

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mnv2.run(x, self.packed, layers=self.layers)


def overloads(case: Case):
    """(op, args, kwargs) of the three operators of a case."""
    layers = {"layers": case.layers}
    yield getattr(torch.ops.mnv2, case.op).default, (case.x, *case.weights), case.options
    yield torch.ops.mnv2.pack.default, (list(case.weights),), layers
    yield torch.ops.mnv2.run.default, (case.x, case.pack()), layers


def test_every_operator_is_covered():
    tested = {op.name() for case in CASES for op, _, _ in overloads(case)}
    # The linear layer is tested in test_network.py.
    assert tested | {"mnv2::linear"} == {f"mnv2::{name}" for name in ops.OPERATORS}


# --- opcheck and fakes ---


@every_isa
@pytest.mark.parametrize("shape", SHAPES, ids=shape_id)
def test_opcheck(isa, shape):
    for op, args, kwargs in overloads(make_case(shape)):
        torch.library.opcheck(op, args, kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=shape_id)
def test_opcheck_in_half_precision(shape, dtype):
    for op, args, kwargs in overloads(make_case(shape, dtype)):
        torch.library.opcheck(op, args, kwargs)


@pytest.mark.slow
@every_case
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_of_every_layout(case, layout):
    x = LAYOUTS[layout](case.x)
    for op, args, kwargs in overloads(case):
        if args[0] is case.x:
            torch.library.opcheck(op, (x, *args[1:]), kwargs)


@every_case
def test_fakes_have_the_strides_of_the_result(case):
    for op, args, kwargs in overloads(case):
        fake, real = op(*on_meta(args), **kwargs), op(*args, **kwargs)
        assert (fake.shape, fake.stride(), fake.dtype) == (real.shape, real.stride(), real.dtype)


def on_meta(arguments):
    """Arguments whose tensors, in lists too, are on meta."""
    return pytree.tree_map_only(Tensor, lambda tensor: tensor.to("meta"), list(arguments))


def test_a_fake_refuses_an_image_too_small_for_one_output():
    x, weights = torch.empty(1, 3, 1, 1, device="meta"), on_meta(STEM.weights)
    with pytest.raises(
        RuntimeError, match=r"^mnv2::stem: x: expected a height and width of at least 3 with padding"
    ):
        torch.ops.mnv2.stem(x, *weights, padding=[0, 0, 0, 0])
    for op, (x, *others), kwargs in overloads(HEAD):
        if x is HEAD.x:
            with pytest.raises(RuntimeError, match=r"x: expected at least one pixel, got shape \(.*, 0\)$"):
                op(*on_meta([x[..., :0], *others]), **kwargs)


@every_case
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Tensor.double, "dtype float32, float16 or bfloat16, got float64"),
        (lambda x: x[0], r"4 dimensions, got shape \(.*\)"),
        (lambda x: x[:, 1:], r"shape \(N, {}, H, W\), got \(.*\)"),
    ],
    ids=["dtype", "dimensions", "channels"],
)
def test_a_fake_refuses_what_no_kernel_takes(case, change, expected):
    expected = expected.format(case.shape.in_channels)
    for op, args, kwargs in overloads(case):
        if args[0] is case.x:
            with pytest.raises(RuntimeError, match=f"^{op.name()}: x: expected {expected}$"):
                op(*on_meta([change(case.x), *args[1:]]), **kwargs)


@pytest.mark.parametrize(
    "option", [{"stride": 0}, {"padding": [1, 1]}, {"padding": [2, 1, 1, 1]}, {"activation": "gelu"}], ids=str
)
@pytest.mark.parametrize("case", [BLOCK, STEM], ids=lambda case: case.op)
def test_a_fake_refuses_options_in_the_kernels_words(case, option):
    messages = []
    for arguments in ([case.x, *case.weights], on_meta([case.x, *case.weights])):
        with pytest.raises(RuntimeError) as refused:
            getattr(torch.ops.mnv2, case.op)(*arguments, **{**case.options, **option})
        messages.append(str(refused.value))
    assert messages[0] == messages[1]


@every_case
def test_a_tensor_beside_one_on_meta_is_refused(case):
    """Torch calls the fake then, which computes nothing."""
    for op, (*args, last), kwargs in overloads(case):
        argument = op._schema.arguments[len(args)].name
        message = f"{op.name()}: {argument}: expected a tensor on cpu, got one on meta"
        moved = [*last[:-1], last[-1].to("meta")] if isinstance(last, list) else last.to("meta")
        with pytest.raises(RuntimeError, match=f"^{message}$"):
            op(*args, moved, **kwargs)


# --- compile and export ---


@pytest.mark.slow
@every_case
def test_compile(case):
    torch.compiler.reset()
    unpacked, packed = Unpacked(case), Packed(case)

    @torch.compile(fullgraph=True)
    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        return unpacked(x) + 1, packed(x) + 1

    for y in run(case.x):
        assert torch.equal(y, case.run() + 1)


def test_compile_with_packing_inside_the_graph(monkeypatch, tmp_path):
    # What torch keeps on disk holds the packed length, which MNV2_FORCE_ISA decides.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()

    @torch.compile(fullgraph=True)
    def pack_and_run(x: Tensor) -> Tensor:
        return BLOCK.run_packed(BLOCK.pack(), x)

    assert torch.equal(pack_and_run(BLOCK.x), BLOCK.run())


def test_compile_with_dynamic_shapes():
    torch.compiler.reset()
    model = Packed(BLOCK)
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    assert torch.equal(compiled(BLOCK.x), BLOCK.run())
    with torch.compiler.set_stance("fail_on_recompile"):
        for batch, height, width in ((3, 9, 10), (5, 12, 7)):
            x = torch.randn(batch, 8, height, width)
            assert torch.equal(compiled(x), model(x))


@every_case
@pytest.mark.parametrize("module", [Unpacked, Packed])
def test_export_with_a_dynamic_batch(case, module, tmp_path):
    model = module(case)
    program = torch.export.export(model, (case.x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "program.pt2")
    loaded = torch.export.load(tmp_path / "program.pt2").module()
    for x in (case.x, torch.cat([case.x, -case.x, case.x])):
        assert torch.equal(loaded(x), model(x))


# --- autocast ---


@every_case
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("module", [Unpacked, Packed])
def test_autocast_casts_x_and_keeps_the_weights(case, dtype, module):
    model = module(case)
    with torch.autocast("cpu", dtype=dtype):
        y = model(case.x)
        assert torch.is_autocast_enabled("cpu")
    assert y.dtype == dtype
    assert torch.equal(y, model(case.x.to(dtype)))


def test_autocast_takes_half_weights_of_another_dtype():
    half = make_case(BLOCK.shape, torch.float16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = half.run()
    wide = Case(half.shape, half.x.bfloat16(), tuple(weight.float() for weight in half.weights))
    assert torch.equal(y, wide.run())


def test_autocast_leaves_float64_to_the_operator():
    with (
        torch.autocast("cpu"),
        pytest.raises(RuntimeError, match="x: expected dtype float32, float16 or bfloat16, got float64"),
    ):
        BLOCK.run(BLOCK.x.double())


@every_case
def test_autocast_of_cuda(case):
    """By its dispatch key, which needs no GPU."""
    cuda = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)
    op, (x, *others), options = next(overloads(case))
    assert torch.equal(op.redispatch(cuda, x, *others, **options), op(x.half(), *others, **options))


# --- vmap ---


@every_case
@pytest.mark.parametrize("in_dim", [0, 2, -1])
def test_vmap_over_inputs(case, in_dim):
    xs = torch.stack([case.x, case.x + 1, -case.x], dim=in_dim)
    y = torch.vmap(case.run, in_dims=in_dim)(xs)
    assert torch.equal(y, torch.stack([case.run(x) for x in xs.unbind(in_dim)]))
    packed = case.pack()
    assert torch.equal(torch.vmap(lambda x: case.run_packed(packed, x), in_dims=in_dim)(xs), y)


@every_case
def test_vmap_over_weights(case):
    weights = [
        None if weight is None else torch.stack([weight, -weight, weight / 2], dim=-1)
        for weight in case.weights
    ]
    in_dims = tuple(None if weight is None else -1 for weight in weights)
    members = [
        Case(case.shape, case.x, tuple(_select(weight, index) for weight in weights)) for index in range(3)
    ]
    expected = torch.stack([member.run() for member in members])

    def run(*weights: Tensor | None) -> Tensor:
        return Case(case.shape, case.x, weights).run()

    def pack(*weights: Tensor | None) -> Tensor:
        return Case(case.shape, case.x, weights).pack()

    assert torch.equal(torch.vmap(run, in_dims=in_dims)(*weights), expected)
    packed = torch.vmap(pack, in_dims=in_dims)(*weights)
    assert torch.equal(packed, torch.stack([member.pack() for member in members]))
    assert torch.equal(torch.vmap(case.run_packed)(packed), expected)
    assert torch.equal(torch.vmap(case.run_packed, in_dims=1)(packed.t().contiguous()), expected)


def _select(weight: Tensor | None, index: int) -> Tensor | None:
    return None if weight is None else weight[..., index]


# --- FLOP counts ---


@every_case
def test_flops_are_twice_the_macs(case):
    with FlopCounterMode(display=False) as counter:
        case.run()
    assert counter.get_total_flops() == 2 * case.shape.macs
    with FlopCounterMode(display=False) as counter:
        case.run_packed(case.pack())
    assert counter.get_total_flops() == 2 * case.shape.macs


@pytest.mark.parametrize("first", ["mnv2_kernels", "torch.utils.flop_counter"])
def test_flop_formulas_wait_for_the_counter(first):
    """The package imports no counter, compiler or Triton; the formulas are there whichever came first."""
    script = f"""
import sys
import {first}
import mnv2_kernels
if {first!r} == "mnv2_kernels":
    assert "torch.utils.flop_counter" not in sys.modules
    assert "torch._dynamo" not in sys.modules  # whose import takes longer than all else
    assert not any(name.split(".")[0] in {{"triton", "torchvision", "typer", "rich"}} for name in sys.modules)
import torch
import torch.utils.flop_counter as counter
assert torch.ops.mnv2.fused_block in counter.flop_registry
assert torch.ops.mnv2.run in counter.flop_registry
"""
    subprocess.run([sys.executable, "-c", script], check=True)


# --- autograd ---


@every_case
def test_backward_is_refused_with_advice(case):
    y = case.run(case.x.clone().requires_grad_())
    with pytest.raises(
        RuntimeError,
        match=rf"mnv2::{case.op} has no backward.*whose derivatives are.*mnv2_kernels\.reference",
    ):
        y.sum().backward()
    weights = tuple(None if weight is None else weight.clone().requires_grad_() for weight in case.weights)
    with pytest.raises(RuntimeError, match=f"mnv2::{case.op} has no backward"):
        Case(case.shape, case.x, weights).run().sum().backward()
    y = case.run_packed(case.pack(), case.x.clone().requires_grad_())
    with pytest.raises(RuntimeError, match="mnv2::run has no backward"):
        y.sum().backward()


@every_case
def test_other_derivatives_are_refused(case):
    packed = case.pack()
    for function, op in ((case.run, case.op), (lambda x: case.run_packed(packed, x), "run")):
        with pytest.raises(RuntimeError, match=f"mnv2::{op} has no forward-mode derivative, .*reference"):
            torch.func.jvp(function, (case.x,), (case.x,))
        with forward_ad.dual_level():
            assert torch.equal(function(case.x), function(case.x.detach()))
            with pytest.raises(RuntimeError, match=f"mnv2::{op} has no forward-mode derivative"):
                function(forward_ad.make_dual(case.x, torch.ones_like(case.x)))
        with pytest.raises(RuntimeError, match=f"mnv2::{op} has no derivative"):
            torch.func.grad(lambda x, function=function: function(x).float().sum())(case.x)


@every_case
def test_packed_weights_of_parameters_need_no_gradient(case):
    weights = tuple(None if weight is None else nn.Parameter(weight) for weight in case.weights)
    packed = Case(case.shape, case.x, weights).pack()
    assert not packed.requires_grad
    assert torch.equal(packed, case.pack())
    for op, args, kwargs in overloads(Case(case.shape, case.x, weights)):
        torch.library.opcheck(
            op, args, kwargs, test_utils=("test_schema", "test_faketensor", "test_autograd_registration")
        )
