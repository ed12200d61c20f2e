"""--model: any library's models and functions in files, fused, as the commands' networks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from cli_cases import refusal, save_photo, table_of
from safetensors.torch import save_file

from mnv2_kernels.bench.compare import PeerRow
from mnv2_kernels.bench.results import read_results
from mnv2_kernels.cli.app import main
from mnv2_kernels.dropin.plans import Plan
from mnv2_kernels.nn.deploying import deploy
from mnv2_kernels.weights.models import load_model, results
from mnv2_kernels.weights.photos import load_photo, open_photo

Capture = pytest.CaptureFixture[str]

CLASSES = 7
# Two blocks that are served, and one that is not.
NETWORK = """
import torch
from torch import nn
from mnv2_kernels.bench.zoo import FlatBlock

class Network(nn.Module):
    def __init__(self, several=False):
        super().__init__()
        self.several = several
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.blocks = nn.Sequential(FlatBlock(8, 8, 1, 3), FlatBlock(8, 16, 2, 3))
        self.dilated = FlatBlock(16, 16, 1, 2)
        self.dilated.conv[3].dilation = self.dilated.conv[3].padding = (2, 2)
        self.classifier = nn.Linear(16, 7)

    def forward(self, x):
        x = self.dilated(self.blocks(self.stem(x)))
        logits = self.classifier(x.mean((2, 3)))
        return {"logits": logits, "image": x} if self.several else logits

def make():
    torch.manual_seed(3)
    return Network()

def several():
    return Network(several=True)

def image():
    return nn.Sequential(make().stem, make().blocks)

def plain():
    return nn.Conv2d(3, 4, 1)

def number():
    return 3

def fails():
    raise RuntimeError("no network today")
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "home_made.py"
    path.write_text(NETWORK)
    return f"{path}:make"


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnv2_kernels.cli.classify.ROUNDS", 1)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(autouse=True)
def _same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def json_of(capsys: Capture, *arguments: str | Path, code: int = 0) -> dict:
    assert main([*map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


# --- the commands ---


def test_classify(source: str, tmp_path: Path, capsys: Capture) -> None:
    photo = save_photo(tmp_path)
    result = json_of(capsys, "classify", photo, "--model", source, "--size", "40", "--preprocess", "tf")
    assert result["passed"] is result["agrees"] is True
    assert (result["model"], result["classes"], result["size"]) == (source, CLASSES, 40)
    assert result["report"]["fused"] == ["blocks.0", "blocks.1"]
    assert result["report"]["eager"] == {"dilated": "dilation 2"}
    with torch.inference_mode():
        model = load_model(source)
        expected = model.eager(load_photo(photo, 40, "tf")[None])[0].topk(5)
    top = result["photos"][0]["top"]
    assert [guess["index"] for guess in top] == expected.indices.tolist()
    assert [guess["eager_logit"] for guess in top] == pytest.approx(expected.values.tolist(), abs=1e-6)
    assert [guess["label"] for guess in top] == [f"class {guess['index']}" for guess in top]


def test_classify_shows_blocks_and_labels(source: str, tmp_path: Path, capsys: Capture) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"label {index}" for index in range(CLASSES)))
    command = ["classify", save_photo(tmp_path), "--model", source, "--labels", labels, "--size", "32"]
    lines = table_of(capsys, *command)
    assert sum("label " in line for line in lines) == 5
    assert any("2 of 3 blocks" in line and "eager: 1 dilation 2" in line for line in lines)
    labels.write_text("one")
    assert "1 labels, but the network has 7 classes" in refusal(capsys, command)


def test_fused_and_eager_disagree(source: str, tmp_path: Path, capsys: Capture, monkeypatch) -> None:
    run = Plan.run
    monkeypatch.setattr(Plan, "run", lambda plan, x: run(plan, x) + 1)
    result = json_of(capsys, "classify", save_photo(tmp_path), "--model", source, "--size", "32", code=1)
    assert (result["agrees"], result["timing"]) == (False, None)
    result = json_of(capsys, "verify", "--model", source, "--size", "32", code=1)
    assert not any(part["passed"] for part in result["parts"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_verify(dtype: str, source: str, tmp_path: Path, capsys: Capture) -> None:
    options = ("--size", 32, "--size", 45, "--batch", 3, "--dtype", dtype)
    result = json_of(capsys, "verify", save_photo(tmp_path), "--model", source, *options)
    assert result["passed"] is True
    assert (result["inputs"], result["photos"], result["dtype"]) == (9, 1, dtype)
    parts = ("blocks.0", "blocks.1", "model")
    assert [part["name"] for part in result["parts"]] == [*parts, *parts]
    assert [part["shape"] for part in result["parts"]][1::2] == [
        *("8x16x16 to 16x8x8", "8x23x23 to 8x23x23", "3x45x45 to 7")
    ]
    assert all(part["eager_error"] > 0 for part in result["parts"])


def test_verify_every_result(source: str, capsys: Capture) -> None:
    lines = table_of(capsys, "verify", "--model", source.replace("make", "several"), "--size", "32")
    assert [line.split()[0] for line in lines[2:6]] == ["blocks.0", "blocks.1", "result", "result"]


@pytest.mark.parametrize("batch", [1, 3])
def test_profile(batch: int, source: str, capsys: Capture) -> None:
    options = ("--size", 64, "--rounds", 2, "--threads", 2, "--batch", batch)
    result = json_of(capsys, "profile", "--model", source, *options)
    assert [layer["kind"] for layer in result["layers"]] == ["stem", "block", "block"]
    assert all(layer["ms"] > 0 for layer in result["layers"])
    modules = {each["name"]: each["ms"] for each in result["eager_modules"]}
    assert [*modules] == [*(f"dilated.conv.{index}" for index in range(8)), "classifier"]
    assert min(*modules.values(), result["fused_ms"], result["call_ms"]) > 0
    lines = table_of(capsys, "profile", "--model", source, *options)
    assert any("2 of 3 blocks" in line for line in lines)


def test_deploying_in_inference_mode(source: str) -> None:
    model, x = load_model(source, size=32), torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(deploy(model.fused)(x), model.fused(x))


@pytest.mark.parametrize("function", ["make", "several"])
def test_bench(function: str, source: str, tmp_path: Path, capsys: Capture) -> None:
    source, file = source.replace("make", function), tmp_path / "rows.json"
    options = ("--size", "32", "--threads", "1", "--rounds", "1", "--peers", "deploy,channels_last")
    assert main(["bench", "--model", source, *options, "--json", str(file)]) == 0
    rows = {row.peer: row for row in read_results(file, PeerRow).rows}
    assert [*rows] == ["fused", "deploy", "channels_last"]
    for row in rows.values():
        assert (row.weights, row.size, row.obstacle) == (source, 32, None)
        operations = 2e-6 * load_model(source, size=32).macs
        assert row.share == pytest.approx(operations / row.best_ms / row.peak_gflops)
    assert f"{source}, " in capsys.readouterr().out


def test_operations_are_those_of_the_convolutions(source: str) -> None:
    first = 16 * 16 * (8 * 24 + 9 * 24 + 24 * 8)
    second = 16 * 16 * 8 * 24 + 8 * 8 * (9 * 24 + 24 * 16)
    dilated = 8 * 8 * (16 * 32 + 9 * 32 + 32 * 16)
    assert load_model(source, size=32).macs == 16 * 16 * 27 * 8 + first + second + dilated + 16 * 7


# --- weights ---


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_weights(prefix: str, source: str, tmp_path: Path) -> None:
    x = torch.randn(1, 3, 32, 32)
    state_dict = load_model(source).eager.state_dict()
    state_dict["classifier.bias"] = state_dict["classifier.bias"] + 1
    counters = [name for name in state_dict if name.endswith("num_batches_tracked")]
    kept = {f"{prefix}{name}": value for name, value in state_dict.items() if name not in counters}
    save_file(kept, tmp_path / "weights.safetensors")
    model = load_model(source, weights=str(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(model.fused(x), load_model(source).eager(x) + 1)


def test_weights_of_another_model(source: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "weights.safetensors"
    state_dict = load_model(source).eager.state_dict()
    wrong_shape = {**state_dict, "classifier.bias": torch.zeros(3)}
    missing = {name: value for name, value in state_dict.items() if name != "classifier.bias"}
    for weights, words in (
        (wrong_shape, "size mismatch for classifier.bias"),
        (missing, "1 keys missing (classifier.bias)"),
        ({**state_dict, "more": torch.zeros(3)}, "1 unexpected (more)"),
    ):
        save_file(weights, path)
        message = refusal(capsys, ["verify", "--model", source, "--weights", path])
        assert f"{path}: not a state dict of {source}: " in message
        assert words in message
    assert "cannot be read" in refusal(capsys, ["verify", "--model", source, "--weights", "absent.pth"])


# --- refusals ---


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("plain", "none of its blocks runs fused: no inverted residual was found"),
        ("number", "number() returns a int, not a torch.nn.Module"),
        ("fails", "it cannot be built (RuntimeError: no network today)"),
        ("absent", "it has no function absent"),
    ],
)
def test_functions_that_give_no_model(function: str, words: str, source: str, capsys: Capture) -> None:
    source = source.replace("make", function)
    message = refusal(capsys, ["verify", "--model", source])
    assert message.startswith(f"mnv2: {source}: ")
    assert words in message


def test_sources_that_are_none(tmp_path: Path, capsys: Capture) -> None:
    forms = "expected one of timm:NAME, torchvision:NAME, transformers:NAME, FILE.py:function"
    for source in ("mobilenet_v2", "keras:mobilenet_v2", "timm:", "network.py"):
        assert f"--model {source}: {forms}" in refusal(capsys, ["verify", "--model", source])
    path = tmp_path / "absent.py"
    assert f"there is no file {path}" in refusal(capsys, ["verify", "--model", f"{path}:make"])


@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers"])
def test_a_library_that_is_not_installed(library: str, capsys: Capture, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    message = refusal(capsys, ["profile", "--model", f"{library}:mobilenet_v2"])
    assert f"{library} is not installed; pip install" in message


def test_options_that_a_model_has_no_use_for(source: str, tmp_path: Path, capsys: Capture) -> None:
    photo = save_photo(tmp_path)
    for command, words in (
        (["classify", photo, "--padding", "same"], "--padding: a --model says it itself"),
        (["verify", "--eps", "0.1", "--float-weights", "a"], "--eps and --float-weights: a --model"),
        (["profile", "--network", "fbnet_c"], "--network: a --model"),
        (["bench", "--width", "1.4"], "--width: a --model"),
        (["verify", "--pretrained"], "--pretrained: nobody publishes weights of"),
    ):
        assert words in refusal(capsys, [*command, "--model", source])
    for command in (["classify", photo], ["verify"], ["profile"], ["bench"]):
        assert "--pretrained: for a --model alone" in refusal(capsys, [*command, "--pretrained"])
    assert "several for a --model alone" in refusal(capsys, ["verify", "--size", "32", "--size", "64"])
    image = source.replace("make", "image")
    assert "its result is no logits (N, classes)" in refusal(
        capsys, ["classify", photo, "--model", image, "--size", "32"]
    )


# --- libraries ---


def test_published_weights_that_cannot_be_had(capsys: Capture, monkeypatch) -> None:
    models = pytest.importorskip("torchvision.models")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host\nat all")

    monkeypatch.setattr(models, "get_model", refuse)
    command = ["verify", "--model", "torchvision:mobilenet_v2", "--pretrained"]
    assert "its published weights cannot be had (OSError: no route to host)" in refusal(capsys, command)
    assert "one of them" in refusal(capsys, [*command, "--weights", "a.pth"])


def test_transformers_needs_a_name_of_what_is_published(capsys: Capture) -> None:
    pytest.importorskip("transformers")
    command = ["verify", "--model", "transformers:google/mobilenet"]
    assert "a name on the Hub needs --pretrained" in refusal(capsys, command)
    command = ["verify", "--model", "transformers:mobilenet_v2", "--pretrained"]
    assert "a type of model has no weights" in refusal(capsys, command)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "blocks"), [("timm:mobilenetv2_035", 17), ("torchvision:mobilenet_v3_small", 11)]
)
def test_a_library_s_own_preprocessing_and_labels(source: str, blocks: int, tmp_path: Path) -> None:
    library, _, name = source.partition(":")
    module = pytest.importorskip(library)
    model, photo = load_model(source, size=64), save_photo(tmp_path)
    assert (len(model.report.fused), model.report.eager) == (blocks, {})
    assert "goldfish" in model.labels_of(1000)[1]
    if library == "timm":
        config = module.data.resolve_model_data_config(model.eager)
        transform = module.data.create_transform(**config, is_training=False)
    else:
        transform = module.models.get_model_weights(name).DEFAULT.transforms()
    image = open_photo(photo)
    assert torch.equal(model.images([photo], 224), transform(image)[None])
    assert model.images([photo]).shape == (1, 3, 64, 64)
    near = {"timm": "mobilenetv2_0", "torchvision": "mobilenet_v3"}[library]
    with pytest.raises(ValueError, match="no such model; near it: mobilenet"):
        load_model(f"{library}:{near}")


@pytest.mark.slow
def test_a_configuration_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    labels = {0: "cat", 1: "dog", 2: "bird"}
    config = transformers.MobileNetV2Config(id2label=labels, image_size=64, depth_multiplier=0.35)
    config.save_pretrained(tmp_path)
    processor = transformers.MobileNetV2ImageProcessor(
        size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}
    )
    processor.save_pretrained(tmp_path)
    model, photo = load_model(f"transformers:{tmp_path}"), save_photo(tmp_path)
    assert (len(model.report.fused), model.size) == (17, 64)
    images = processor(open_photo(photo), return_tensors="pt")["pixel_values"]
    assert torch.equal(model.images([photo]), images)
    assert model.images([photo], 32).shape == (1, 3, 32, 32)
    with torch.no_grad():
        assert model.labels_of(results(model.fused, images)[0].shape[1]) == ("cat", "dog", "bird")
