"""The floors of every stage on a GPU: what follows from shapes, what from counts, and their sum."""

from __future__ import annotations

import json

import gpu_floors
import pytest
import torch
from gpu_floors import COUNTS, GPUS, product_macs, read_counts, rows_of, stage_of, stages, summary

from mnv2_kernels.shapes import BlockShape, mobilenet_v2

H100 = GPUS["h100"]
STAGE = (64, 384, 64, 1, 14)
STAGE_COUNTS = {
    **{"kernel": "tile_block", "dtype": "float16", "in_channels": 64, "expanded_channels": 384},
    **{"out_channels": 64, "stride": 1, "size": 14},
    **dict.fromkeys(COUNTS, 0),
}


def counts(**given: float) -> dict[str, object]:
    return STAGE_COUNTS | given


def row_of_stage(counted: list[dict[str, object]]) -> gpu_floors.Row:
    rows = rows_of(H100, torch.float16, 256, counted)
    return next(row for row in rows if stage_of(row.shape) == STAGE)


def test_gpu_floors_cover_the_stem_all_blocks_and_the_head():
    assert stages(1).total() == len(mobilenet_v2().blocks) + 2
    assert stages(1, joined=True).total() == len(mobilenet_v2().blocks) + 1
    assert sum(row.repeats for row in rows_of(H100, torch.float32, 1, [])) == 19


def test_gpu_floors_of_dram_are_those_of_the_shapes():
    rows = rows_of(H100, torch.float32, 64, [])
    blocks = [row for row in rows if isinstance(row.shape, BlockShape)]
    us = sum(row.repeats * row.floors["DRAM"] for row in blocks)
    moved = sum(block.floor_bytes(torch.float32) for block in mobilenet_v2(batch=64).blocks) / 64
    assert us == pytest.approx(moved / 3e6)


def test_gpu_floors_of_a_joined_stem_leave_out_what_lies_between():
    network = mobilenet_v2()
    joined, apart = (stages(1, joined) for joined in (True, False))
    bytes_of = [
        sum(shape.floor_bytes(torch.float16) * n for shape, n in each.items()) for each in (joined, apart)
    ]
    assert bytes_of[1] - bytes_of[0] == 2 * network.stem.output_bytes(torch.float16)
    macs_of = [sum(product_macs(shape) * n for shape, n in each.items()) for each in (joined, apart)]
    assert macs_of[0] == macs_of[1]


def test_gpu_floors_of_products_leave_the_depthwise_out():
    floors = row_of_stage([]).floors
    macs = 2 * 14 * 14 * 64 * 384
    assert floors["mma"] == pytest.approx(macs / (1270 * 132 * 1700))
    assert set(floors) == {"DRAM", "mma"}
    row = next(row for row in rows_of(H100, torch.float32, 1, []) if stage_of(row.shape) == STAGE)
    assert row.floors["FMA"] == pytest.approx(macs / (128 * 132 * 1700))


@pytest.mark.parametrize(
    ("name", "amount", "floor", "us"),
    [
        ("shared_wavefronts", 132 * 1700, "shared", 1.0),
        ("mma_m16n8k8", 1270 * 132 * 1700 / 1024, "mma", 1.0),
        ("pair_operations", 128 * 132 * 1700, "FMA", 1.0),
        ("float_operations", 128 * 132 * 1700 / 2, "FMA", 0.5),
        ("global_read_bytes", 5120 * 1700, "L2", 1.0),
        ("global_written_bytes", 5120 * 1700 * 2, "L2", 2.0),
    ],
)
def test_gpu_floors_of_counts(name, amount, floor, us):
    row = row_of_stage([counts(**{name: amount})])
    assert row.floors[floor] == pytest.approx(us)
    assert (row.largest, row.kernel) == (floor, "tile_block")
    assert row.us == pytest.approx(3 * us)  # the network has three such blocks


def test_gpu_floors_show_the_better_of_two_kernels():
    slow = counts(kernel="slow", shared_wavefronts=1e6)
    other_dtype = counts(kernel="bfloat16", dtype="bfloat16")
    assert row_of_stage([slow, counts(shared_wavefronts=9e5), other_dtype]).kernel == "tile_block"


def test_gpu_floors_are_left_out_where_a_count_is():
    partial = counts(mma_m16n8k8=1e6)
    del partial["shared_wavefronts"], partial["float_operations"]
    row = row_of_stage([partial])
    assert set(row.floors) == {"DRAM", "L2", "mma"}
    assert not row.is_whole


def every_stage(**given: float) -> list[dict[str, object]]:
    names = ("in_channels", "expanded_channels", "out_channels", "stride", "size")
    return [
        counts(**given, **dict(zip(names, stage_of(shape), strict=True))) for shape in stages(1, joined=True)
    ]


@pytest.mark.parametrize(
    ("counted", "verdict"),
    [
        ([], "a lower bound: 18 of 18 stages are not wholly counted. The bar is 3.0 us: not settled."),
        (
            [counts(shared_wavefronts=1e6)],
            "15 of 18 stages are not wholly counted. The bar is 3.0 us: missed.",
        ),
        (every_stage(), "thousand images/s. The bar is 3.0 us: kept."),
        (every_stage(shared_wavefronts=1e5), "thousand images/s. The bar is 3.0 us: missed."),
    ],
)
def test_gpu_floors_are_summed_up_beside_the_bar(counted, verdict):
    assert summary(rows_of(H100, torch.float16, 256, counted), 3.0).endswith(verdict)


def test_gpu_floors_read_what_the_emulator_counted(tmp_path):
    file = tmp_path / "counts.json"
    file.write_text(json.dumps([counts()]))
    assert list(read_counts([file])) == [counts()]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 15}, "the network has no stage"),
        (dict.fromkeys(COUNTS), "counts none of global_read_bytes"),
    ],
)
def test_gpu_floors_refuse_counts_of_something_else(tmp_path, wrong, message):
    file = tmp_path / "counts.json"
    changed = {name: value for name, value in counts(**wrong).items() if value is not None}
    file.write_text(json.dumps([changed]))
    with pytest.raises(ValueError, match=message):
        list(read_counts([file]))
