"""Reads the MobileNetV2 of Keras applications, with a Dense classifier on top, from an HDF5 file.

The names are those of ``keras.applications.MobileNetV2``. The file may hold a whole model, in which the
network may be one layer, or weights alone. Keras pads SAME and has an eps of 1e-3; its input is in [-1, 1].
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from .modules import FusedMobileNetV2
from .shapes import PUBLISHED_WIDTHS, BlockShape, mobilenet_v2

if TYPE_CHECKING:
    import h5py

BATCH_NORM_EPS = 1e-3
# The published ones first; Keras takes any.
WIDTHS = (*PUBLISHED_WIDTHS, *(step / 20 for step in range(1, 41)))

BATCH_NORM_NAMES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}

# To torch's (output, input, height, width): from (height, width, input, output), and for the depthwise layers
# from (height, width, channels, 1).
CONVOLUTION_ORDER = (3, 2, 0, 1)
DEPTHWISE_ORDER = (2, 3, 0, 1)

STANDARD = mobilenet_v2()


class NotMobileNetV2(Exception):
    """The file holds another network; the message says what shows it."""


def load_keras(path: str | PathLike[str]) -> FusedMobileNetV2:
    """The float32 network in an .h5 file, in eval mode; its output is logits, without the file's activation.

    Raises ImportError without h5py, FileNotFoundError, and ValueError where the file holds something else.
    """
    weights, eps = _read(Path(path))
    try:
        return _build(weights, eps)
    except NotMobileNetV2 as difference:
        raise ValueError(f"{path}: no MobileNetV2 of Keras applications: {difference}") from None


def _read(path: Path) -> tuple[dict[str, Tensor], float]:
    """Weights by "layer/weight", and the eps of BatchNorm."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError("reading Keras files needs h5py: pip install h5py") from error
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            weights: dict[str, Tensor] = {}
            file.get("model_weights", file).visititems(partial(_collect, weights))
            return weights, _batch_norm_eps(file.attrs.get("model_config"))
    except OSError as error:
        raise ValueError(f"{path}: not an HDF5 file that can be read ({error})") from None


def _collect(weights: dict[str, Tensor], path: str, item: h5py.Group | h5py.Dataset) -> None:
    """Groups around a layer differ between versions of Keras; some end the names of weights with ":0"."""
    if hasattr(item, "dtype"):
        layer, _, name = path.rpartition("/")
        key = f"{layer.rpartition('/')[2]}/{name.removesuffix(':0').removeprefix('depthwise_')}"
        weights[key] = torch.from_numpy(item[()].astype("float32"))


def _batch_norm_eps(model_config: str | None) -> float:
    """What the file's configuration says, where it holds one."""
    if model_config is None:
        return BATCH_NORM_EPS
    return next(_find_eps(json.loads(model_config)), BATCH_NORM_EPS)


def _find_eps(config: Any) -> Iterator[float]:
    if isinstance(config, list):
        for item in config:
            yield from _find_eps(item)
    elif isinstance(config, dict):
        if config.get("class_name") == "BatchNormalization" and "epsilon" in config.get("config", {}):
            yield config["config"]["epsilon"]
        for item in config.values():
            yield from _find_eps(item)


def _build(weights: Mapping[str, Tensor], eps: float) -> FusedMobileNetV2:
    kernel, bias = _classifier(weights)
    layers = list(_layers())
    model = FusedMobileNetV2(
        num_classes=kernel.shape[1],
        width_mult=_width([_get(weights, f"{layer.keras_conv}/kernel") for layer in layers]),
        norm_layer=partial(nn.BatchNorm2d, eps=eps),
        padding="same",
    )
    state_dict = {"classifier.1.weight": kernel.T, "classifier.1.bias": bias}
    for layer in layers:
        order = DEPTHWISE_ORDER if layer.is_depthwise else CONVOLUTION_ORDER
        state_dict[f"{layer.conv}.weight"] = _get(weights, f"{layer.keras_conv}/kernel").permute(order)
        for name, keras_name in BATCH_NORM_NAMES.items():
            state_dict[f"{layer.norm}.{name}"] = _get(weights, f"{layer.keras_norm}/{keras_name}")
    try:
        model.load_state_dict(state_dict)
    except RuntimeError as error:
        raise NotMobileNetV2(str(error)) from None
    return model.eval()


class _Layer(NamedTuple):
    """A convolution and its norm, here and in Keras."""

    conv: str
    norm: str
    keras_conv: str
    keras_norm: str

    @property
    def is_depthwise(self) -> bool:
        return self.keras_conv.endswith("depthwise")


def _layers() -> Iterator[_Layer]:
    yield _Layer("features.0.0", "features.0.1", "Conv1", "bn_Conv1")
    for index, shape in enumerate(STANDARD.blocks):
        keras_block = f"block_{index}" if index else "expanded_conv"
        parts = ("expand", "depthwise", "project") if shape.expand else ("depthwise", "project")
        for position, part in enumerate(parts):
            name, keras_name = f"features.{index + 1}.conv.{position}", f"{keras_block}_{part}"
            if part == "project":
                norm = f"features.{index + 1}.conv.{position + 1}"
                yield _Layer(name, norm, keras_name, f"{keras_name}_BN")
            else:
                yield _Layer(f"{name}.0", f"{name}.1", keras_name, f"{keras_name}_BN")
    head = f"features.{len(STANDARD.blocks) + 1}"
    yield _Layer(f"{head}.0", f"{head}.1", "Conv_1", "Conv_1_bn")


def _width(kernels: list[Tensor]) -> float:
    """The multiplier that gives the kernels' channels; the dimensions are (height, width, input, output)."""
    stem, head = kernels[0].shape[-1], kernels[-1].shape[-1]
    blocks = [kernel.shape[-1] for kernel in kernels[1:-1] if kernel.shape[:2] == (1, 1)]
    for width in WIDTHS:
        network = mobilenet_v2(width)
        expected = [channels for block in network.blocks for channels in _pointwise_channels(block)]
        if (network.stem.out_channels, expected, network.head.out_channels) == (stem, blocks, head):
            return width
    raise NotMobileNetV2(
        f"no width multiplier gives a stem of {stem}, blocks of {blocks}, and a head of {head} channels"
    )


def _pointwise_channels(block: BlockShape) -> list[int]:
    return [block.expanded_channels, block.out_channels] if block.expand else [block.out_channels]


def _classifier(weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The kernel (features, classes) and bias of the one Dense layer."""
    dense = [
        key.removesuffix("/kernel")
        for key, value in weights.items()
        if key.endswith("/kernel") and value.dim() == 2
    ]
    if len(dense) != 1:
        raise NotMobileNetV2(f"it has {len(dense)} Dense layers {dense} instead of one, the classifier")
    return _get(weights, f"{dense[0]}/kernel"), _get(weights, f"{dense[0]}/bias")


def _get(weights: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in weights:
        raise NotMobileNetV2(f"it has no {key}")
    return weights[key]
