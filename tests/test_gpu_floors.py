"""The floors of every stage on a GPU: what follows from shapes, what from counts, and their sum."""

from __future__ import annotations

import gpu_floors
import pytest
import sass_loops
import torch
from gpu_floors import COUNTS, GPUS, NO_CODE, rows_of, stage_of, stages, summary

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


def test_gpu_floors_cover_the_stem_all_blocks_head_and_classifier():
    assert stages(1).total() == len(mobilenet_v2().blocks) + 3
    assert stages(1, joined=True).total() == len(mobilenet_v2().blocks) + 2
    assert sum(row.repeats for row in rows_of(H100, torch.float32, 1, [])) == 20


def test_gpu_floors_of_the_classifier_are_its_bytes_and_products():
    row = rows_of(H100, torch.float16, 256, [])[-1]
    assert row.floors["DRAM"] == pytest.approx((1281 * 1000 / 256 + 2280) * 2 / 3e6)
    assert row.floors["mma"] == pytest.approx(1280 * 1000 / (1270 * 132 * 1700))
    assert row.is_whole


def test_gpu_floors_of_dram_are_those_of_the_shapes():
    rows = rows_of(H100, torch.float32, 64, [])
    blocks = [row for row in rows if isinstance(row.shape, BlockShape)]
    us = sum(row.repeats * row.floors["DRAM"] for row in blocks)
    moved = sum(block.floor_bytes(torch.float32) for block in mobilenet_v2(batch=64).blocks) / 64
    assert us == pytest.approx(moved / 3e6)


@pytest.mark.parametrize(
    ("name", "amount", "floor", "us"),
    [
        ("shared_wavefronts", 132 * 1700, "shared", 1.0),
        ("mma_m16n8k8", 1270 * 132 * 1700 / 1024, "mma", 1.0),
        ("pair_operations", 128 * 132 * 1700, "half2/FP32", 1.0),
        ("float_operations", 128 * 132 * 1700 / 2, "half2/FP32", 0.5),
        ("global_read_bytes", 5120 * 1700, "L2", 1.0),
        ("global_written_bytes", 5120 * 1700 * 2, "L2", 2.0),
    ],
)
def test_gpu_floors_of_counts(name, amount, floor, us):
    row = row_of_stage([counts(**{name: amount})])
    assert row.floors[floor] == pytest.approx(us)
    assert (row.largest, row.kernel) == (floor, "tile_block")
    assert row.us == pytest.approx(3 * us)  # the network has three such blocks


def every_stage(**given: float) -> list[dict[str, object]]:
    names = ("in_channels", "expanded_channels", "out_channels", "stride", "size")
    return [
        counts(**given, **dict(zip(names, stage_of(shape), strict=True))) for shape in stages(1, joined=True)
    ]


@pytest.mark.parametrize(
    ("counted", "verdict"),
    [
        ([], "a lower bound: 18 of 19 stages are not wholly counted. The bar is 3.0 us: not settled"),
        (
            [counts(shared_wavefronts=1e6)],
            "15 of 19 stages are not wholly counted. The bar is 3.0 us: missed by",
        ),
        (every_stage(), "thousand images/s. The bar is 3.0 us: held by 2."),
        (every_stage(shared_wavefronts=1e5), "thousand images/s. The bar is 3.0 us: missed by"),
    ],
)
def test_gpu_floors_are_summed_up_beside_the_bar(counted, verdict):
    assert verdict in summary(rows_of(H100, torch.float16, 256, counted), 3.0)


# --- issue: the loops of machine code ---

# A loop of two mma that may skip two instructions, and a store behind it.
LOOP = """
        /*0000*/                   MOV R1, R2 ;
        /*0010*/              @!PT LDS RZ, [RZ] ;
        /*0020*/                   HMMA.16816.F32 R4, R8, R12, R4 ;
        /*0030*/               @P1 BRA 0x60 ;
        /*0040*/                   LOP3.LUT R4, R4, R5, RZ, 0xc0, !PT ;
        /*0050*/                   LOP3.LUT R5, R4, R5, RZ, 0xc0, !PT ;
        /*0060*/                   HMMA.1688.F32 R4, R8, R12, R4 ;
        /*0070*/              @!P0 BRA 0x20 ;
        /*0080*/                   STG.E.64 [R2.64], R4 ;
        /*0090*/                   EXIT ;
"""


def test_sass_loops_take_the_shortest_way():
    outside, loop = sass_loops.loops_of(LOOP)
    assert (outside.kinds, outside.trip) == ({"STG": 2}, 4)
    assert (loop.kinds, loop.trip) == ({"HMMA.16816": 1, "HMMA.1688": 1}, 4)


@pytest.mark.parametrize(
    ("counted", "instructions"),
    [
        ({"HMMA.16816": 70, "HMMA.1688": 70, "STG.64": 10, "LDG": 5}, 70 * 4 + 10 * 4),
        ({"HMMA.16816": 70, "HMMA.1688": 70, "STG": 20}, 70 * 4 + 10 * 4),  # the compiler joined two
        ({"HMMA.16816": 70, "HMMA.1688": 35, "STG.64": 10}, None),
        ({"LDG": 5}, None),
    ],
)
def test_sass_loops_are_run_as_often_as_the_counts_say(counted, instructions):
    issued = sass_loops.instructions_issued(sass_loops.loops_of(LOOP), counted)
    assert issued == (instructions and pytest.approx(instructions))


def test_gpu_floors_of_issue_are_those_of_the_kernels_own_code(monkeypatch, tmp_path):
    codes = {
        "tile_block_kernel<TileBlock<__half, TileShape{64, 96, 1, true}>>": "",
        "tile_block_kernel<TileBlock<__half, TileShape{64, 64, 1, true}>>": LOOP,
    }
    monkeypatch.setattr(gpu_floors.sass, "read_functions", lambda library, arch: codes)
    instructions = {"HMMA.16816": 1e5, "HMMA.1688": 1e5, "STG.64": 1e4}
    counted = [counts(instructions=instructions)]
    (row,) = (
        row
        for row in rows_of(H100, torch.float16, 256, counted, gpu_floors.MachineCode(tmp_path))
        if row.kernel
    )
    assert row.floors["issue"] == pytest.approx((4e5 + 4e4) / (4 * 132 * 1700))
    assert "issue" not in rows_of(H100, torch.float16, 256, counted, NO_CODE)[0].floors
