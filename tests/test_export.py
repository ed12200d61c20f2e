"""mnv2_kernels.export, `mnv2 export` and the C++ example: files that any machine runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cli_cases import refusal
from conftest import SUPPORTED_ISAS
from models import calls, changed, packs, small
from torch import Tensor, nn

import mnv2_kernels
from mnv2_kernels import quantize
from mnv2_kernels.cli.app import main
from mnv2_kernels.deployment import export as export_module
from mnv2_kernels.deployment.export import WrongProgramError, load
from mnv2_kernels.nn.eager import eager

Capture = pytest.CaptureFixture[str]
EXAMPLE = Path(__file__).parent.parent / "examples" / "cpp"
PACKAGE = Path(mnv2_kernels.__file__).parent

needs_march = pytest.mark.skipif(
    not hasattr(torch._inductor.config.cpp, "march"), reason="this torch compiles for this processor alone"
)

RUN_IN_ANOTHER_PROCESS = """
import sys, torch
from mnv2_kernels.deployment.export import load
program, images, result = sys.argv[1:]
torch.save(load(program)(torch.load(images)), result)
"""


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 33, 46)


def smooth_bytes(height: int, width: int) -> Tensor:
    """One image with something of a photograph: what `quantize` asks for."""
    coarse = torch.randint(0, 256, (1, 3, 8, 8)).float()
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").to(torch.uint8)


def tail() -> nn.Module:
    """What no operator of the package computes."""
    return nn.Sequential(nn.Linear(small().last_channel, 5), nn.Tanh())


def test_a_program_gives_the_bits_of_the_model(x: Tensor, tmp_path: Path) -> None:
    model, path = small(), tmp_path / "model.pt2"
    mnv2_kernels.export(model, path, x)
    program = load(path)
    with torch.no_grad():
        for batch in (x, x[:1], torch.randn(5, 3, 33, 46)):
            assert torch.equal(program(batch), model(batch))
    with calls() as names:
        program(x)
    assert packs(names) == 0
    with pytest.raises(Exception, match=r"(?i)shape|Guard"):
        program(torch.randn(2, 3, 32, 32))


def test_a_program_for_any_size(x: Tensor, tmp_path: Path) -> None:
    model, path = small(padding="same"), tmp_path / "model.pt2"
    mnv2_kernels.export(model, path, x[:1], any_size=True)
    with torch.no_grad():
        for batch in (x, torch.randn(1, 3, 64, 20)):
            assert torch.equal(load(path)(batch), model(batch))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_program_for_images_of_bytes(layout: str, tmp_path: Path) -> None:
    model, path = small(padding="same"), tmp_path / "model.pt2"
    options = {"normalize": ((0.4, 0.5, 0.6), 0.25), "layout": layout}

    def images(*size: int) -> Tensor:
        return torch.randint(0, 256, (size[0], *size[2:], size[1]) if layout == "NHWC" else size).byte()

    mnv2_kernels.export(model, path, images(2, 3, 33, 46), any_size=True, **options)
    for x in (images(1, 3, 33, 46), images(3, 3, 64, 20)):
        assert torch.equal(load(path)(x), model.deploy(**options)(x))


def test_programs_of_other_models(x: Tensor, tmp_path: Path) -> None:
    fused = mnv2_kernels.fuse(changed(eager(small()), {"classifier": tail()}).eval())
    half = small().bfloat16()
    pixels = smooth_bytes(33, 46)
    int8 = quantize(small(), [pixels], progress=False)
    for model, images in ((fused, x), (half, x.bfloat16()), (int8, pixels), (int8, x)):
        mnv2_kernels.export(model, tmp_path / "model.pt2", images)
        with torch.no_grad():
            assert torch.equal(load(tmp_path / "model.pt2")(images), model(images))


@pytest.mark.skipif(len(SUPPORTED_ISAS) < 2, reason="this machine has one instruction set")
def test_a_program_runs_under_another_instruction_set(
    x: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = small(), tmp_path / "model.pt2"
    torch.save(x, tmp_path / "x.pt")
    mnv2_kernels.export(model, path, x)
    arguments = [path, tmp_path / "x.pt", tmp_path / "y.pt"]
    environment = {**os.environ, "MNV2_FORCE_ISA": "scalar"}
    subprocess.run([sys.executable, "-c", RUN_IN_ANOTHER_PROCESS, *arguments], env=environment, check=True)
    monkeypatch.setenv("MNV2_FORCE_ISA", "scalar")
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "y.pt"), small()(x))


@needs_march
def test_a_compiled_program(x: Tensor, tmp_path: Path) -> None:
    model = mnv2_kernels.fuse(changed(eager(small()), {"classifier": tail()}).eval())
    mnv2_kernels.export(model, tmp_path / "model.pt2", x, format="aoti", any_size=True)
    program = load(tmp_path / "model.pt2", "aoti")
    with torch.no_grad():
        for batch in (x, torch.randn(1, 3, 64, 20)):
            torch.testing.assert_close(program(batch), model(batch), rtol=0, atol=1e-5)


def test_a_wrong_program_is_found(x: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = small(1).deploy()
    monkeypatch.setattr(export_module, "load", lambda path, format: wrong)
    with pytest.raises(WrongProgramError, match=r"model.pt2 is wrong: off by \d"):
        mnv2_kernels.export(small(), tmp_path / "model.pt2", x)


class Taps(nn.Module):
    """Its code goes through a Sequential child by child, which a deployed copy has as fewer modules."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*small().features[1:3], nn.InstanceNorm2d(16), small().features[3])

    def forward(self, x: Tensor) -> Tensor:
        taps = torch.zeros(())
        for module in self.features:
            x = module(x)
            taps = taps + x.mean()
        return x + taps


def test_a_model_that_goes_through_a_fused_sequential_is_refused(tmp_path: Path) -> None:
    model = mnv2_kernels.fuse(Taps().eval())
    with pytest.raises(RuntimeError, match="the model's code goes through its parts: keep them out of fuse"):
        mnv2_kernels.export(model, tmp_path / "model.pt2", torch.randn(2, 16, 12, 12))


def test_nan_is_a_result(x: Tensor, tmp_path: Path) -> None:
    mnv2_kernels.export(small(), tmp_path / "model.pt2", torch.full_like(x, torch.nan))


def test_refuses(x: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    for message, arguments, options in [
        (r"model\.onnx: expected a name that ends in \.pt2", (small(), tmp_path / "model.onnx", x), {}),
        ("format: expected one of export, aoti, got 'onnx'", (small(), path, x), {"format": "onnx"}),
        (r"images: expected \(N, C, H, W\), got shape \(3,\)", (small(), path, torch.zeros(3)), {}),
        (r"images: expected \(N, C, H, W\), got NoneType", (small(), path, None), {}),
        ("deploy: .* call eval", (small().train(), path, x), {}),
        ("nothing in the model runs fused", (nn.Conv2d(3, 3, 1).eval(), path, x), {}),
    ]:
        with pytest.raises((ValueError, RuntimeError), match=message):
            mnv2_kernels.export(*arguments, **options)
    assert not path.exists()


# --- mnv2 export ---


def test_the_command(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "model.pt2"
    command = ["export", "--weights", "random", "--out", str(out), "--size", "dynamic"]
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["images"] == "(N, 3, height, width) float32"
    assert report["result"] == "(N, 1000) float32"
    assert report["out_bytes"] == out.stat().st_size
    x = torch.randn(3, 3, 64, 32)
    network = mnv2_kernels.cli.app.load_any("random").model
    with torch.no_grad():
        assert torch.equal(load(out)(x), network(x))


def test_the_command_for_bytes(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "model.pt2"
    command = ["export", "--weights", "random", "--out", str(out), "--size", "64", "--json"]
    assert main([*command, "--input", "bytes", "--layout", "NHWC"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == "(N, 64, 64, 3) uint8"
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    deployed = mnv2_kernels.cli.app.load_any("random").model.deploy(normalize="imagenet", layout="NHWC")
    assert torch.equal(load(out)(pixels), deployed(pixels))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected --out or --triton-repository"),
        (["--out", "model.onnx"], "expected a name that ends in .pt2"),
        (["--out", "nowhere/model.pt2"], "there is no folder nowhere"),
        (["--out", "model.pt2", "--size", "7"], "--size: expected dynamic or 32 to 2048 pixels, got 7"),
        (["--out", "model.pt2", "--size", "any"], "--size: expected dynamic or 32 to 2048 pixels, got any"),
        (["--triton-repository", "models"], "the server runs programs of --format aoti"),
        (["--triton-repository", "models", "--out", "model.pt2"], "got both"),
    ],
)
def test_the_command_refuses(options: list[str], message: str, capsys: Capture) -> None:
    assert message in refusal(capsys, ["export", "--weights", "random", *options])


@needs_march
def test_cpp_and_a_triton_repository(tmp_path: Path, capsys: Capture) -> None:
    """One compiled program of MobileNetV2 1.0 for both: its layout and configuration, and the C++ example."""
    command = ["export", "--weights", "random", "--triton-repository", str(tmp_path), "--format", "aoti"]
    assert main([*command, "--size", "64"]) == 0
    out = capsys.readouterr().out
    program = tmp_path / "random" / "1" / "model.pt2"
    assert str(program) in out.replace("\n", "")

    pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    config = text_format.Parse((tmp_path / "random" / "config.pbtxt").read_text(), pb2.ModelConfig())
    assert (config.name, config.backend, config.platform) == ("random", "pytorch", "torch_aoti")
    assert [(each.name, [*each.dims]) for each in config.input] == [("INPUT__0", [-1, 3, 64, 64])]
    assert [(each.name, [*each.dims]) for each in config.output] == [("OUTPUT__0", [-1, 1000])]
    assert config.input[0].data_type == config.output[0].data_type == pb2.TYPE_FP32


@needs_march
@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
def test_the_cpp_example(tmp_path: Path) -> None:
    model, x = small(), torch.randn(1, 3, 40, 40)
    pixels = smooth_bytes(24, 40)
    bytes_model = quantize(small(), [pixels], progress=False)
    mnv2_kernels.export(model, tmp_path / "floats.pt2", x, format="aoti")
    mnv2_kernels.export(bytes_model, tmp_path / "bytes.pt2", pixels, format="aoti")
    (tmp_path / "x.bin").write_bytes(x.numpy().tobytes())
    ppm = pixels[0].permute(1, 2, 0).contiguous()
    (tmp_path / "x.ppm").write_bytes(b"P6\n40 24\n255\n" + ppm.numpy().tobytes())

    (tmp_path / "x.txt.ppm").write_text("P5 1 1 255 a")
    build = tmp_path / "build"
    torch_dir = Path(torch.__file__).parent
    subprocess.run(["cmake", "-S", EXAMPLE, "-B", build, f"-DTORCH_DIR={torch_dir}"], check=True)
    subprocess.run(["cmake", "--build", build], check=True)
    operators = PACKAGE / "libmnv2_ops.so"

    def classify(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([build / "classify", *arguments], capture_output=True, text=True)

    for program, image, network, images in (
        ("floats.pt2", "x.bin", model, x),
        ("bytes.pt2", "x.ppm", bytes_model, pixels),
    ):
        done = classify(operators, tmp_path / program, tmp_path / image)
        assert done.returncode == 0, done.stderr
        with torch.no_grad():
            assert torch.equal(torch.tensor([[float(line) for line in done.stdout.split()]]), network(images))

    for message, *arguments in (
        ("usage: classify", operators),
        ("cannot read", operators, tmp_path / "floats.pt2", tmp_path / "nothing"),
        ("expected a P6 file", operators, tmp_path / "floats.pt2", tmp_path / "x.txt.ppm"),
    ):
        done = classify(*arguments)
        assert done.returncode != 0
        assert message in done.stderr
