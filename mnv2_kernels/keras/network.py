"""Reads the MobileNetV2 of Keras applications, with a Dense classifier on top, from a file of Keras 2 or 3.

The names are those of ``keras.applications.MobileNetV2``. The file may hold a whole model, in which the
network may be one layer, or weights alone. Keras pads SAME and has an eps of 1e-3; its input is in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from .. import layer_names
from ..channels import STEM_STRIDE, STRIDES, of_kernels
from ..layer_names import CLASSIFIER
from .files import KerasLayer, NotMobileNetV2, read_keras

BATCH_NORM_EPS = 1e-3

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
DENSE_ORDER = (1, 0)

# Layers, in lower case, that MobileNetV2 consists of or that compute nothing in inference; those with options
# are checked by _OPTIONS, those that prepare images by _check_preparation.
PARTS = (
    *("inputlayer", "conv2d", "depthwiseconv2d", "batchnormalization", "relu", "zeropadding2d", "add"),
    *("globalaveragepooling2d", "flatten", "dense", "activation", "softmax"),
    *("dropout", "spatialdropout2d", "gaussiandropout", "alphadropout", "gaussiannoise"),
    *("activityregularization",),
)
AUGMENTATION = "random"  # how the names of layers begin that change images in training only
PREPARATIONS = ("rescaling", "truedivide", "subtract", "tfoplambda")
# Keras gives an image's range of 0 to 255 to the network as -1 to 1.
HALF_RANGE = 127.5
# What may follow a Dense layer; a file's logits are those before.
OUTPUT_ACTIVATIONS = ("linear", "softmax", "sigmoid")

Network = TypeVar("Network", bound=nn.Module)


def load_keras(path: str | PathLike[str], of_channels: Callable[..., Network]) -> Network:
    """The float32 network in a .keras, .weights.h5 or .h5 file, in eval mode.

    ``of_channels`` makes it of its Channels, a norm_layer and a padding, with torchvision's names.

    Its output is logits, without the file's activation; its input is in [-1, 1], also where the file's
    network begins with layers that scale 0 to 255 to that, of which weights alone may not tell. Raises
    ImportError without h5py, FileNotFoundError, and ValueError where the file holds something else.
    """
    try:
        contents = read_keras(Path(path))
        classifier = _classifier(contents.weights)
        for layer in contents.layers:
            _check(layer)
        return _build(contents.weights, classifier, _eps(contents.layers), of_channels)
    except NotMobileNetV2 as difference:
        raise ValueError(f"{path}: no MobileNetV2 of Keras applications: {difference}") from None


def _check(layer: KerasLayer) -> None:
    """Raises NotMobileNetV2 for a layer that would be left out, or that computes something else."""
    if layer.kind in PREPARATIONS:
        _check_preparation(layer)
    elif layer.kind not in PARTS and not layer.kind.startswith(AUGMENTATION):
        raise NotMobileNetV2(f"its layer {layer.name} is a {layer.class_name}, which MobileNetV2 has not")
    options = layer.options or {}
    for option, expected in _options(layer).items():
        value = options[option]
        if value not in expected:
            raise NotMobileNetV2(
                f"its layer {layer.name} has {option} {value!r}, expected {' or '.join(map(repr, expected))}"
            )


def _options(layer: KerasLayer) -> dict[str, Sequence[object]]:
    """The values that a layer's options may have, of those that the file tells."""
    expected: dict[str, Sequence[object]] = {}
    if layer.kind in ("conv2d", "depthwiseconv2d"):
        strides = _strides().get(layer.name, 1)
        expected = {
            "strides": ([strides, strides],),
            "dilation_rate": ([1, 1],),
            "groups": (1,),
            "activation": ("linear",),
        }
    elif layer.kind == "relu":
        # Keras 2.2 writes no more than the first.
        expected = {"max_value": (6,), "negative_slope": (0, None), "threshold": (0, None)}
    elif layer.kind in ("dense", "activation"):
        expected = {"activation": OUTPUT_ACTIVATIONS}
    return {name: values for name, values in expected.items() if name in (layer.options or {})}


def _strides() -> dict[str, int]:
    """Of the convolutions that have a stride."""
    depthwise = (layer.conv for layer in layer_names.keras() if _is_depthwise(layer.conv))
    return {"Conv1": STEM_STRIDE, **dict(zip(depthwise, STRIDES, strict=True))}


def _check_preparation(layer: KerasLayer) -> None:
    """Raises NotMobileNetV2 but for what makes -1 to 1 of 0 to 255, as Keras's preprocess_input does."""
    if layer.options is None:
        raise NotMobileNetV2(
            f"its layer {layer.name} prepares images by numbers that a file of weights does not tell: save "
            "the whole model as .keras"
        )
    if layer.kind == "rescaling":
        scale, offset = layer.options["scale"], layer.options["offset"]
        known = _is_number(scale, 1 / HALF_RANGE) and _is_number(offset, -1)
    else:
        division = layer.kind == "truedivide" or layer.options.get("function") == "math.truediv"
        known = list(layer.operands or ()) == [HALF_RANGE if division else 1.0]
    if not known:
        raise NotMobileNetV2(
            f"its layer {layer.name} prepares images otherwise than from 0 to 255 to -1 to 1, which would be "
            "left out: save the network without it, and scale its input"
        )


def _is_number(value: object, expected: float) -> bool:
    return isinstance(value, (int, float)) and math.isclose(value, expected, rel_tol=1e-6)


def _eps(layers: Sequence[KerasLayer]) -> float:
    """What the file says of its BatchNorms, where it does."""
    norms = [layer.options or {} for layer in layers if layer.kind == "batchnormalization"]
    told = {options["epsilon"] for options in norms if "epsilon" in options}
    if len(told) > 1:
        raise NotMobileNetV2(
            f"its BatchNormalization layers have different values of epsilon: {sorted(told)}"
        )
    return told.pop() if told else BATCH_NORM_EPS


def _build(
    weights: Mapping[str, Tensor], classifier: str, eps: float, of_channels: Callable[..., Network]
) -> Network:
    theirs = _keys(classifier)
    for ours, key in theirs.items():
        if key not in weights:
            raise NotMobileNetV2(f"it has no {key}")
        if weights[key].dim() != len(_order(ours, key)):
            raise NotMobileNetV2(f"{key} has shape {tuple(weights[key].shape)}")
    for key in sorted(weights.keys() - theirs.values()):
        raise NotMobileNetV2(f"it has {key}, which MobileNetV2 has not")
    state_dict = {ours: weights[key].permute(_order(ours, key)) for ours, key in theirs.items()}
    shapes = {ours: tuple(value.shape) for ours, value in state_dict.items()}
    classes = shapes[f"{CLASSIFIER}.weight"][0]
    channels = of_kernels(shapes, layer_names.torchvision(), classes)
    model = of_channels(channels, partial(nn.BatchNorm2d, eps=eps), padding="same")
    for ours, wanted in model.state_dict().items():
        if ours in theirs and shapes[ours] != wanted.shape:
            key = theirs[ours]
            order = _order(ours, key)
            expected = tuple(wanted.shape[order.index(axis)] for axis in range(len(order)))
            raise NotMobileNetV2(f"{key} has shape {tuple(weights[key].shape)}, expected {expected}")
    model.load_state_dict(state_dict, strict=False)
    return model.eval()


def _keys(classifier: str) -> dict[str, str]:
    """The keys of weights by torchvision's names; ``classifier`` is the Dense layer's name."""
    theirs = {f"{CLASSIFIER}.weight": f"{classifier}/kernel", f"{CLASSIFIER}.bias": f"{classifier}/bias"}
    for own, other in zip(layer_names.torchvision(), layer_names.keras(), strict=True):
        theirs[f"{own.conv}.weight"] = f"{other.conv}/kernel"
        for name, keras_name in BATCH_NORM_NAMES.items():
            theirs[f"{own.norm}.{name}"] = f"{other.norm}/{keras_name}"
    return theirs


def _order(ours: str, key: str) -> tuple[int, ...]:
    """Keras's dimensions of a weight in torch's order."""
    if not key.endswith("/kernel"):
        return (0,)
    if ours.startswith(CLASSIFIER):
        return DENSE_ORDER
    return DEPTHWISE_ORDER if _is_depthwise(key.removesuffix("/kernel")) else CONVOLUTION_ORDER


def _is_depthwise(layer: str) -> bool:
    return layer.endswith("depthwise")


def _classifier(weights: Mapping[str, Tensor]) -> str:
    """The name of the one Dense layer."""
    dense = {
        key.removesuffix("/kernel"): " to ".join(map(str, value.shape))
        for key, value in weights.items()
        if key.endswith("/kernel") and value.dim() == 2
    }
    if not dense:
        raise NotMobileNetV2(
            "it has no Dense layer, the classifier: save the network with one (include_top=True or your own)"
        )
    if len(dense) > 1:
        layers = " and ".join(f"{name} ({sizes})" for name, sizes in dense.items())
        raise NotMobileNetV2(f"its classifier is {len(dense)} Dense layers, {layers}, instead of one")
    return next(iter(dense))
