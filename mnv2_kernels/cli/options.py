"""Which options somebody gave, and the refusal of those that would be ignored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..bench import BenchError
from ..networks import NETWORKS
from ..weights.checkpoints import WeightsError

DEFAULT_SIZE = 224
OF_MODEL = "a --model says it itself"
MODEL_ALONE = "for a --model alone"


def _check_network(name: str | None) -> str | None:
    if name is not None and name not in NETWORKS:
        raise typer.BadParameter(f"expected one of {', '.join(NETWORKS)}, got {name!r}")
    return name


NetworkName = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="NAME",
        callback=_check_network,
        help=f"A well-known network of random weights: {', '.join(NETWORKS)}.",
    ),
]

ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="LIBRARY:NAME|FILE.py:FUNCTION",
        help="Any model with inverted residuals, fused: timm:NAME, torchvision:NAME, transformers:NAME, or a "
        "function in a file that returns it. --weights FILE loads its state_dict; else weights are random.",
    ),
]
Pretrained = Annotated[
    bool, typer.Option("--pretrained", help="Weights that the --model's library publishes: downloads once.")
]


def check_out(out: Path, suffix: str) -> Path:
    """The same, before work whose result nobody could write or read. Raises WeightsError."""
    if out.suffix != suffix:
        raise WeightsError(f"{out}: expected a name that ends in {suffix}")
    if not out.parent.is_dir():
        raise WeightsError(f"{out}: there is no folder {out.parent}")
    if out.is_dir():
        raise WeightsError(f"{out}: a folder, where a file is to be written")
    return out


def is_given(context: typer.Context, option: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def refuse_options(context: typer.Context, names: Sequence[str], why: str) -> None:
    """Rather than to ignore what somebody asked for. Raises BenchError."""
    options = {option.name: option.opts[0] for option in context.command.params}
    if given := [options[name] for name in names if is_given(context, name)]:
        raise BenchError(f"{' and '.join(given)}: {why}")
