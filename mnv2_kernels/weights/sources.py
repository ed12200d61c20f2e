"""Trained networks for the command line: a file, torchvision's ImageNet weights, or MNV2_DATA's by name."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..layer import SAME, Layer
from ..nn.building import IMAGE_CHANNELS, NormLayer, PaddingRule
from ..nn.mobilenet_v2 import FusedMobileNetV2
from ..nn.networks import classes, image_channels
from ..quantization.network import QuantizedMobileNetV2
from ..quantization.quantize import float_layers
from .checkpoints import WeightsError, build_network, read_state_dict
from .expected import FILE_NAME, Expected, read_expected
from .int8_files import About, is_int8_file, read_int8
from .photos import Preprocess
from .settings import KERAS_SETTINGS, Settings

AnyModule = TypeVar("AnyModule", bound=nn.Module)

DATA_VARIABLE = "MNV2_DATA"
DEFAULT_DATA = Path("../shared/data")
DATA_NETWORKS = ("imagenet", "dogs")
TORCHVISION = "torchvision"
RANDOM = "random"
RANDOM_SEED = 0
RANDOM_SHAPE = (8, 3, 96, 96)
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")

# A host that does not answer should become a message, not a hanging terminal.
DOWNLOAD_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Network:
    """A trained float32 network in eval mode, with what a photograph needs on its way in and out.

    `photos` are those that come with the weights; `expected` holds, under `name`, the logits that this
    network should give with just these settings.
    """

    name: str
    model: FusedMobileNetV2
    labels: tuple[str, ...]
    settings: Settings
    photos: tuple[Path, ...] = ()
    expected: Expected | None = None

    @property
    def takes_photos(self) -> bool:
        """Whether its images have a photograph's channels."""
        return image_channels(self.model) == IMAGE_CHANNELS

    def check_takes_photos(self) -> None:
        """Raises WeightsError where its images have other channels than a photograph."""
        if not self.takes_photos:
            raise WeightsError(
                f"{self.name}: its images have {image_channels(self.model)} channels and photographs "
                f"{IMAGE_CHANNELS}; `mnv2 verify` without photographs checks it, and Python runs it"
            )


@dataclass(frozen=True)
class Int8Network:
    """A quantised network, with what a photograph needs on its way in and out.

    ``about``: what its file says of it, None where that is nothing.
    """

    name: str
    model: QuantizedMobileNetV2
    labels: tuple[str, ...]
    settings: Settings
    about: About | None

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(layer.layer for _, layer in self.model.named_layers())

    @property
    def takes_photos(self) -> bool:
        """Whether its images have a photograph's channels."""
        return self.layers[0].in_channels == IMAGE_CHANNELS

    def check_takes_photos(self) -> None:
        """Raises WeightsError where its images have other channels than a photograph."""
        if not self.takes_photos:
            raise WeightsError(
                f"{self.name}: its images are no photographs, which have {IMAGE_CHANNELS} channels"
            )

    def float_network(self, weights: str | None = None) -> Network | None:
        """The network that it was made of: the given one, else what its file names, as far as that is there.

        Raises WeightsError where the given one cannot be loaded or is another network.
        """
        name = weights or (self.about.weights if self.about else None)
        if name is None or (weights is None and not _is_at_hand(name)):
            return None
        settings, is_keras = self.settings, Path(name).suffix in KERAS_SUFFIXES
        network = load_network(
            name,
            padding=None if is_keras else settings.padding,
            preprocess=settings.preprocess,
            size=settings.size,
            eps=None if is_keras or self.about is None else settings.eps,
        )
        if tuple(layer.layer for layer in float_layers(network.model).values()) != self.layers:
            raise WeightsError(f"{name}: not the float network of {self.name}: its layers are others")
        return network


def _is_at_hand(name: str) -> bool:
    if name in DATA_NETWORKS:
        return has_data() and name in read_expected(data_folder()).networks
    return name == RANDOM or Path(name).is_file()


def data_folder() -> Path:
    """The folder with the networks that go by name: MNV2_DATA, by default ../shared/data."""
    return Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA)


def has_data() -> bool:
    """Whether the data folder is there."""
    return (data_folder() / FILE_NAME).is_file()


def data_photos() -> tuple[Path, ...]:
    """All photographs of the data folder; none where it is not there."""
    if not has_data():
        return ()
    listed = read_expected(data_folder()).photos.values()
    return tuple(dict.fromkeys(photo for photos in listed for photo in photos))


def default_weights() -> str:
    """Those of trained networks where nobody names others: the data folder's, else a download."""
    return DATA_NETWORKS[0] if has_data() else TORCHVISION


def load_network(
    weights: str,
    labels: Path | None = None,
    *,
    padding: PaddingRule | None = None,
    preprocess: Preprocess | None = None,
    size: int | None = None,
    eps: float | None = None,
) -> Network:
    """Loads a trained float network; arguments and errors as for `load_any`.

    Raises WeightsError, too, where the weights are int8.
    """
    network = load_any(weights, labels, padding=padding, preprocess=preprocess, size=size, eps=eps)
    if isinstance(network, Int8Network):
        raise WeightsError(f"{weights}: an int8 network, where a float network is expected")
    return network


def load_any(
    weights: str,
    labels: Path | None = None,
    *,
    padding: PaddingRule | None = None,
    preprocess: Preprocess | None = None,
    size: int | None = None,
    eps: float | None = None,
) -> Network | Int8Network:
    """Loads a trained network.

    Args:
        weights: `imagenet` or `dogs` (from the data folder), `torchvision` (downloaded once), `random`
            (untrained), or a file: safetensors, a torch state dict or checkpoint, a .keras or a Keras .h5; or
            what `mnv2 quantize` wrote.
        labels: a text file, one label a line, line 1 for class 0; by default what comes with the weights.
        padding, preprocess, size, eps: what the weights say, where None.

    Raises WeightsError where a file is missing or of the wrong kind, keys or shapes are not MobileNetV2's,
    the number of labels is not that of the classes, or nothing can be downloaded; ExpectedError where the
    data folder's expected.json cannot be read.
    """
    options = {"padding": padding, "preprocess": preprocess, "size": size, "eps": eps}
    network: Network | Int8Network
    if weights in DATA_NETWORKS:
        network = _data_network(weights, options)
    elif weights == TORCHVISION:
        network = _torchvision_network(options)
    elif weights == RANDOM:
        settings = Settings().changed(**options)
        network = _unlabelled(RANDOM, random_model(padding=settings.padding, eps=settings.eps), settings)
    elif Path(weights).suffix in KERAS_SUFFIXES:
        network = _keras_network(_existing(weights), options)
    elif is_int8_file(Path(weights)):
        network = _int8_network(Path(weights), options)
    else:
        path, settings = _existing(weights), Settings().changed(**options)
        network = _unlabelled(str(path), _read(path, settings), settings)
    return network if labels is None else replace(network, labels=read_labels(labels, len(network.labels)))


def _existing(weights: str) -> Path:
    path = Path(weights)
    if path.is_file():
        return path
    names = ", ".join((*DATA_NETWORKS, TORCHVISION, RANDOM))
    raise WeightsError(f"{path}: no such weights file (names that work without a file: {names})")


def _data_network(name: str, options: Mapping[str, Any]) -> Network:
    folder = data_folder()
    if not folder.is_dir():
        raise WeightsError(
            f"{folder}: no such folder, so no network {name!r} (set {DATA_VARIABLE} to its folder)"
        )
    expected = read_expected(folder)
    if name not in expected.networks:
        raise WeightsError(f"{expected.path}: lists no network {name!r}, only {', '.join(expected.networks)}")
    entry = expected.networks[name]
    given = replace(KERAS_SETTINGS, size=entry.size, eps=entry.eps)
    settings = given.changed(**options)
    model = _read(folder / entry.weights, settings)
    labels = read_labels(folder / entry.labels, classes(model))
    comparable = expected if settings == given else None
    return Network(name, model, labels, settings, expected.photos[name], comparable)


def _torchvision_network(options: Mapping[str, Any]) -> Network:
    settings = Settings().changed(**options)
    try:
        from torchvision.models import MobileNet_V2_Weights
    except ImportError as error:
        raise WeightsError(f"{TORCHVISION}: not installed ({error}); pip install torchvision") from error
    published = MobileNet_V2_Weights.IMAGENET1K_V1
    try:
        with downloading():
            state_dict = published.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"{TORCHVISION}: its weights cannot be downloaded ({error})") from error
    model = build_network(state_dict, settings.padding, settings.eps, TORCHVISION)
    return Network(TORCHVISION, model, tuple(published.meta["categories"]), settings)


def _keras_network(path: Path, options: Mapping[str, Any]) -> Network:
    if options["padding"] is not None or options["eps"] is not None:
        raise WeightsError(
            f"{path}: a Keras file says its padding and eps itself; leave --padding and --eps away"
        )
    try:
        model = FusedMobileNetV2.from_keras(path)
    except (ImportError, OSError, ValueError) as error:
        raise WeightsError(str(error)) from error
    stem: Any = model.features[0]
    settings = replace(KERAS_SETTINGS, eps=stem[1].eps).changed(**options)
    return _unlabelled(str(path), model, settings)


def _int8_network(path: Path, options: Mapping[str, Any]) -> Int8Network:
    if options["padding"] is not None or options["eps"] is not None:
        raise WeightsError(f"{path}: an int8 file says its padding and eps itself: leave out those options")
    model, about = read_int8(path)
    layers = [layer.layer for _, layer in model.named_layers()]
    usual = KERAS_SETTINGS if any(layer.padding == SAME for layer in layers) else Settings()
    settings = (about.settings if about else usual).changed(**options)
    labels = about.labels if about else unnamed(layers[-1].out_channels)
    return Int8Network(str(path), model, labels, settings, about)


def random_model(
    width_mult: float = 1.0, padding: PaddingRule = "torch", eps: float = 1e-5
) -> FusedMobileNetV2:
    """An untrained network in eval mode, always the same, whose activations neither vanish nor explode."""
    return randomised(
        lambda norm_layer: FusedMobileNetV2(width_mult=width_mult, norm_layer=norm_layer, padding=padding),
        eps,
    )


def randomised(make: Callable[[NormLayer], AnyModule], eps: float = 1e-5) -> AnyModule:
    """As random_model, for any network that is made of a norm layer."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(RANDOM_SEED)
        # Without momentum one pass in train mode gives the statistics that belong to the weights; with others
        # the signal dies out on its way through the network.
        model = make(partial(nn.BatchNorm2d, eps=eps, momentum=None))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
        model(torch.randn(RANDOM_SHAPE))
    return model.eval()


def _read(path: Path, settings: Settings) -> FusedMobileNetV2:
    return build_network(read_state_dict(path), settings.padding, settings.eps, path)


@contextmanager
def downloading() -> Iterator[None]:
    """Around what may download: it gives up in time, and writes nothing on stdout."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        # torch.hub announces a download on stdout, which may have to hold JSON.
        with redirect_stdout(sys.stderr):
            yield
    finally:
        socket.setdefaulttimeout(before)


def _unlabelled(name: str, model: FusedMobileNetV2, settings: Settings) -> Network:
    return Network(name, model, unnamed(classes(model)), settings)


def unnamed(classes: int) -> tuple[str, ...]:
    """Labels where nobody gives any."""
    return tuple(f"class {index}" for index in range(classes))


def read_labels(path: Path, classes: int) -> tuple[str, ...]:
    """One label a line. Raises WeightsError where it cannot be read, or has another number of lines."""
    try:
        labels = tuple(path.read_text(encoding="utf-8").rstrip("\n").split("\n"))
    except OSError as error:
        raise WeightsError(f"{path}: labels cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path}: labels are not UTF-8 text") from error
    if len(labels) != classes:
        raise WeightsError(f"{path}: {len(labels)} labels, but the network has {classes} classes")
    return labels
