"""How tensors on GPUs find their kernels: registration, backends, refusals, checks, tuned choices."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from cases import make_case
from test_errors import BLOCK, DIRECT, HEAD, STEM, arguments_of, call, call_packed
from torch._subclasses import FakeTensorMode

from mnv2_kernels.dtypes import dtype_name
from mnv2_kernels.ops import OPERATORS, gpu
from mnv2_kernels.shapes import ACTIVATIONS, BlockShape

needs_triton = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import triton"], capture_output=True).returncode != 0,
    reason="Triton is not installed",
)


@pytest.fixture
def by_triton(monkeypatch):
    monkeypatch.setattr(gpu, "SELECTED", "triton")


@pytest.mark.parametrize("key", ["CUDA", "XPU"])
@pytest.mark.parametrize("name", [*OPERATORS, *gpu.CPU_ONLY])
def test_triton_or_cuda_serves_every_operator(name, key):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"mnv2::{name}", key)


def test_triton_is_not_imported_with_the_package():
    code = "import sys, mnv2_kernels; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_triton_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    message = "mnv2::stem: kernels for GPUs need Triton, which is not installed: pip install triton"
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        gpu.triton_operators("stem")


@pytest.mark.parametrize("selected", ["cuda", "triton"])
def test_triton_serves_what_cuda_does_not(monkeypatch, selected):
    monkeypatch.setattr(gpu, "has_cuda_kernels", lambda: True)
    monkeypatch.setattr(gpu, "SELECTED", selected)
    assert (gpu.backend("cuda"), gpu.backend("xpu")) == (selected, "triton")


@pytest.mark.parametrize(
    ("cuda", "lack"),
    [("13.0", "no libmnv2_cuda.so"), (None, "a torch without CUDA")],
    ids=["library", "torch"],
)
def test_triton_does_not_stand_in_for_missing_cuda_kernels(monkeypatch, cuda, lack):
    monkeypatch.setattr(gpu, "SELECTED", "cuda")
    monkeypatch.setattr(gpu, "has_cuda_kernels", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(RuntimeError, match=f"^MNV2_GPU_BACKEND=cuda: this build has {re.escape(lack)}$"):
        gpu.backend()


# --- the checks are C++'s, of any device ---


def refusal(function, *arguments, **options) -> str:
    with pytest.raises(RuntimeError) as raised:
        function(*arguments, **options)
    return str(raised.value)


def by_triton_s_checks(case, **changed):
    """The case's operator as Triton's does it, up to its kernel."""
    from mnv2_kernels.triton import operators

    arguments = {"x": case.x, **arguments_of(case), **case.options, **changed}
    x, *weights = (arguments.pop(name) for name in ("x", *arguments_of(case)))
    return getattr(operators, case.op)(x, *weights, **arguments)


@needs_triton
@pytest.mark.parametrize(
    ("case", "changed"),
    [
        (BLOCK, {"x": BLOCK.x.double()}),
        (BLOCK, {"x": BLOCK.x[0]}),
        (BLOCK, {"expand_weight": torch.zeros(96, 24, 1, 1)}),
        (BLOCK, {"project_scale": torch.zeros(())}),
        (BLOCK, {"stride": 3}),
        (BLOCK, {"activation": "gelu"}),
        (BLOCK, {"padding": [1, 1, 1, 2]}),
        (DIRECT, {"expand_bias": torch.zeros(16)}),
        (STEM, {"weight": torch.zeros(8, 3, 1, 1)}),
        (STEM, {"x": STEM.x[:, :, :1, :1], "padding": [0, 0, 0, 0]}),
        (HEAD, {"x": HEAD.x[:, :, :0]}),
        (HEAD, {"weight": HEAD.weights[0].half()}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value.op,
)
def test_triton_checks_are_those_of_the_cpu(case, changed):
    assert refusal(by_triton_s_checks, case, **changed) == refusal(call, case, **changed)


@pytest.mark.parametrize("case", [BLOCK, STEM, HEAD], ids=lambda case: case.op)
def test_triton_checks_of_packed_weights(case):
    packed, lengths = torch.zeros(100, dtype=torch.uint8), [100, 116, 132]

    def checked(x=case.x, packed=packed) -> int:
        return torch.ops.mnv2.check_run(x, packed, lengths, layers=case.layers)

    assert checked() == 0
    for wrong in ([], [*lengths, 100]):
        with pytest.raises(
            RuntimeError, match=f"lengths: expected one for each of 3 dtypes, got {len(wrong)}"
        ):
            torch.ops.mnv2.check_run(case.x, packed, wrong, layers=case.layers)
    assert refusal(checked, packed=packed[1:]) == (
        "mnv2::run: packed: expected one of (100, 116, 132) bytes, as packed for these arguments on this "
        "device, got 99"
    )
    message = refusal(checked, packed=torch.zeros(116, dtype=torch.uint8))
    assert message == "mnv2::run: x: expected dtype float16 (the packed weights'), got float32"
    x = case.x[:, :-1]
    assert refusal(checked, x=x) == refusal(call_packed, case, x=x)
    assert refusal(checked, packed=packed.float()) == "mnv2::run: packed: expected dtype uint8, got float32"


def test_triton_packers_take_the_dtype_that_all_weights_share():
    weights = BLOCK.weights
    halves = [weight.bfloat16() for weight in weights]
    for given, position in ((weights, 0), (halves, 2), ([weights[0], *halves[1:]], 0)):
        assert torch.ops.mnv2.check_pack(given, layers=BLOCK.layers) == position


# --- packed format and tuned choices ---


@needs_triton
def test_triton_packed_lengths_tell_dtype_and_activation_apart():
    from mnv2_kernels.triton.packing import DTYPES, block_packing

    lengths = {
        block_packing(BlockShape(1, 7, 7, 16, 96, 24, activation=activation), dtype).nbytes
        for activation in ACTIVATIONS
        for dtype in DTYPES
    }
    assert len(lengths) == len(ACTIVATIONS) * len(DTYPES)


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_name)
@pytest.mark.parametrize("case", [BLOCK, DIRECT, STEM, HEAD], ids=lambda case: case.op)
def test_triton_packs_as_long_as_its_fake_says(by_triton, case, dtype):
    """torch.compile asserts the sizes that it traced with."""
    from mnv2_kernels.triton import operators

    weights = [None if weight is None else weight.to(dtype) for weight in case.weights]
    with FakeTensorMode():
        fakes = [
            None if weight is None else torch.empty(weight.shape, dtype=dtype, device="cuda")
            for weight in weights
        ]
        fake = torch.ops.mnv2.pack(fakes, layers=case.layers)
    assert (fake.device.type, fake.dtype) == ("cuda", torch.uint8)
    assert fake.shape == operators.pack(weights, layers=case.layers).shape


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=dtype_name)
def test_triton_candidates_cover_the_table(dtype):
    from mnv2_kernels.triton import autotune, configs

    shape = BlockShape(1, 14, 14, 64, 384, 64)
    found = autotune.candidates(shape, dtype)
    assert len(found) == len(set(found))
    assert {config.kind for config in found} == {"tile", "rows"}
    assert all(shape.in_channels % config.bk == 0 for config in found)
    fixed = configs.block_config(shape, dtype, "hopper")
    assert (fixed.m, fixed.bc, fixed.bk, fixed.warps) in {
        (config.m, config.bc, config.bk, config.warps) for config in found
    }


@needs_triton
def test_triton_choices_are_kept_on_disk(tmp_path):
    from mnv2_kernels.triton import autotune
    from mnv2_kernels.triton.configs import Config

    path = tmp_path / "folder" / "choices.json"
    assert autotune.read_cache(path) == {}
    choices = {"a": Config("tile", 64, 16, 16, 8, tile=8)}
    autotune.write_cache(path, choices)
    assert autotune.read_cache(path) == choices
    assert list(path.parent.iterdir()) == [path]
    path.write_text('{"a": {"kind": "tile", "unknown": 1}}')
    assert autotune.read_cache(path) == {}
    path.write_text("[")
    assert autotune.read_cache(path) == {}


@needs_triton
def test_triton_tunes_once_and_not_by_the_batch(tmp_path, monkeypatch):
    from mnv2_kernels.triton import autotune
    from mnv2_kernels.triton.packing import block_packing

    shape = BlockShape(2, 6, 6, 16, 32, 16)
    timed = []

    def seconds(*arguments) -> float:
        timed.append(arguments[-1])
        return 0.0 if arguments[-1] == best else 1.0

    best = autotune.candidates(shape, torch.float16)[3]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(autotune, "_milliseconds", seconds)
    monkeypatch.setattr(autotune, "cache_path", lambda device: tmp_path / "choices.json")
    autotune._choices.cache_clear()
    packing = block_packing(shape, torch.float16)
    x = make_case(shape, torch.float16).x
    fixed = autotune.block_config(shape, torch.float16, "hopper")
    for batch in (2, 1):
        of_batch = BlockShape(batch, 6, 6, 16, 32, 16)
        assert autotune._tuned(of_batch, packing, "ieee", x[:batch], x, fixed) == best
    assert len(timed) == 1 + len(autotune.candidates(shape, torch.float16))
    autotune._choices.cache_clear()
    assert autotune._tuned(shape, packing, "ieee", x, x, fixed) == best, "not read from disk"
    assert len(timed) == 1 + len(autotune.candidates(shape, torch.float16))
