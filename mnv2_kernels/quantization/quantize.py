"""Post-training quantisation: a trained network and some hundred images to a network in int8."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from ..fusion.own_code import NotFusable, own_code_obstacle
from ..layer import SAME
from ..nn.image_bytes import IMAGENET
from ..nn.mobilenet_v2 import FusedMobileNetV2, own_fusion
from ..shapes import KERNEL_SIZE
from .calibration import BATCH, calibrate
from .network import ACTIVATIONS, FloatLayer, QuantizedMobileNetV2
from .ranges import grids_of, observe
from .rounding import Grid, Numbers
from .state import CLASSIFIER

Recipe = Literal["default", "per_channel"]

# How networks want their images, (mean, deviation): those with TensorFlow's padding, and torchvision's.
TENSORFLOW_IMAGES: tuple[Numbers, Numbers] = (0.5, 0.5)
TORCHVISION_IMAGES: tuple[Numbers, Numbers] = IMAGENET

FEW_IMAGES = 64  # accuracy falls by some dB with fewer (docs/quantization.md)
# Neighbouring pixels of photographs correlate with 0.8 and more, of random numbers with 0.
LEAST_CORRELATION = 0.2
# Rounding to bytes moves a value by half a step; the rest is the float's own rounding.
LARGEST_MOVE = 0.51


@torch.no_grad()
def quantize(
    model: FusedMobileNetV2,
    batches: Iterable[Tensor],
    *,
    recipe: Recipe = "default",
    keep_float: Sequence[str] = (),
    mean: Numbers | None = None,
    deviation: Numbers | None = None,
    progress: bool = True,
) -> QuantizedMobileNetV2:
    """The network with int8 weights and activations, from some hundred photographs, without training.

    ``docs/quantization.md`` has the recipe and what it gives. A calibration takes minutes, and 3 GB
    with images of 224 x 224.

    Args:
        model: in eval mode, of ReLU6 or ReLU; it stays as it is.
        batches: calibration images (N, C, H, W), 300 different photographs if possible: bytes (uint8), or
            floats as the model takes them.
        recipe: "default" gives each bottleneck one scale and zero point, "per_channel" one to each channel,
            which is a little more accurate with 300 photographs and less with few.
        keep_float: layers to keep in float32, as ``features.1`` or ``classifier``.
        mean, deviation: the model takes a byte as (byte / 255 - mean) / deviation, one number or one for each
            channel. By default 0.5 and 0.5 where it has SAME padding, as networks from TensorFlow, else
            torchvision's for ImageNet.
        progress: whether to show a progress bar.

    Raises ValueError for a network that cannot be quantised, and for images that are none: random numbers, or
    floats that no byte stands for. Warns where there are fewer than 64 images.
    """
    # Imported here: it takes longer than all else of this package.
    from rich.console import Console
    from rich.progress import Progress

    if recipe not in get_args(Recipe):
        raise ValueError(f"recipe: expected one of {', '.join(get_args(Recipe))}, got {recipe!r}")
    layers = float_layers(model)
    network = QuantizedMobileNetV2([layer.layer for layer in layers.values()], keep_float)
    network.set_image_grid(_image_grid(network, mean, deviation))
    images = _read_images(batches, network.image_grid)
    exact = torch.autocast("cpu", enabled=False)
    with exact, Progress(console=Console(stderr=True), disable=not progress) as bar:
        batches = bar.track(images.split(BATCH), description="ranges")
        observed = observe(layers, map(network.image_grid.real, batches))
        grids = grids_of(layers, observed, recipe == "per_channel")
        calibrate(network, layers, grids, images, partial(bar.track, description="layers"))
    return network


def float_layers(model: FusedMobileNetV2) -> dict[str, FloatLayer]:
    """The layers by name, on the CPU, with BatchNorm folded into their weights in float64.

    Raises ValueError, naming the layer, where the network has code of its own or cannot be quantised.
    """
    if not isinstance(model, FusedMobileNetV2):
        raise ValueError(f"quantize: expected a FusedMobileNetV2, got {type(model).__name__}")
    obstacle = own_code_obstacle(model, FusedMobileNetV2)
    obstacles = ({} if obstacle is None else {"the network": obstacle}) | model.fusion_obstacles()
    units = {f"features.{index}": unit for index, unit in enumerate(model.features)}
    layers = {}
    for name, unit in (units | {"classifier": model.classifier}).items():
        try:
            fusion = own_fusion(unit)
        except NotFusable as error:
            obstacles.setdefault(name, str(error))
            continue
        if fusion.layer.kind != CLASSIFIER and fusion.layer.activation not in ACTIVATIONS:
            obstacles[name] = f"its activation is {fusion.layer.activation}"
        if fusion.layer.project_activation != "none":
            obstacles[name] = "its project has an activation"
        if fusion.layer.kernel != KERNEL_SIZE:
            obstacles[name] = f"its kernel is {fusion.layer.kernel}"
        if fusion.layer.depthwise_activation is not None:
            obstacles[name] = "its activations differ"
        layers[name] = _folded(FloatLayer(fusion.layer), fusion.weights())
    if obstacles:
        name, why = next(iter(obstacles.items()))
        raise ValueError(f"quantize: {name} cannot be quantised: {why}")
    return layers


def _folded(layer: FloatLayer, weights: Sequence[Tensor | None]) -> FloatLayer:
    """The layer with these tensors, which are as mnv2::pack takes them."""
    given = [None if each is None else each.detach().double().cpu() for each in weights]
    if layer.layer.kind == CLASSIFIER:
        given.insert(1, None)  # it has no scale
    threes = (given[at : at + 3] for at in range(0, len(given), 3))
    present = [(weight, scale, bias) for weight, scale, bias in threes if weight is not None]
    for (_, conv), (weight, scale, bias) in zip(layer.convolutions(), present, strict=True):
        folded = weight if scale is None else weight * scale.view(-1, 1, 1, 1)
        conv.weight = folded.float()
        conv.bias = torch.zeros(len(weight)) if bias is None else bias.float()
        if not (conv.weight.isfinite().all() and conv.bias.isfinite().all()):
            raise ValueError("quantize: expected finite weights")
    return layer


def _image_grid(network: QuantizedMobileNetV2, mean: Numbers | None, deviation: Numbers | None) -> Grid:
    layers = [layer.layer for _, layer in network.named_layers()]
    usual = TENSORFLOW_IMAGES if any(layer.padding == SAME for layer in layers) else TORCHVISION_IMAGES
    mean, deviation = (usual[0] if mean is None else mean), (usual[1] if deviation is None else deviation)
    return Grid.of_image(mean, deviation, layers[0].in_channels)


def _read_images(batches: Iterable[Tensor], grid: Grid) -> Tensor:
    """All images as bytes (N, C, H, W)."""
    channels, images = len(grid.scale), []
    for x in batches:
        if not isinstance(x, Tensor) or x.dim() != 4 or x.shape[1] != channels:
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"batches: expected images (N, {channels}, H, W), got {found}")
        images.append(_as_bytes(x.detach().cpu(), grid))
    if sum(map(len, images)) == 0:
        raise ValueError("batches: expected images, got none")
    if len({each.shape[1:] for each in images}) > 1:
        raise ValueError("batches: expected images of one size")
    together = torch.cat(images)
    _check_photographs(together)
    if len(together) < FEW_IMAGES:
        warnings.warn(
            f"quantize: {len(together)} calibration images are few, which costs accuracy: give 300 different "
            f"photographs if possible, at least {FEW_IMAGES}",
            stacklevel=4,
        )
    return together


def _as_bytes(x: Tensor, grid: Grid) -> Tensor:
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point():
        raise ValueError(f"batches: expected uint8 or floating point numbers, got {x.dtype}")
    q = grid.bytes_of(x)
    moved = ((grid.real(q) - x) / grid.scale.view(-1, 1, 1)).abs()
    if not (moved <= LARGEST_MOVE).all():  # also NaN
        raise ValueError(
            "batches: expected (byte / 255 - mean) / deviation, got numbers for which there is no byte: say "
            "mean and deviation as the model wants its images, or give bytes"
        )
    return q


def _check_photographs(images: Tensor) -> None:
    """Ranges and means of random numbers are not those of photographs: int8 would lose every second class."""
    covariance = variance = 0.0
    for batch in images.split(BATCH):
        x = batch.double()
        x = x - x.mean((2, 3), keepdim=True)
        covariance += (x[..., 1:] * x[..., :-1]).sum().item()
        variance += x.square().sum().item()
    if covariance <= LEAST_CORRELATION * variance:
        raise ValueError(
            "batches: expected photographs, got images whose neighbouring pixels have nothing in common: "
            "random numbers do not show what a trained network computes"
        )
