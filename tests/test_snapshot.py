"""The digest that stands for memory in a snapshot. What snapshots are for is tested in test_staleness.py."""

from __future__ import annotations

import struct

import pytest
import torch
from torch import Tensor, nn

from mnv2_kernels import _native
from mnv2_kernels.packing.snapshot import ROUNDS, Snapshot

PAIR = 16


def region(memory: Tensor, *pieces: int) -> bytes:
    """``pieces``: bytes, step, count and columns; by default all as one."""
    return struct.pack("5Q", memory.data_ptr(), *(pieces or (memory.nbytes, 0, 1, 1)))


def digest(memory: Tensor, *pieces: int) -> int:
    return _native.memory_digest(region(memory, *pieces))


@pytest.mark.parametrize("size", [1, 7, 8, 9, 63, 64, 65, 130, 1001])
def test_every_bit_counts(size: int) -> None:
    memory = torch.randint(0, 256, (size,), dtype=torch.uint8)
    seen = {digest(memory)}
    for index in range(size):
        for bit in (1, 128):
            memory[index] ^= bit
            seen.add(digest(memory))
            memory[index] ^= bit
    assert len(seen) == 1 + 2 * size
    assert digest(memory) in seen


@pytest.mark.parametrize("size", [8, 64, 512, 4096])
def test_changes_everywhere_do_not_cancel(size: int) -> None:
    memory = torch.randn(size)
    other_views = [
        memory.neg(),
        memory.flip(0),
        memory.roll(1),
        memory.roll(16),
        memory * 2,
        memory.zero_().clone(),
    ]
    assert len({digest(each) for each in other_views}) == len(other_views)
    # Sign bits of every second float are the top bits of words.
    memory = torch.randn(size)
    before = digest(memory)
    memory[1::2].neg_()
    assert digest(memory) != before


def read_bytes(memory: Tensor, *pieces: int) -> list[int]:
    """Indices of the bytes that take part in the digest."""
    before, read = digest(memory, *pieces), []
    for index in range(memory.nbytes):
        memory[index] ^= 1
        if digest(memory, *pieces) != before:
            read.append(index)
        memory[index] ^= 1
    return read


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [(PAIR, 5, 5), (PAIR, 9, 4), (2 * PAIR, 3, 3), (5, 4, 1), (100, 3, 1), (4, 9, 3)],
)
def test_pieces_lie_on_a_diagonal(size: int, rows: int, columns: int) -> None:
    step = columns * size + 3
    memory = torch.randint(0, 256, (rows * step,), dtype=torch.uint8)
    starts = [row * step + row * columns // rows * size for row in range(rows)]
    expected = [start + index for start in starts for index in range(size)]
    assert read_bytes(memory, size, step, rows, columns) == expected


def test_regions_are_taken_in_order() -> None:
    first, second = torch.randn(9), torch.randn(9)
    regions = [region(each) for each in (first, second)]
    assert _native.memory_digest(b"".join(regions)) != _native.memory_digest(b"".join(regions[::-1]))
    assert _native.memory_digest(b"") == _native.memory_digest(b"")


def holding(weight: Tensor) -> tuple[nn.Parameter, Snapshot]:
    layer = nn.Sequential(nn.Linear(1, 1, bias=False))
    layer[0].weight = nn.Parameter(weight, requires_grad=False)
    snapshot = Snapshot(layer)
    assert snapshot.holds()
    return layer[0].weight, snapshot


SLICED = torch.randn(300, 400)
LAYOUTS = {
    "contiguous": SLICED[:, :320].contiguous(),
    "half": SLICED.bfloat16(),
    "pointwise": torch.randn(384, 64, 1, 1),
    "depthwise": torch.randn(960, 1, 3, 3),
    "channels_last": torch.randn(90, 30, 3, 3).to(memory_format=torch.channels_last),
    "transposed": SLICED.t(),
    "columns": SLICED[:, 40:360],
    "rows": SLICED[::2],
    "elements": SLICED[:, ::2],
    "small columns": SLICED[:40, :40],
    "vector": SLICED[:, 0],
    "expanded": torch.randn(1, 400).expand(300, 400),
    "odd rows": torch.randn(201, 401),
}


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_channel_of_every_layout_is_seen(layout: str) -> None:
    weight, snapshot = holding(LAYOUTS[layout])
    dims = [dim for dim in (0, 1) if weight.shape[dim : dim + 1] > (1,) and 0 not in weight.stride()[:dim]]
    for dim in dims:
        channels = weight.data.unbind(dim)
        for channel in (0, 1, len(channels) // 2, len(channels) - 1):
            before = channels[channel].clone()
            channels[channel].neg_()
            assert not snapshot.holds(), (dim, channel)
            channels[channel].copy_(before)
            assert snapshot.holds(), (dim, channel)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_element_of_every_layout_is_seen_in_some_round(layout: str) -> None:
    weight, snapshot = holding(LAYOUTS[layout])
    values = weight.data
    picked = torch.randint(0, values.numel(), (10,), generator=torch.Generator().manual_seed(0)).tolist()
    for element in (0, values.numel() - 1, *picked):
        index = tuple(int(each) for each in torch.unravel_index(torch.tensor(element), values.shape))
        before = values[index].item()
        values[index] = before + 1
        assert not all(snapshot.holds() for _ in range(ROUNDS)), index
        values[index] = before
        assert all(snapshot.holds() for _ in range(ROUNDS)), index


def test_shared_memory_is_seen_through_any_view() -> None:
    storage = torch.randn(300 * 400)
    _, snapshot = holding(storage.view(300, 400))
    storage[400:800] = 0
    assert not snapshot.holds()


def test_weights_without_memory_are_followed_by_version() -> None:
    weight, snapshot = holding(torch.empty(300, 400, device="meta"))
    weight[:1].add_(1)
    assert not snapshot.holds()
