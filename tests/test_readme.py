"""The README's figures are those of the results files."""

from __future__ import annotations

import readme
import torch

from mnv2_kernels import shapes
from mnv2_kernels.bench.compare import PeerRow
from mnv2_kernels.bench.results import read_results
from mnv2_kernels.bench.traffic.blocks import TrafficRow


def test_the_tables_are_generated_from_the_results():
    text = readme.README.read_text()
    assert readme.with_tables(text) == text, "run python benchmarks/readme.py"


def test_the_int8_table_says_what_every_engine_keeps():
    rows = read_results(readme.INT8_RESULTS, PeerRow).rows
    of_int8 = [row for row in rows if row.accuracy == "int8"]
    assert {row.peer for row in of_int8} == {"int8", "openvino-int8", "onnxruntime-int8"}
    assert all(row.sqnr is not None and row.weights == "imagenet" for row in of_int8)
    (heading, _, *lines) = readme.generate(read_results(readme.INT8_RESULTS, PeerRow)).splitlines()[2:]
    assert heading.endswith("| SQNR, dB |")
    assert {line.count("|") for line in lines} == {heading.count("|")}


def test_the_traffic_is_that_of_its_results():
    rows = read_results(readme.RESULTS.with_name("traffic.json"), TrafficRow).rows
    factors = [row.floor_factor for row in rows]
    unfused = max(row.unfused_bytes / row.fused_bytes for row in rows)
    eager = max(row.eager_channels_last_bytes / row.fused_bytes for row in rows)
    text = " ".join(readme.README.read_text().split())
    assert f"every block fetches {min(factors):.2f} to {max(factors):.2f} times its floor" in text
    assert f"unfused up to {unfused:.1f} times, torch eager (channels_last) up to {eager:.0f} times" in text


def test_what_is_not_written_is_the_expanded_tensors():
    megabytes = shapes.mobilenet_v2(1.0, 224).expanded_bytes(torch.float32) / 1e6
    assert f"writes {megabytes:.0f} MB less (float32)" in readme.README.read_text()
