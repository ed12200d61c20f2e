"""Portable weights: pack(..., portable=True), which any machine's run packs for itself."""

from __future__ import annotations

import struct

import pytest
import torch
from conftest import every_isa
from models import small
from torch import Tensor

from mnv2_kernels.fusion.fused_layer import Weights
from mnv2_kernels.layer import Layer, join_layers

pack, run = torch.ops.mnv2.pack, torch.ops.mnv2.run
DIGEST_AT, HEADER_BYTES = 16, 40


def network(seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor | None], str]:
    """Weights and layers of a small one."""
    model = small(seed).to(dtype)
    fusions = [unit.fusion() for unit in [*model.features, model.classifier]]
    weights = [weight for fusion in fusions for weight in fusion.weights()]
    return weights, join_layers([fusion.layer for fusion in fusions])


def block(seed: int = 0) -> tuple[Weights, str]:
    """A block's. A seed of its own gives weights that no other test has packed, so that none are found."""
    torch.manual_seed(seed)
    layer = Layer("block", 3, 3, expanded_channels=3, expand=False)
    return (None,) * 3 + (torch.randn(3, 1, 3, 3), None, None, torch.randn(3, 3, 1, 1), None, None), str(
        layer
    )


def digest(data: bytes) -> list[int]:
    values = [len(data), ~len(data) % 2**64]
    for at in range(0, len(data), 8):
        word = int.from_bytes(data[at : at + 8].ljust(8, b"\0"), "little")
        for lane, (factor, bits) in enumerate(((0x9E3779B97F4A7C15, 29), (0x243F6A8885A308D3, 37))):
            product = (values[lane] ^ word) * factor % 2**64
            values[lane] = (product << bits | product >> 64 - bits) % 2**64
    return values


def edited(portable: Tensor, at: int, value: bytes) -> Tensor:
    """The same with some bytes changed, and a digest that hides it."""
    data = bytearray(portable.numpy().tobytes())
    data[at : at + len(value)] = value
    struct.pack_into("<2Q", data, DIGEST_AT, *digest(bytes(data[HEADER_BYTES:])))
    return torch.frombuffer(data, dtype=torch.uint8)


@every_isa
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_gives_the_bits_of_packed_weights(isa: str, dtype: torch.dtype) -> None:
    # What was packed under another instruction set is found again by its bytes: other weights for each.
    weights, layers = network(sum(map(ord, isa)), dtype)
    x = torch.randn(2, 3, 33, 46).to(dtype)
    portable = pack(weights, layers=layers, portable=True)
    expected = run(x, pack(weights, layers=layers), layers=layers)
    for _ in range(2):  # the first call packs
        assert torch.equal(run(x, portable, layers=layers), expected)
    assert torch.ops.mnv2.run_seconds(x, portable, layers=layers).numel() == layers.count(";") + 1


def test_is_the_same_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, layers = network()
    here = pack(weights, layers=layers, portable=True)
    monkeypatch.setenv("MNV2_FORCE_ISA", "scalar")
    assert torch.equal(pack(weights, layers=layers, portable=True), here)
    assert not torch.equal(pack(weights, layers=layers)[: len(here)], here)


def test_holds_strided_weights() -> None:
    weights, layers = block()
    strided = [
        weight if weight is None else weight.transpose(0, 1).contiguous().transpose(0, 1)
        for weight in weights
    ]
    assert torch.equal(
        pack(strided, layers=layers, portable=True), pack(weights, layers=layers, portable=True)
    )


def test_other_weights_in_the_same_memory() -> None:
    (first, layers), (second, _) = network(), network(1)
    x = torch.randn(1, 3, 32, 32)
    portable = pack(first, layers=layers, portable=True)
    run(x, portable, layers=layers)
    portable.copy_(pack(second, layers=layers, portable=True))
    assert torch.equal(run(x, portable, layers=layers), run(x, pack(second, layers=layers), layers=layers))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_that_differ_by_signs(dtype: torch.dtype) -> None:
    """What a digest that does not mix its high bits takes for the same."""
    layers, x = str(Layer("linear", 4, 8)), torch.zeros(1, 4, dtype=dtype)
    weight = torch.zeros(8, 4, dtype=dtype)
    for signs in range(2**8):
        bias = torch.tensor([-1.0 if signs >> bit & 1 else 1.0 for bit in range(8)], dtype=dtype)
        portable = pack([weight, bias], layers=layers, portable=True)
        assert torch.equal(run(x, portable, layers=layers)[0], bias)


def test_other_layers_with_the_same_weights() -> None:
    weights, layers = block()
    x, relu = torch.randn(1, 3, 5, 5), layers + " activation=relu"
    portable = pack(weights, layers=layers, portable=True)
    for text in (layers, relu):
        assert torch.equal(run(x, portable, layers=text), run(x, pack(weights, layers=text), layers=text))


def test_refuses_what_pack_would_refuse() -> None:
    weights, layers = block()
    with pytest.raises(RuntimeError, match=r"pack: project_weight: expected shape \(3, 3, 1, 1\)"):
        pack([*weights[:6], torch.randn(3, 4, 1, 1), None, None], layers=layers, portable=True)
    portable = pack(weights, layers=layers, portable=True)
    other = str(Layer("block", 5, 3, expanded_channels=5, expand=False))
    with pytest.raises(RuntimeError, match=r"run: depthwise_weight: expected shape \(5, 1, 3, 3\)"):
        run(torch.randn(1, 5, 5, 5), portable, layers=other)


def test_refuses_damage() -> None:
    weights, layers = block(1)
    portable, x = pack(weights, layers=layers, portable=True), torch.randn(1, 3, 5, 5)
    for at in range(8, len(portable), 7):
        damaged = portable.clone()
        damaged[at] ^= 1
        with pytest.raises(RuntimeError, match="expected the bytes of portable weights as pack wrote them"):
            run(x, damaged, layers=layers)
    for short in (portable[:-64], portable[:40], portable[:39]):
        with pytest.raises(RuntimeError, match=r"run: packed: expected"):
            run(x, short, layers=layers)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("number of weights", struct.pack("<Q", 2**60)),
        ("type", struct.pack("<i", 99)),
        ("dims", struct.pack("<i", 5)),
        ("size", struct.pack("<q", 2**62)),
        ("no size", struct.pack("<q", -1)),
        ("position", struct.pack("<q", 2**40)),
        ("position in front", struct.pack("<q", -8)),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_reads_nothing_outside_the_buffer(field: str, value: bytes) -> None:
    weights, layers = block()
    table = HEADER_BYTES + 3 * 48  # the fourth weight: the first that is there
    size = table + 8
    places = {"number of weights": 32, "type": table, "dims": table + 4, "size": size, "no size": size}
    portable = pack(weights, layers=layers, portable=True)
    assert torch.equal(edited(portable, 32, struct.pack("<Q", 9)), portable)
    forged = edited(portable, places.get(field, table + 40), value)
    with pytest.raises(RuntimeError, match="expected the bytes of portable weights as pack wrote them"):
        run(torch.randn(1, 3, 5, 5), forged, layers=layers)


def test_is_made_outside_of_graphs() -> None:
    weights, layers = block()

    class Packing(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return run(x, pack(weights, layers=layers, portable=True), layers=layers)

    with pytest.raises(Exception, match="expected False in a graph"):
        torch.export.export(Packing(), (torch.randn(1, 3, 5, 5),))
