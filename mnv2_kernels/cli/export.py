"""A trained network to a program that any machine runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..deployment import triton_server
from ..deployment.export import SUFFIX, Format, export
from ..dtypes import dtype_name
from ..nn.deploying import deploy
from ..nn.image_bytes import SIDES, ImageLayout, Normalize
from ..nn.networks import image_channels
from ..weights.checkpoints import WeightsError
from ..weights.photos import Preprocess
from ..weights.sources import Int8Network, Network
from .options import check_out

InputName = Literal["float", "bytes"]

# What a network of floats makes of bytes, by how it wants its photographs.
NORMALIZE: dict[Preprocess, Normalize] = {"tf": "tf", "torchvision": "imagenet"}

DYNAMIC = "dynamic"
SEED = 0
LEAST_SIZE, LARGEST_SIZE = 32, 2048


@dataclass(frozen=True)
class Exported:
    """Everything `mnv2 export` shows. ``images`` and ``result`` are shapes and dtypes; N is any."""

    weights: str
    out: str
    out_bytes: int
    format: Format
    images: str
    result: str
    config: str | None

    def as_json(self) -> dict[str, object]:
        """A dictionary that json can write."""
        return asdict(self)


def export_network(
    network: Network | Int8Network,
    *,
    out: Path | None,
    repository: Path | None,
    format: Format,
    size: str | None,
    images: InputName,
    layout: ImageLayout,
) -> Exported:
    """Writes a program, or a model repository of Triton Inference Server with one in it, and verifies it.

    Raises WeightsError for options that do not go together, and where the file cannot be written.
    """
    any_size = size == DYNAMIC
    pixels = network.settings.size if size is None or any_size else _pixels(size)
    name = Path(network.name).stem
    if out is None:
        if repository is None:
            raise WeightsError("expected --out or --triton-repository")
        if format != "aoti":
            raise WeightsError("--triton-repository: the server runs programs of --format aoti")
        path = triton_server.program_path(repository, name)
        path.parent.mkdir(parents=True, exist_ok=True)
    elif repository is not None:
        raise WeightsError("expected one of --out and --triton-repository, got both")
    else:
        path = check_out(out, SUFFIX)
    example = _example(network, pixels, images)
    if layout == "NHWC":
        example = example.movedim(1, -1).contiguous()
    normalize = None
    if images == "bytes" and not isinstance(network, Int8Network):
        normalize = NORMALIZE[network.settings.preprocess]
    export(network.model, path, example, format=format, any_size=any_size, normalize=normalize, layout=layout)
    with torch.no_grad():
        result = deploy(network.model, normalize=normalize, layout=layout)(example)
    sides = dict(zip(SIDES[layout], ("height", "width"), strict=True)) if any_size else {}
    config = None
    if repository is not None:
        config = str(triton_server.write_config(repository, name, example, result, (0, *sides)))
    sizes = [sides.get(dim, str(size)) for dim, size in enumerate(example.shape)]
    return Exported(
        weights=network.name,
        out=str(path),
        out_bytes=path.stat().st_size,
        format=format,
        images=f"(N, {', '.join(sizes[1:])}) {dtype_name(example.dtype)}",
        result=f"(N, {result.shape[1]}) {dtype_name(result.dtype)}",
        config=config,
    )


def _pixels(size: str) -> int:
    if not size.isdecimal() or not LEAST_SIZE <= int(size) <= LARGEST_SIZE:
        expected = f"{DYNAMIC} or {LEAST_SIZE} to {LARGEST_SIZE} pixels"
        raise WeightsError(f"--size: expected {expected}, got {size}")
    return int(size)


def _example(network: Network | Int8Network, size: int, images: InputName) -> Tensor:
    if isinstance(network, Int8Network):
        channels = network.layers[0].in_channels
    else:
        channels = image_channels(network.model)
    shape = (2, channels, size, size)
    generator = torch.Generator().manual_seed(SEED)
    if images == "float":
        return torch.randn(shape, generator=generator)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
