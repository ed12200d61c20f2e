"""The command line, but for benchmarks, which bench.py has.

Exit code 0: done; 1: a result is wrong; 2: a request that cannot be carried out, said in one line on stderr.
"""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from .. import __version__, _native
from ..bench import BenchError, WrongResultError
from ..deployment.export import Format as ExportFormat
from ..deployment.export import WrongProgramError
from ..dtypes import DtypeName
from ..nn.building import PaddingRule
from ..nn.image_bytes import ImageLayout
from ..ops import gpu
from ..quantization.quantize import Recipe as CalibrationRecipe
from ..weights.checkpoints import WeightsError
from ..weights.expected import ExpectedError
from ..weights.models import load_model
from ..weights.photos import PhotoError, Preprocess
from ..weights.sources import (
    DATA_NETWORKS,
    RANDOM,
    Int8Network,
    data_photos,
    default_weights,
    has_data,
    load_any,
    load_network,
)
from . import bench as bench_commands
from . import tables
from .batch import run_batch
from .batch import summary as batch_summary
from .classify import classify_photos
from .console import show
from .demo import DemoError, demo_networks
from .export import InputName, export_network
from .info import gather_info
from .int8 import tables as int8_tables
from .int8.classify import classify_int8
from .int8.profile import profile_int8
from .int8.verify import verify_int8
from .model import tables as model_tables
from .model.classify import classify_by_model
from .model.profile import profile_model
from .model.verify import verify_model
from .options import (
    DEFAULT_SIZE,
    MODEL_ALONE,
    OF_MODEL,
    ModelName,
    NetworkName,
    Pretrained,
    refuse_options,
)
from .profile import profile_layers, profile_network
from .quantize import quantize_network
from .verify import verify_network

WRONG_RESULT = 1
CANNOT = 2
INTERRUPTED = 130

# Options of MobileNetV2 alone.
NOT_OF_MODEL = ("padding", "eps", "float_weights")
NO_DTYPE = "an int8 network has no other type than its own"

# Typer re-exports this class's subclass only, and from a package of its own in newer versions.
UsageError: Any = typer.BadParameter.__base__

app = typer.Typer(add_completion=False, help="MobileNetV2 with each inverted residual as one kernel.")
app.add_typer(bench_commands.app)

Weights = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="imagenet or dogs (in the folder MNV2_DATA), torchvision (downloads once), random, or a file: "
        "safetensors, a torch checkpoint, a Keras model or its weights, or what `mnv2 quantize` wrote. By "
        "default imagenet, if there.",
    ),
]
Labels = Annotated[Path | None, typer.Option(metavar="FILE", help="One label a line, line 1 for class 0.")]
Padding = Annotated[
    PaddingRule | None, typer.Option(help="Stride 2 convolutions pad as torch or TensorFlow do.")
]
Recipe = Annotated[Preprocess | None, typer.Option(help="How photographs become inputs.")]
Size = Annotated[
    int | None, typer.Option(min=32, max=2048, metavar="PIXELS", help="Height and width of an input.")
]
Sizes = Annotated[
    list[int] | None,
    typer.Option(
        "--size",
        min=32,
        max=2048,
        metavar="PIXELS",
        help="Height and width of an input; several times for a --model.",
    ),
]
Eps = Annotated[float | None, typer.Option(min=0, metavar="EPS", help="BatchNorm's epsilon.")]
FloatWeights = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE", help="What an int8 network was made of, if not where its file says."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@app.callback(invoke_without_command=True)
def front(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())
    else:
        _check_variables()


@app.command(help="Classify photographs with the fused and the eager network, side by side.")
def classify(
    context: typer.Context,
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO", help="Image files.", show_default=False)],
    weights: Weights = None,
    model: ModelName = None,
    pretrained: Pretrained = False,
    labels: Labels = None,
    padding: Padding = None,
    preprocess: Recipe = None,
    size: Size = None,
    eps: Eps = None,
    float_weights: FloatWeights = None,
    as_json: AsJson = False,
) -> None:
    if model is not None:
        refuse_options(context, NOT_OF_MODEL, OF_MODEL)
        loaded = load_model(
            model, labels, weights=weights, pretrained=pretrained, preprocess=preprocess, size=size
        )
        by_model = classify_by_model(loaded, photos)
        show(by_model.as_json() if as_json else model_tables.classification(by_model))
        return _finish(by_model.passed)
    refuse_options(context, ("pretrained",), MODEL_ALONE)
    weights = weights or default_weights()
    network = load_any(weights, labels, padding=padding, preprocess=preprocess, size=size, eps=eps)
    network.check_takes_photos()
    if isinstance(network, Int8Network):
        int8 = classify_int8(network, network.float_network(float_weights), photos)
        show(int8.as_json() if as_json else int8_tables.classification(int8))
        return _finish(int8.passed)
    _refuse_float_weights(float_weights)
    result = classify_photos(network, photos)
    show(result.as_json() if as_json else tables.classification(result))
    return _finish(result.passed)


@app.command(
    help="Quantise a network to int8, calibrated on a folder of photographs, and write it to a file."
)
def quantize(
    calibrate: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Photographs, also in folders inside: 300 if possible.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .safetensors file to write.")],
    weights: Weights = None,
    keep_float: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="A layer to keep in float32, as features.1; may be repeated."),
    ] = None,
    recipe: Annotated[
        CalibrationRecipe, typer.Option(help="Bottlenecks' scales: docs/quantization.md.")
    ] = "default",
    views: Annotated[
        int, typer.Option(min=1, metavar="N", help="Photographs, made up for by crops where they are fewer.")
    ] = 300,
    labels: Labels = None,
    padding: Padding = None,
    preprocess: Recipe = None,
    size: Size = None,
    eps: Eps = None,
    as_json: AsJson = False,
) -> None:
    weights = weights or default_weights()
    network = load_network(weights, labels, padding=padding, preprocess=preprocess, size=size, eps=eps)
    result = quantize_network(
        network, calibrate, out, recipe=recipe, keep_float=keep_float or (), views=views
    )
    show(result.as_json() if as_json else int8_tables.quantization(result))


@app.command(
    help="Write a network as a program of torch that any machine runs, and verify the file.",
)
def export(
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The .pt2 file to write.")] = None,
    triton_repository: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write a model repository of Triton Inference Server instead."),
    ] = None,
    weights: Weights = None,
    format: Annotated[
        ExportFormat, typer.Option(help="For torch.export.load, or compiled for C++ (AOTInductor).")
    ] = "export",
    size: Annotated[
        str | None, typer.Option(metavar="PIXELS|dynamic", help="Height and width of an input, or any.")
    ] = None,
    images: Annotated[InputName, typer.Option("--input", help="What the program takes.")] = "float",
    layout: Annotated[ImageLayout, typer.Option(help="How its images lie in memory.")] = "NCHW",
    padding: Padding = None,
    eps: Eps = None,
    as_json: AsJson = False,
) -> None:
    weights = weights or (DATA_NETWORKS[0] if has_data() else RANDOM)
    network = load_any(weights, padding=padding, eps=eps)
    result = export_network(
        network,
        out=out,
        repository=triton_repository,
        format=format,
        size=size,
        images=images,
        layout=layout,
    )
    show(result.as_json() if as_json else tables.exported(result))


@app.command(
    help="Verify every block of a network: fused against eager and float64, int8 against its reference."
)
def verify(
    context: typer.Context,
    photos: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PHOTO", help="Inputs; else those of MNV2_DATA, else random.", show_default=False
        ),
    ] = None,
    weights: Weights = None,
    model: ModelName = None,
    pretrained: Pretrained = False,
    padding: Padding = None,
    preprocess: Recipe = None,
    sizes: Sizes = None,
    eps: Eps = None,
    dtype: Annotated[DtypeName, typer.Option(help="Type of weights and activations.")] = "float32",
    batch: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Images a call.")] = 1,
    float_weights: FloatWeights = None,
    as_json: AsJson = False,
) -> None:
    size = max(sizes, default=None) if sizes else None
    if model is not None:
        refuse_options(context, NOT_OF_MODEL, OF_MODEL)
        loaded = load_model(model, weights=weights, pretrained=pretrained, preprocess=preprocess, size=size)
        of_model = verify_model(loaded, photos or data_photos(), sizes or (), dtype, batch)
        show(of_model.as_json() if as_json else model_tables.verification(of_model))
        return _finish(of_model.passed)
    refuse_options(context, ("pretrained",), MODEL_ALONE)
    if len(sizes or ()) > 1:
        raise UsageError("--size: several for a --model alone")
    weights = weights or (DATA_NETWORKS[0] if has_data() else RANDOM)
    network = load_any(weights, padding=padding, preprocess=preprocess, size=size, eps=eps)
    if isinstance(network, Int8Network):
        refuse_options(context, ("dtype",), NO_DTYPE)
        if photos:
            network.check_takes_photos()
        seen = photos or (data_photos() if network.takes_photos else ())
        int8 = verify_int8(network, network.float_network(float_weights), seen, batch)
        show(int8.as_json() if as_json else int8_tables.verification(int8))
        return _finish(int8.passed)
    _refuse_float_weights(float_weights)
    at_hand = (network.photos or data_photos()) if network.takes_photos else ()
    result = verify_network(network, photos or at_hand, dtype, batch)
    show(result.as_json() if as_json else tables.verification(result))
    return _finish(result.passed)


@app.command(
    help="Time every layer of the deployed network on random images, beside its plan and the machine's peak."
)
def profile(
    context: typer.Context,
    weights: Weights = None,
    size: Size = None,
    dtype: Annotated[DtypeName, typer.Option(help="Type of weights and activations.")] = "float32",
    batch: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Images a call.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, metavar="N", help="torch's threads.")] = None,
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Timed calls.")] = 50,
    network_name: NetworkName = None,
    model: ModelName = None,
    pretrained: Pretrained = False,
    as_json: AsJson = False,
) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
    if model is not None:
        refuse_options(context, ("network_name",), OF_MODEL)
        loaded = load_model(model, weights=weights, pretrained=pretrained, size=size)
        of_model = profile_model(loaded, batch, dtype, rounds)
        return show(of_model.as_json() if as_json else model_tables.profile(of_model))
    refuse_options(context, ("pretrained",), MODEL_ALONE)
    if network_name is not None:
        refuse_options(context, ("weights",), "a --network has random ones")
        named = profile_layers(network_name, size or DEFAULT_SIZE, batch, getattr(torch, dtype), rounds)
        return show(named.as_json() if as_json else tables.profile(named))
    network = load_any(weights or RANDOM, size=size)
    if isinstance(network, Int8Network):
        refuse_options(context, ("dtype",), NO_DTYPE)
        int8 = profile_int8(network, batch, rounds)
        return show(int8.as_json() if as_json else int8_tables.profile(int8))
    result = profile_network(
        network.name, network.model, network.settings.size, batch, getattr(torch, dtype), rounds
    )
    return show(result.as_json() if as_json else tables.profile(result))


@app.command(
    help="Classify many images on Ray, one worker a core, into a folder of Parquet files.\n\n"
    "Started again after it was stopped, it goes on where it was."
)
def batch(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A folder, a glob, a .txt file of paths, a .parquet file or a folder of these, also at an "
            "address such as s3://.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str, typer.Argument(metavar="OUTPUT", help="The folder for the files.", show_default=False)
    ],
    weights: Weights = None,
    model: ModelName = None,
    pretrained: Pretrained = False,
    labels: Labels = None,
    preprocess: Recipe = None,
    size: Size = None,
    address: Annotated[
        str, typer.Option(metavar="local|auto|ray://...", help="A new cluster of this machine, or another.")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="One core each; all cores by default.")
    ] = None,
    partition: Annotated[int, typer.Option(min=1, metavar="N", help="Images a file.")] = 256,
    column: Annotated[str, typer.Option(metavar="NAME", help="Of encoded images in Parquet.")] = "image",
    as_json: AsJson = False,
) -> None:
    if model is None:
        refuse_options(context, ("pretrained",), MODEL_ALONE)
        weights = weights or default_weights()
    network = {
        **{"weights": weights, "model": model, "labels": labels and str(labels), "preprocess": preprocess},
        **{"size": size, "pretrained": pretrained},
    }
    options = {"address": address, "workers": workers, "partition": partition, "column": column}
    result = run_batch(source, output, network=network, **options)
    show(result.as_json() if as_json else batch_summary(result))


@app.command(help="Show versions, what was built, and which instruction set runs and why.")
def info(as_json: AsJson = False) -> None:
    result = gather_info()
    show(result.as_json() if as_json else tables.installation(result))


@app.command(help="Classify photographs and verify the network; downloads both where MNV2_DATA is absent.")
def demo() -> None:
    passed = True
    for network in demo_networks():
        classification = classify_photos(network, network.photos)
        show(tables.classification(classification))
        verification = verify_network(network, network.photos)
        show(tables.verification(verification))
        passed = passed and classification.passed and verification.passed
    _finish(passed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line (the process's where None) and returns the exit code."""
    _survive_narrow_encodings()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        # What a results file says it was written by.
        written = shlex.join(["mnv2", *arguments])
        code = app(args=arguments, prog_name="mnv2", standalone_mode=False, obj=written)
    except UsageError as error:
        return _refuse(error.format_message())
    except (WrongProgramError, WrongResultError) as error:
        return _refuse(str(error), WRONG_RESULT)
    except (BenchError, DemoError, ExpectedError, PhotoError, WeightsError) as error:
        return _refuse(str(error))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return code or 0


def _survive_narrow_encodings() -> None:
    """A label that the terminal cannot show is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _check_variables() -> None:
    try:
        _native.selected_isa()
        gpu.backend()
    except RuntimeError as error:
        raise UsageError(str(error)) from error


def _refuse_float_weights(float_weights: str | None) -> None:
    if float_weights is not None:
        raise WeightsError("--float-weights: for int8 weights alone, and these are float")


def _finish(passed: bool) -> None:
    if not passed:
        raise typer.Exit(WRONG_RESULT)


def _refuse(message: str, code: int = CANNOT) -> int:
    print("mnv2:", " ".join(message.split()), file=sys.stderr)
    return code
