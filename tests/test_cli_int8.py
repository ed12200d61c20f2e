"""`mnv2 quantize`, and what the other commands do with the file that it writes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli_cases import FAST, SIZE, needs_data, refusal, save_weights, table_of, tiny_network
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from mnv2_kernels import QuantizedMobileNetV2, _native, shapes
from mnv2_kernels.bench.compare import PeerRow
from mnv2_kernels.bench.results import read_results
from mnv2_kernels.bench.traffic import int8_blocks
from mnv2_kernels.bench.traffic.callgrind import Count
from mnv2_kernels.bench.traffic.int8_blocks import FLOOR_FACTOR, Int8TrafficRow, int8_floor_bytes
from mnv2_kernels.cli.app import main
from mnv2_kernels.packing.packed_layers import PackedLayers
from mnv2_kernels.weights.checkpoints import WeightsError
from mnv2_kernels.weights.int8_files import ABOUT, is_int8_file, read_int8
from mnv2_kernels.weights.sources import Int8Network, data_folder, load_any, load_network
from mnv2_kernels.weights.views import photos_of, whole_and_views

Capture = pytest.CaptureFixture[str]

NAMES = [*(f"features.{index}" for index in range(19)), "classifier"]
VIEWS = 8


def save_gradient(folder: Path, name: str) -> Path:
    """A smooth picture, the same for the same name, as no noise passes for a photograph."""
    generator = torch.Generator().manual_seed(sum(name.encode()))
    coarse = torch.rand(1, 3, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (48, 64), mode="bilinear")[0]
    path = folder / name
    Image.frombytes("RGB", (64, 48), bytes((smooth * 255).byte().permute(1, 2, 0).flatten().tolist())).save(
        path
    )
    return path


class Files:
    """A folder of photographs, a float network and what `mnv2 quantize` made of both."""

    def __init__(self, folder: Path) -> None:
        self.photos = folder / "photos"
        self.photos.mkdir()
        for name in ("one.png", "two.jpg"):
            save_gradient(self.photos, name)
        self.photo = self.photos / "one.png"
        self.floats = save_weights(folder, tiny_network().state_dict())
        self.int8 = folder / "int8.safetensors"

    def quantize(self, *options: str | Path, out: Path | None = None) -> list[str]:
        command = ["quantize", "--weights", self.floats, "--calibrate", self.photos, "--views", VIEWS]
        return [str(each) for each in (*command, "--out", out or self.int8, *FAST, *options)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    made = Files(tmp_path_factory.mktemp("int8"))
    assert main(made.quantize()) == 0
    return made


def of_json(capsys: Capture, *command: str | Path, code: int = 0) -> dict:
    capsys.readouterr()
    assert main([*map(str, command), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def change_state(path: Path, to: Path, **tensors: Tensor) -> Path:
    network, _ = read_int8(path)
    save_file({**network.state_dict(), **tensors}, to)
    return to


# --- quantize ---


def test_quantize_writes_what_it_shows(files: Files, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "again.safetensors"
    result = of_json(
        capsys, *files.quantize("--keep-float", "features.3", "--keep-float", "classifier", out=out)
    )
    assert (result["images"], result["photos"], result["recipe"]) == (VIEWS, 2, "default")
    assert [layer["name"] for layer in result["layers"]] == NAMES
    assert [layer["name"] for layer in result["layers"] if layer["in_float"]] == ["features.3", "classifier"]
    assert result["out_bytes"] == out.stat().st_size
    network, about = read_int8(out)
    assert [name for name, layer in network.named_layers() if layer.is_float] == ["features.3", "classifier"]
    assert about is not None
    assert (about.weights, about.settings.size) == (str(files.floats), SIZE)
    assert [layer.sqnr for layer in about.report] == [layer["sqnr"] for layer in result["layers"]]


def test_quantize_as_a_table(files: Files, tmp_path: Path, capsys: Capture) -> None:
    lines = table_of(capsys, *files.quantize(out=tmp_path / "table.safetensors"))
    assert lines[2].split() == ["features.0", "stem", "3-16", *lines[2].split()[3:]]
    assert any(line.startswith("calibrated") and "8 views of 2 photographs" in line for line in lines)


def test_few_photographs_are_warned_of(files: Files, tmp_path: Path, capsys: Capture) -> None:
    assert main(files.quantize(out=tmp_path / "few.safetensors")) == 0
    assert "mnv2: 2 photographs in 8 views are few" in capsys.readouterr().err


def test_photographs_come_whole_before_views_of_them(files: Files) -> None:
    photos = photos_of(files.photos)
    assert [photo.name for photo in photos] == ["one.png", "two.jpg"]
    both = whole_and_views(photos, 16, "tf", 5)
    assert both.shape == (5, 3, 16, 16)
    assert torch.equal(both[:2], whole_and_views(photos, 16, "tf", 2))
    assert torch.equal(both[0], whole_and_views(photos[:1], 16, "tf", 1)[0])
    assert torch.equal(whole_and_views(photos * 3, 16, "tf", 2), whole_and_views(photos * 3, 16, "tf", 4)[:2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--calibrate", "nowhere"], "nowhere: no such folder of photographs"),
        (["--calibrate", "{empty}"], "no photographs: none of its files has the suffix of an image"),
        (["--calibrate", "{damaged}"], "broken.png: not an image that Pillow can read"),
        (["--out", "model.pt"], "model.pt: expected a name that ends in .safetensors"),
        (["--out", "nowhere/model.safetensors"], "there is no folder nowhere"),
        (["--keep-float", "features.99"], "got 'features.99'"),
        (["--weights", "{int8}"], "an int8 network, where a float network is expected"),
    ],
)
def test_quantize_refuses(
    options: list[str], message: str, files: Files, tmp_path: Path, capsys: Capture
) -> None:
    for name in ("empty", "damaged"):
        (tmp_path / name).mkdir()
    (tmp_path / "empty" / "README.txt").write_text("no image")
    (tmp_path / "damaged" / "broken.png").write_bytes(b"no image")
    places = {"{empty}": tmp_path / "empty", "{damaged}": tmp_path / "damaged", "{int8}": files.int8}
    given = [str(places.get(option, option)) for option in options]
    capsys.readouterr()
    assert message in refusal(capsys, files.quantize(*given))


# --- the file ---


def test_the_loader_knows_an_int8_file(files: Files, tmp_path: Path) -> None:
    assert is_int8_file(files.int8)
    assert not is_int8_file(files.floats)
    network = load_any(str(files.int8))
    assert isinstance(network, Int8Network)
    assert (network.settings.size, network.labels[6]) == (SIZE, "class 6")
    with pytest.raises(WeightsError, match="an int8 network, where a float network is expected"):
        load_network(str(files.int8))
    with pytest.raises(WeightsError, match="says its padding and eps itself"):
        load_any(str(files.int8), padding="same")
    bare = load_any(str(change_state(files.int8, tmp_path / "bare.safetensors")))
    assert isinstance(bare, Int8Network)
    assert (bare.about, bare.settings.size) == (None, 224)


def test_damaged_files_are_named(files: Files, tmp_path: Path) -> None:
    state = QuantizedMobileNetV2.state_dict(read_int8(files.int8)[0])
    path = tmp_path / "damaged.safetensors"
    save_file({name: tensor for name, tensor in state.items() if name != "features.0.scale"}, path)
    with pytest.raises(
        WeightsError, match=r"damaged\.safetensors: a damaged int8 network (?s:.*)features\.0\.scale"
    ):
        load_any(str(path))
    for about in ("{", "{}", '{"settings": 3}'):
        save_file(load_file(files.int8), path, {ABOUT: about})
        with pytest.raises(WeightsError, match="a damaged int8 network"):
            load_any(str(path))


def test_the_float_network_is_found_or_given(files: Files, tmp_path: Path) -> None:
    network = load_any(str(files.int8))
    assert isinstance(network, Int8Network)
    found = network.float_network()
    assert found is not None
    assert found.name == str(files.floats)
    assert network.about is not None
    lost = replace(network, about=replace(network.about, weights=str(tmp_path / "lost.safetensors")))
    assert lost.float_network() is None
    assert lost.float_network(str(files.floats)) is not None
    with pytest.raises(WeightsError, match="random: not the float network of"):
        lost.float_network("random")


# --- verify and classify ---


def test_verify_compares_every_layer(files: Files, capsys: Capture) -> None:
    result = of_json(capsys, "verify", files.photo, "--weights", files.int8, "--batch", "3")
    assert (result["passed"], result["photos"], result["inputs"]) == (True, 1, 9)
    assert [part["name"] for part in result["parts"]] == [*NAMES, "network"]
    assert all(part["values"] > 0 and part["different"] == 0 for part in result["parts"])
    recorded = {layer.name: layer.sqnr for layer in read_int8(files.int8)[1].report}
    assert {part["name"]: part["recorded_sqnr"] for part in result["parts"][:-1]} == recorded
    assert all(part["sqnr"] > 0 for part in result["parts"][:-1])
    assert result["float_weights"] == str(files.floats)
    assert math.isfinite(result["agreement"]["sqnr"])
    table_of(capsys, "verify", files.photo, "--weights", files.int8)


def test_verify_finds_wrong_bits(files: Files, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = PackedLayers.forward

    def broken(operator: PackedLayers, x: Tensor) -> Tensor:
        y = forward(operator, x)
        first, *others = operator.layers
        if not others and first.kind == "head_pool":
            y[0, 0] ^= 1
        return y

    monkeypatch.setattr(PackedLayers, "forward", broken)
    result = of_json(capsys, "verify", files.photo, "--weights", files.int8, code=1)
    assert [part["name"] for part in result["parts"] if part["different"]] == ["features.18"]
    assert main(["verify", str(files.photo), "--weights", str(files.int8)]) == 1
    assert capsys.readouterr().out.count("FAILED") == 2


def test_classify(files: Files, capsys: Capture) -> None:
    result = of_json(capsys, "classify", files.photo, "--weights", files.int8)
    (photo,) = result["photos"]
    network = load_any(str(files.int8))
    assert isinstance(network, Int8Network)
    logits = network.model.reference(whole_and_views([files.photo], SIZE, "torchvision", 1))[0]
    assert [guess["logit"] for guess in photo["top"]] == logits.topk(5).values.tolist()
    assert photo["agrees"] is result["passed"] is True
    floats = network.float_network()
    assert floats is not None
    assert photo["top"][0]["float_logit"] is not None
    assert result["timing"]["int8_ms"] > 0
    table_of(capsys, "classify", files.photo, "--weights", files.int8)


def test_without_float_weights(files: Files, tmp_path: Path, capsys: Capture) -> None:
    bare = change_state(files.int8, tmp_path / "bare.safetensors")
    for command in ("verify", "classify"):
        lines = table_of(capsys, command, files.photo, "--weights", bare, *FAST)
        assert any("its float weights are not known or not there" in line for line in lines)
    result = of_json(capsys, "verify", files.photo, "--weights", bare, "--float-weights", files.floats, *FAST)
    assert result["float_weights"] == str(files.floats)
    assert result["parts"][0]["recorded_sqnr"] is None
    assert "not known or not there" in refusal(capsys, ["bench", "--weights", bare])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["verify", "--dtype", "float16"], "--dtype: an int8 network has no other type"),
        (["profile", "--dtype", "bfloat16"], "--dtype: an int8 network has no other type"),
        (["traffic", "--no-eager"], "--eager: for float blocks alone"),
        (["bench", "--width", "0.5"], "--width: --weights have one"),
    ],
)
def test_what_int8_cannot_do(command: list[str], message: str, files: Files, capsys: Capture) -> None:
    capsys.readouterr()
    assert message in refusal(capsys, [*command, "--weights", files.int8])


def test_float_weights_of_a_float_network(files: Files, capsys: Capture) -> None:
    capsys.readouterr()
    for command in (["verify"], ["classify", files.photo], ["bench"]):
        arguments = [*command, "--weights", files.floats, "--float-weights", "random"]
        assert "--float-weights: for int8" in refusal(capsys, arguments)


# --- profile ---


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (1, 2), (2, 2)])
def test_profile(batch: int, threads: int, files: Files, capsys: Capture) -> None:
    before = torch.get_num_threads()
    options = ["--batch", str(batch), "--threads", str(threads), "--rounds", "2"]
    try:
        result = of_json(capsys, "profile", "--weights", files.int8, *options)
    finally:
        torch.set_num_threads(before)
    assert [layer["kind"] for layer in result["layers"]] == [
        "stem + block",
        *["block"] * 16,
        "head",
        "linear",
    ]
    assert result["isa"] == _native.selected_int8_isa()
    workers = 1 if batch >= threads else threads
    network = shapes.mobilenet_v2(0.35, SIZE, num_classes=7)
    macs = [network.stem.macs + network.blocks[0].macs, *(layer.macs for layer in network.layers[2:])]
    for layer, count in zip(result["layers"], macs, strict=True):
        assert layer["ms"] > 0
        assert layer["gops"] * layer["ms"] == pytest.approx(2e-6 * count)
        assert layer["share"] == pytest.approx(layer["gops"] / (result["peak_gops"] * workers))


def test_profile_of_layers_in_float(files: Files, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "mixed.safetensors"
    assert main(files.quantize("--keep-float", "features.1", out=out)) == 0
    capsys.readouterr()
    assert "profile times int8 layers, and features.1 are in float" in refusal(
        capsys, ["profile", "--weights", out]
    )
    assert of_json(capsys, "verify", files.photo, "--weights", out)["passed"]


def test_the_peak_of_bytes_is_above_that_of_floats() -> None:
    if _native.selected_int8_isa() == "avx512_vnni":
        assert _native.measure_dot_peak() > 2 * _native.measure_fma_peak()
    assert _native.measure_dot_peak() > 0


# --- traffic ---


def test_traffic_table(
    files: Files, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def counted(kind: str, blocks: list[dict], cache_bytes: int) -> tuple[list[dict], list[Count]]:
        asked.append((kind, cache_bytes))
        plans = [getattr(_native, kind)(**each).plan for each in blocks]
        fetched = [plan["packed_bytes"] + plan["activation_bytes"] for plan in plans]
        return plans, [Count(1, (each + 63) // 64) for each in fetched]

    monkeypatch.setattr(int8_blocks, "run_counted", counted)
    path = tmp_path / "int8_traffic.json"
    lines = table_of(capsys, "traffic", "--weights", files.int8, "--cache", "256K", "--json", path)
    assert asked == [("Int8BlockRun", 256 << 10)]
    rows = read_results(path, Int8TrafficRow).rows
    assert sum(row.blocks for row in rows) == 17
    assert all(row.floor_bytes < row.stored_bytes for row in rows)
    assert not any("*" in line for line in lines[: 2 + len(rows)])
    assert not replace(rows[0], fused_bytes=math.ceil(1.01 * FLOOR_FACTOR * rows[0].stored_bytes)).meets_floor


def test_the_floor_of_a_block() -> None:
    block = shapes.BlockShape(1, 10, 10, 4, 24, 4, residual=True)
    weights, factors = 4 * 24 + 9 * 24 + 24 * 4, 2 * (24 + 24 + 4) + 4
    assert int8_floor_bytes(block) == 2 * 400 + weights + 4 * factors
    plain = replace(block, in_channels=24, residual=False, expand=False)
    assert int8_floor_bytes(plain) == 2800 + 9 * 24 + 24 * 4 + 4 * 2 * (24 + 4)


# --- the trained networks ---


@needs_data
def test_a_trained_network_from_end_to_end(tmp_path: Path, capsys: Capture) -> None:
    out, photos = tmp_path / "dogs.safetensors", data_folder() / "photos"
    small = ["--size", "96"]
    command = [
        "quantize",
        "--weights",
        "dogs",
        "--calibrate",
        str(photos),
        "--out",
        str(out),
        "--views",
        "24",
    ]
    result = of_json(capsys, *command, *small)
    assert result["agreement"]["sqnr"] > 18
    verified = of_json(capsys, "verify", "--weights", out)
    assert (verified["passed"], verified["photos"], verified["float_weights"]) == (True, 12, "dogs")
    assert verified["agreement"]["sqnr"] > 18
    assert verified["size"] == 96
    classified = of_json(capsys, "classify", photos / "pets.jpg", "--weights", out)
    assert classified["photos"][0]["top"][0]["label"].startswith("n0")


@needs_data
@pytest.mark.slow
def test_bench_of_an_int8_file(files: Files, tmp_path: Path, capsys: Capture) -> None:
    """The engines that are installed, all on the file's own network and photographs."""
    path = tmp_path / "peers.json"
    options = ["--weights", files.int8, "--quick", "--threads", "1", "--rounds", "1", "--json", path]
    assert main(["bench", *map(str, options)]) == 0
    rows = {row.peer: row for row in read_results(path, PeerRow).rows}
    assert {row.weights for row in rows.values()} == {str(files.floats)}
    assert (rows["int8"].size, rows["int8"].width) == (SIZE, 0.5)
    for name in ("int8", "openvino-int8", "onnxruntime-int8"):
        row = rows[name]
        if row.obstacle is None:
            assert math.isfinite(row.sqnr)
            assert row.share > 0
        else:
            assert row.obstacle.startswith("not installed")
    assert rows["fused"].sqnr is None
