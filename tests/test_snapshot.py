"""The digest that stands for memory in a snapshot. What snapshots are for is tested in test_staleness.py."""

from __future__ import annotations

import struct

import pytest
import torch
from torch import Tensor, nn

from mnv2_kernels import _native
from mnv2_kernels.snapshot import SAMPLES, Snapshot

WORD = 8


def digest(memory: Tensor, step: int = WORD) -> int:
    return _native.memory_digest(struct.pack("3Q", memory.data_ptr(), memory.nbytes, step))


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


def test_a_step_leaves_words_out() -> None:
    memory = torch.zeros(32 * WORD, dtype=torch.uint8)
    before = digest(memory, 4 * WORD)
    memory[WORD : 4 * WORD] = 1
    assert digest(memory, 4 * WORD) == before
    memory[4 * WORD] = 1
    assert digest(memory, 4 * WORD) != before


def test_regions_are_taken_in_order() -> None:
    first, second = torch.randn(9), torch.randn(9)
    regions = [struct.pack("3Q", each.data_ptr(), each.nbytes, WORD) for each in (first, second)]
    assert _native.memory_digest(b"".join(regions)) != _native.memory_digest(b"".join(regions[::-1]))
    assert _native.memory_digest(b"") == 0


def test_a_write_over_a_whole_weight_hits_a_sample() -> None:
    for shape in ((1, 1, 1, 1), (3, 1, 3, 3), (SAMPLES + 1, 7, 1, 1), (64, 384, 1, 1)):
        conv = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
        conv[0].weight = nn.Parameter(torch.randn(shape))
        snapshot = Snapshot(conv)
        assert snapshot.holds()
        conv[0].weight.data.add_(1)
        assert not snapshot.holds()


def test_weights_without_dense_memory_are_followed_by_version() -> None:
    linear = nn.Sequential(nn.Linear(4, 4, bias=False))
    linear[0].weight = nn.Parameter(torch.randn(1, 4).expand(4, 4), requires_grad=False)
    snapshot = Snapshot(linear)
    assert snapshot.holds()
    linear[0].weight[:1].add_(1)
    assert not snapshot.holds()
