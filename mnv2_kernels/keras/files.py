"""What Keras files hold: weights by the names of their layers, and what is said about the layers.

There are three formats. An .h5 of Keras 2 or 3 has a group for each layer's name; groups around it differ,
and some versions end the names of weights with ":0". A .weights.h5 of Keras 3 has groups by the layers'
classes, ``layers/conv2d_1/vars/0``, and the layer's name as an attribute. A .keras is a zip archive of such a
file and of the configuration, which an .h5 may have as an attribute.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from .. import layer_names

if TYPE_CHECKING:
    import h5py

ARCHIVED_WEIGHTS, ARCHIVED_CONFIG = "model.weights.h5", "config.json"
FLOAT = "f"  # NumPy's kind; integers are the states of random generators and counters

BATCH_NORM_WEIGHTS = ("gamma", "beta", "moving_mean", "moving_variance")
KERNEL_WEIGHTS = ("kernel", "bias")

NUMBERED = re.compile(r"(?P<layer>.+)/vars/(?P<index>\d+)")


class NotMobileNetV2(Exception):
    """The file holds another network; the message says what shows it."""


class KerasLayer(NamedTuple):
    """A layer as the file describes it.

    ``class_name`` is ``ReLU`` or, in a file of weights, ``re_lu``. Such a file does not tell ``options`` and
    the constant ``operands``, which are then None.
    """

    name: str
    class_name: str
    options: Mapping[str, Any] | None = None
    operands: Sequence[float] | None = None

    @property
    def kind(self) -> str:
        """The class in one spelling."""
        return self.class_name.lower().replace("_", "")


@dataclass(frozen=True)
class KerasContents:
    """Float32 weights by "layer/weight", and the layers that the file describes, which may be none."""

    weights: dict[str, Tensor]
    layers: tuple[KerasLayer, ...]


def read_keras(path: Path) -> KerasContents:
    """Reads a file of any of the three formats.

    Raises ImportError without h5py, FileNotFoundError, ValueError where the file is none of Keras's, and
    NotMobileNetV2 where two layers have one name.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError("reading Keras files needs h5py: pip install h5py") from error
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    source, config = _unzipped(path) if zipfile.is_zipfile(path) else (path, None)
    try:
        with h5py.File(source, "r") as file:
            config = config or file.attrs.get("model_config")
            numbered = any(NUMBERED.fullmatch(name) for name in _names(file))
            weights = _numbered_weights(file) if numbered else _named_weights(file)
            if config is not None:
                layers = tuple(_configured(json.loads(config)))
            else:
                layers = tuple(_grouped(file)) if numbered else ()
            return KerasContents(weights, layers)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: not an HDF5 file that can be read ({error})") from None
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: its configuration is none of Keras's ({error})") from None


def _unzipped(path: Path) -> tuple[BinaryIO, bytes]:
    """The weights' file in a .keras archive, and the configuration."""
    try:
        with zipfile.ZipFile(path) as archive:
            return io.BytesIO(archive.read(ARCHIVED_WEIGHTS)), archive.read(ARCHIVED_CONFIG)
    except KeyError as error:
        raise ValueError(f"{path}: not a .keras archive: {error.args[0]}") from None
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: a damaged archive ({error})") from None


def _names(group: h5py.Group) -> list[str]:
    names: list[str] = []
    group.visit(names.append)
    return names


def _is_weight(item: h5py.Group | h5py.Dataset) -> bool:
    return hasattr(item, "dtype") and item.dtype.kind == FLOAT and item.ndim > 0


def _add(weights: dict[str, Tensor], key: str, dataset: h5py.Dataset) -> None:
    if key in weights:
        raise NotMobileNetV2(f"it has two {key}")
    weights[key] = torch.from_numpy(dataset[()].astype("float32"))


def _named_weights(file: h5py.File) -> dict[str, Tensor]:
    """Of groups by the layers' names."""
    group = file.get("model_weights", file)
    weights: dict[str, Tensor] = {}
    for path in _names(group):
        if _is_weight(group[path]):
            layer, _, name = path.rpartition("/")
            name = name.removesuffix(":0").removeprefix("depthwise_")
            _add(weights, f"{layer.rpartition('/')[2]}/{name}", group[path])
    return weights


def _numbered_weights(file: h5py.File) -> dict[str, Tensor]:
    """Of groups by the layers' classes, whose weights are numbered."""
    datasets: dict[str, dict[int, h5py.Dataset]] = defaultdict(dict)
    for path in _names(file):
        match = NUMBERED.fullmatch(path)
        # Beside a trained network lies its optimiser, with two numbers for each weight.
        if match and _is_weight(file[path]) and not path.startswith("optimizer/"):
            datasets[match["layer"]][int(match["index"])] = file[path]
    names = _layer_names(file, datasets)
    weights: dict[str, Tensor] = {}
    for layer, numbered in datasets.items():
        kinds = KERNEL_WEIGHTS if numbered[min(numbered)].ndim > 1 else BATCH_NORM_WEIGHTS
        for index, dataset in numbered.items():
            weight = kinds[index] if index < len(kinds) else str(index)
            _add(weights, f"{names[layer]}/{weight}", dataset)
    return weights


def _layer_names(file: h5py.File, layers: Mapping[str, Any]) -> dict[str, str]:
    """The layers' names by their groups; where a version of Keras writes none, the order tells them."""
    names = {layer: file[layer]["vars"].attrs.get("name", layer) for layer in layers}
    if any(name != layer for layer, name in names.items()):
        return names
    for container in {layer.rpartition("/")[0] for layer in layers}:
        for kind, standard in _names_in_order().items():
            groups = [layer for layer in layers if _is_in(layer, container, kind)]
            if len(groups) == len(standard):
                names |= zip(sorted(groups, key=_class_and_index), standard, strict=True)
    return names


def _names_in_order() -> dict[str, list[str]]:
    """MobileNetV2's names by the class of the layer, in the network's order."""
    layers = layer_names.keras()
    return {
        "conv2d": [layer.conv for layer in layers if not layer.conv.endswith("depthwise")],
        "depthwise_conv2d": [layer.conv for layer in layers if layer.conv.endswith("depthwise")],
        "batch_normalization": [layer.norm for layer in layers],
    }


def _is_in(layer: str, container: str, kind: str) -> bool:
    return layer.rpartition("/")[0] == container and _class_and_index(layer)[0] == kind


def _class_and_index(layer: str) -> tuple[str, int]:
    """Of a group such as ``layers/conv2d_1``; the first of a class has no number."""
    name = layer.rpartition("/")[2]
    kind, _, index = name.rpartition("_")
    return (kind, int(index)) if kind and index.isdecimal() else (name, 0)


def _grouped(file: h5py.File) -> Iterator[KerasLayer]:
    """The layers of a file without a configuration, but for those that hold others."""
    for path in _names(file):
        layer, _, last = path.rpartition("/")
        if last == "vars" and layer.rpartition("/")[0].endswith("layers") and "layers" not in file[layer]:
            name = file[path].attrs.get("name", layer.rpartition("/")[2])
            yield KerasLayer(name, _class_and_index(layer)[0])


def _configured(config: Mapping[str, Any]) -> Iterator[KerasLayer]:
    """The layers of a configuration, but for those that hold others."""
    inner = config.get("config", {})
    # Keras 2 began with a Sequential whose configuration is its list of layers.
    layers = inner if isinstance(inner, list) else inner.get("layers")
    if layers is None:
        operands = tuple(_numbers(config.get("inbound_nodes", [])))
        class_name = config.get("class_name", "layer without a class")
        yield KerasLayer(inner.get("name", class_name), class_name, inner, operands)
        return
    for layer in layers:
        yield from _configured(layer)


def _numbers(nodes: Any) -> Iterator[float]:
    """The constants among the arguments of a layer's calls; tensors are given by strings and integers."""
    if isinstance(nodes, float):
        yield nodes
    elif isinstance(nodes, list):
        for node in nodes:
            yield from _numbers(node)
    elif isinstance(nodes, dict):
        for node in nodes.values():
            yield from _numbers(node)
