"""Every layer of an int8 network against its integer reference, bit for bit, and beside the float network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ... import _native
from ...accuracy import MINIMUM_INPUTS
from ...layer import layer_shapes
from ...quantization.agreement import Agreement, agreement
from ...quantization.network import QuantizedLayer
from ...quantization.report import quantization_report
from ...shapes import describe
from ...weights.photos import load_photo_bytes
from ...weights.sources import Int8Network, Network

SEED = 0
NETWORK = "network"


@dataclass(frozen=True)
class Int8Part:
    """One layer, or the whole network, on what the reference feeds it.

    ``different`` of its ``values`` are not the reference's; of a layer in float none is compared. ``sqnr``:
    what is left of the float network's results on these photographs, in dB, and ``recorded_sqnr`` what the
    file says of its own; None where nothing is known.
    """

    name: str
    shape: str
    in_float: bool
    values: int
    different: int
    sqnr: float | None
    recorded_sqnr: float | None

    @property
    def passed(self) -> bool:
        return self.different == 0


@dataclass(frozen=True)
class Int8Verification:
    """Everything `mnv2 verify` shows of an int8 network; ``agreement``: None without photos or floats."""

    weights: str
    float_weights: str | None
    batch: int
    inputs: int
    photos: int
    size: int
    isa: str
    threads: int
    agreement: Agreement | None
    parts: tuple[Int8Part, ...]

    @property
    def passed(self) -> bool:
        return all(part.passed for part in self.parts)

    def as_json(self) -> dict[str, object]:
        """A dictionary that json can write."""
        return {**asdict(self), "passed": self.passed}


@torch.inference_mode()
def verify_int8(
    network: Int8Network, floats: Network | None, photos: Sequence[Path], batch: int = 1
) -> Int8Verification:
    """Compares on photographs, and on random bytes that make up for fewer than eight and fill the last batch.

    Raises PhotoError where a photograph cannot be read.
    """
    settings, model = network.settings, network.model
    read = [load_photo_bytes(photo, settings.size, settings.preprocess) for photo in photos]
    inputs = -(-max(len(photos), MINIMUM_INPUTS) // batch) * batch
    generator = torch.Generator().manual_seed(SEED)
    shape = (inputs - len(read), network.layers[0].in_channels, settings.size, settings.size)
    noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    images = torch.cat([torch.stack(read), noise]) if read else noise

    sqnr, scores = {}, None
    if floats is not None and read:
        seen = images[: len(read)].split(batch)
        report = quantization_report(floats.model, model, seen)
        sqnr = {layer.name: layer.sqnr for layer in report}
        real = [model.image_grid.real(x) for x in seen]
        scores = agreement(torch.cat([model(x) for x in seen]), torch.cat([floats.model(x) for x in real]))
    recorded = {layer.name: layer.sqnr for layer in network.about.report} if network.about else {}
    parts = [
        Int8Part(name, shape, in_float, values, different, sqnr.get(name), recorded.get(name))
        for name, shape, in_float, values, different in _compare(network, images.split(batch))
    ]
    return Int8Verification(
        weights=network.name,
        float_weights=floats.name if floats else None,
        batch=batch,
        inputs=inputs,
        photos=len(read),
        size=settings.size,
        isa=_native.selected_int8_isa(),
        threads=torch.get_num_threads(),
        agreement=scores,
        parts=tuple(parts),
    )


def _compare(network: Int8Network, batches: Sequence[Tensor]) -> Iterator[tuple[str, str, bool, int, int]]:
    """Name, shape, whether in float, values, how many of them differ: of every layer and the network."""
    model, size = network.model, network.settings.size
    inputs = batches
    shapes = layer_shapes(network.layers, 1, size, size)
    for (name, _), (layer, grid), shape in zip(
        model.named_layers(), model.with_input_grids(), shapes, strict=True
    ):
        inputs = [layer.convert(x, grid) for x in inputs]
        results = [layer(x) for x in inputs]
        wanted = results
        if isinstance(layer, QuantizedLayer):
            wanted = [layer.reference(x) for x in inputs]
        yield name, describe(shape), layer.is_float, *_differences(results, wanted)
        inputs = wanted
    results = [model(x) for x in batches]
    yield NETWORK, f"{size}x{size} to logits", False, *_differences(results, inputs)


def _differences(results: Sequence[Tensor], wanted: Sequence[Tensor]) -> tuple[int, int]:
    pairs = list(zip(results, wanted, strict=True))
    return sum(y.numel() for y in results), sum(int(y.ne(want).sum()) for y, want in pairs)
