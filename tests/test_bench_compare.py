"""`mnv2 bench`: peers are verified before they are timed, and none is left out silently."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from cli_cases import refusal

from mnv2_kernels import _native, shapes
from mnv2_kernels.bench import BenchError, compare, peers, zoo
from mnv2_kernels.bench.accuracy import LARGEST_ERROR
from mnv2_kernels.bench.compare import PeerRow
from mnv2_kernels.bench.peers import PEERS, Peer
from mnv2_kernels.bench.results import read_results
from mnv2_kernels.bench.setting import Setting
from mnv2_kernels.bench.subject import Subject, Unsupported
from mnv2_kernels.cli.app import main
from mnv2_kernels.layer import layer_shapes
from mnv2_kernels.networks import NETWORKS, layers_of
from mnv2_kernels.packing.plans import layer_plans
from mnv2_kernels.processor import FORCE_ISA_VARIABLE
from mnv2_kernels.weights.sources import data_photos
from mnv2_kernels.weights.views import packaged_photos

Capture = pytest.CaptureFixture[str]

NARROW = ("--size", "32", "--width", "0.35", "--threads", "1", "--rounds", "2")
SETTING = Setting("float32", 1, 2, 32, 0.35)
HAS_PHOTOS = len((*data_photos(), *packaged_photos())) > 1  # one half calibrates, the other one is measured


def fake_peer(name: str = "fake", factor: float = 1.0, **options) -> Peer:
    """The eager network, its logits multiplied."""

    def make(subject, setting):
        model = subject.model_for(setting)
        return lambda x: factor * model(x)

    return Peer(name, name, make, **options)


def rows_of(*others: Peer, setting: Setting = SETTING, named: bool = False) -> dict[str, PeerRow]:
    (rows,) = compare.compare([setting], [peers.PEERS[0], *others], rounds=3, named=named)
    return {row.peer: row for row in rows}


def bench(capsys: Capture, *arguments: str) -> str:
    assert main(["bench", *NARROW, *arguments]) == 0
    return capsys.readouterr().out


def test_rows_and_table(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "peers.json"
    output = bench(capsys, "--peers", "channels_last,eager", "--json", str(file))
    results = read_results(file, PeerRow)
    assert [row.peer for row in results.rows] == ["fused", "eager", "channels_last"]
    assert (
        results.header.command == f"mnv2 bench {' '.join(NARROW)} --peers channels_last,eager --json {file}"
    )
    assert results.header.rounds == 2
    macs = shapes.mobilenet_v2(0.35, 32).macs
    fused, *others = results.rows
    for row in results.rows:
        assert row.title in output
        assert (row.threads, row.batch, row.size, row.width) == (1, 1, 32, 0.35)
        assert 0 < row.best_ms <= row.lower_quartile_ms <= row.median_ms <= row.upper_quartile_ms
        assert row.images_per_s == pytest.approx(1e3 / row.median_ms)
        assert row.share == pytest.approx(2e-6 * macs / row.best_ms / row.peak_gflops)
        assert row.error < 1e-4
    assert fused.ratio == 1
    assert others[0].ratio == pytest.approx(others[0].median_ms / fused.median_ms)
    assert max(map(len, output.splitlines())) <= 110


def test_times_are_of_an_image_and_the_peak_of_all_threads(monkeypatch) -> None:
    calls = []

    def times(functions, rounds, pause_s):
        calls.append((rounds, pause_s))
        return {name: [8.0, 4.0, 6.0] for name in functions}

    monkeypatch.setattr(compare, "interleaved_times", times)
    monkeypatch.setattr(compare._native, "measure_fma_peak", lambda: 50.0)
    row = rows_of(setting=replace(SETTING, threads=2, batch=4))["fused"]
    assert (row.median_ms, row.best_ms, row.images_per_s, row.peak_gflops) == (1.5, 1.0, 1e3 / 1.5, 100.0)
    assert row.share == pytest.approx(2e-6 * shapes.mobilenet_v2(0.35, 32).macs / 100)
    (call,) = calls
    assert call == (compare.FEWEST_ROUNDS, replace(SETTING, threads=2).pause_s)
    assert call[1] > 0


def test_threads_are_torchs_and_set_back() -> None:
    seen = []
    before = torch.get_num_threads()
    peer = fake_peer()
    spy = replace(peer, make=lambda *given: seen.append(torch.get_num_threads()) or peer.make(*given))
    rows_of(spy, setting=replace(SETTING, threads=before + 1))
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("factor", "error"), [(1.01, 0.01), (float("nan"), None)])
def test_a_wrong_peer_is_not_timed(factor, error) -> None:
    row = rows_of(fake_peer(factor=factor))["fake"]
    assert row.wrong
    assert row.median_ms is None
    assert row.obstacle.startswith("wrong: ")
    assert (row.error and round(row.error, 3)) == error


def test_a_wrong_peer_is_exit_code_1(monkeypatch, capsys: Capture) -> None:
    monkeypatch.setattr(peers, "PEERS", (PEERS[0], fake_peer(factor=2.0)))
    assert main(["bench", *NARROW]) == 1
    assert "without fake" in capsys.readouterr().out


def test_another_accuracy_is_named_and_not_gated(monkeypatch, capsys: Capture) -> None:
    row = rows_of(fake_peer(factor=1.5, accuracy="int8"))["fake"]
    assert (row.wrong, row.accuracy) == (False, "int8")
    macs = shapes.mobilenet_v2(0.35, 32).macs
    assert row.share == pytest.approx(2e-6 * macs / row.best_ms / row.peak_gflops)
    if HAS_PHOTOS:
        assert row.sqnr == pytest.approx(6.02, abs=0.01)
    else:
        assert row.sqnr is None
    assert row.error == pytest.approx(0.5, rel=0.01)
    assert row.median_ms > 0
    monkeypatch.setattr(peers, "PEERS", (PEERS[0], fake_peer(factor=1.5, accuracy="int8")))
    assert "5.0e-01 int8" in bench(capsys)


def test_what_cannot_run_says_why() -> None:
    def unsupported(subject, setting):
        raise Unsupported("not on Sundays")

    def broken(subject, setting):
        raise KeyError("no such layer\nand a traceback")

    rows = rows_of(
        fake_peer("absent", modules=("torch", "no_such_module")),
        fake_peer("half", dtypes=("float16",)),
        Peer("sunday", "sunday", unsupported),
        Peer("broken", "broken", broken),
    )
    assert "not installed: no_such_module (pip install" in rows["absent"].obstacle
    assert rows["half"].obstacle == "runs float16 only"
    assert rows["sunday"].obstacle == "not on Sundays"
    assert rows["broken"].obstacle.startswith("failed: KeyError: 'no such layer")
    assert all(row.median_ms is None for name, row in rows.items() if name != "fused")
    with pytest.raises(BenchError, match=r"peer 'broken', width 0\.35.*KeyError"):
        rows_of(Peer("broken", "broken", broken), named=True)


def test_another_instruction_set_is_packed_for(monkeypatch) -> None:
    if not any(isa["name"] == "avx2" and isa["compiled"] and isa["supported"] for isa in _native.isas()):
        pytest.skip("no AVX2 here")
    with torch.no_grad():
        network = peers.deployed_avx2(Subject(0.35, 32, 2), SETTING).network
    assert {plan["isa"] for plan in layer_plans(network.packed, torch.empty(1, 3, 32, 32), 1)} == {"avx2"}
    monkeypatch.setenv(FORCE_ISA_VARIABLE, "avx2")
    with pytest.raises(Unsupported, match="by itself"):
        peers.deployed_avx2(Subject(0.35, 32, 2), SETTING)


def test_the_subjects_logits_depend_on_its_input() -> None:
    """With torch's own initial weights the signal dies out, and an engine may read what it likes."""
    subject = Subject(0.35, 32, 2)
    with torch.no_grad():
        change = (subject.model(-subject.x) - subject.expected).abs().max() / subject.expected.abs().max()
    # The views are smooth and small, and which ones there are depends on the photographs installed here.
    assert change > 10 * LARGEST_ERROR["float32"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peers", "nobody"], "unknown peer 'nobody'; there are: all, fused, deploy"),
        (["--peers", "eager,"], "unknown peer ''"),
        (["--peers", "tensorrt"], "peer 'tensorrt' does not run on cpu"),
        (["--rounds", "0"], "--rounds"),
        (["--size", "8"], "--size"),
        (["--json", "nowhere/peers.json"], "there is no folder nowhere"),
        (["--json", "."], "a folder, where a file is to be written"),
    ],
)
def test_refusals(arguments, message, capsys: Capture) -> None:
    assert message in refusal(capsys, ["bench", *arguments])


def test_a_named_peer_has_to_be_installed(monkeypatch, capsys: Capture) -> None:
    monkeypatch.setattr(peers, "PEERS", (PEERS[0], fake_peer("absent", modules=("no_such_module",))))
    assert "peer 'absent' is not installed: no_such_module" in refusal(capsys, ["bench", "--peers", "absent"])
    assert "without absent" in bench(capsys)


def test_the_command_line_imports_no_peer() -> None:
    heavy = ["torchvision", "matplotlib", "onnx", "onnxruntime", "openvino", "executorch", "ncnn", "MNN"]
    code = f"import sys, mnv2_kernels.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [peer.name for peer in PEERS if peer.modules and "cpu" in peer.devices])
def test_installed_peers_are_right(name) -> None:
    """ncnn takes one image, so all do here."""
    (peer,) = (peer for peer in PEERS if peer.name == name)
    setting = replace(SETTING, batch=1)
    if obstacle := peer.obstacle(setting):
        pytest.skip(obstacle)
    row = rows_of(peer, setting=setting)[name]
    if not HAS_PHOTOS and row.accuracy == "int8":
        assert row.obstacle.startswith("no photographs to calibrate with")
        pytest.skip(row.obstacle)
    if row.obstacle and row.obstacle.startswith("OpenVINO has no bfloat16"):
        pytest.skip(row.obstacle)
    assert row.obstacle is None
    assert row.median_ms > 0


@pytest.mark.parametrize(("network", "library"), [("fbnet_c", "timm"), ("mobilenetv3_small", "torchvision")])
def test_a_well_known_network(network, library, capsys: Capture, tmp_path: Path) -> None:
    pytest.importorskip(library)
    file = tmp_path / "peers.json"
    options = ("--network", network, "--size", "64", "--threads", "1", "--rounds", "1")
    assert main(["bench", *options, "--peers", "eager,deploy,int8", "--json", str(file)]) == 0
    rows = {row.peer: row for row in read_results(file, PeerRow).rows}
    macs = sum(shape.macs for shape in layer_shapes(layers_of(network), 1, 64, 64))
    for name in ("fused", "deploy", "eager"):
        assert rows[name].weights == f"{network}, random"
        assert rows[name].share == pytest.approx(2e-6 * macs / rows[name].best_ms / rows[name].peak_gflops)
        assert rows[name].error < 1e-4
    assert rows["int8"].obstacle == "int8 is compared for trained weights of MobileNetV2 alone"
    assert capsys.readouterr().out.startswith(f"{network}, ")


def test_what_a_well_known_network_refuses(capsys: Capture, monkeypatch) -> None:
    assert set(zoo.BUILDERS) == set(NETWORKS)
    arguments = ["bench", "--network", "mnasnet_b1", "--width", "1.4"]
    assert "--width: a --network has" in refusal(capsys, arguments)
    missing = partial(importlib.import_module, "no_such_library")
    monkeypatch.setitem(zoo.BUILDERS, "mnasnet_b1", missing)
    with pytest.raises(BenchError, match="mnasnet_b1 comes from no_such_library, which is not installed"):
        next(compare.compare([SETTING], peers.PEERS[:1], 1, well_known="mnasnet_b1"))
