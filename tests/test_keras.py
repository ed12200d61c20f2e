"""FusedMobileNetV2.from_keras on files as Keras 2 and 3 write them.

The writers here follow files that Keras 3.15 wrote of its MobileNetV2 at widths from 0.35 to 1.4, with and
without its own classifier. The networks read from those gave Keras's predictions to 2e-5.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from models import randomised
from torch import Tensor, nn

from mnv2_kernels import FusedMobileNetV2

h5py = pytest.importorskip("h5py")

NETWORK = "mobilenetv2_0.35_96"
CLASSES = 5


def network(width: float = 0.35, eps: float = 1e-3, in_channels: int = 3) -> FusedMobileNetV2:
    def norm_layer(channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels, eps=eps)

    model = FusedMobileNetV2(CLASSES, width, norm_layer=norm_layer, padding="same", in_channels=in_channels)
    return randomised(model).eval()


def keras_layers(model: FusedMobileNetV2) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Keras's name of every layer, and its weights by name."""
    stem, *blocks, head = model.features
    yield from _convolution("Conv1", stem[0], "bn_Conv1", stem[1])
    for index, block in enumerate(blocks):
        prefix = f"block_{index}_" if index else "expanded_conv_"
        *activated, project, norm = block.conv
        for part, layers in zip(("expand", "depthwise")[-len(activated) :], activated, strict=True):
            yield from _convolution(f"{prefix}{part}", layers[0], f"{prefix}{part}_BN", layers[1])
        yield from _convolution(f"{prefix}project", project, f"{prefix}project_BN", norm)
    yield from _convolution("Conv_1", head[0], "Conv_1_bn", head[1])


def _convolution(
    name: str, conv: nn.Conv2d, norm_name: str, norm: nn.BatchNorm2d
) -> Iterator[tuple[str, dict]]:
    if conv.groups > 1:
        yield name, {"depthwise_kernel": conv.weight[:, 0].permute(1, 2, 0)[..., None]}
    else:
        yield name, {"kernel": conv.weight.permute(2, 3, 1, 0)}
    names = {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }
    yield norm_name, {name: getattr(norm, attribute) for name, attribute in names.items()}


def _dense(model: FusedMobileNetV2) -> dict[str, Tensor]:
    return {"kernel": model.classifier[1].weight.T, "bias": model.classifier[1].bias}


def keras2_weights(path: Path, model: FusedMobileNetV2) -> None:
    """Weights alone: layer/layer/weight:0."""
    with h5py.File(path, "w") as file:
        for layer, weights in (*keras_layers(model), ("predictions", _dense(model))):
            for name, tensor in weights.items():
                file[f"{layer}/{layer}/{name}:0"] = tensor.detach().numpy()


def keras3_model(path: Path, model: FusedMobileNetV2) -> None:
    """A whole model: the network a layer inside, the configuration and the optimiser's state beside it."""
    eps = model.features[0][1].eps
    config = {
        "class_name": "Functional",
        "config": {
            "layers": [{"class_name": "BatchNormalization", "config": {"name": "bn_Conv1", "epsilon": eps}}]
        },
    }
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": {"layers": [config]}})
        for layer, weights in keras_layers(model):
            for name, tensor in weights.items():
                key = f"model_weights/{NETWORK}/{layer}/{name.removeprefix('depthwise_')}"
                file[key] = tensor.detach().numpy()
                file[f"optimizer_weights/adam/{layer}_{name}_momentum/kernel"] = [[0.0]]
        for name, tensor in _dense(model).items():
            file[f"model_weights/dense/dense/{name}"] = tensor.detach().numpy()


# Class, name, weights by name, and options of a layer.
Layer = tuple[str, str, dict[str, Tensor], dict[str, Any]]


def described_layers(model: FusedMobileNetV2) -> Iterator[Layer]:
    """Every layer of Keras's network up to the pool, those without weights, too."""
    blocks = {
        f"block_{index}_" if index else "expanded_conv_": block
        for index, block in enumerate(model.features[1:-1])
    }
    for name, weights in keras_layers(model):
        stride = 1
        if "gamma" in weights:
            yield "BatchNormalization", name, weights, {"epsilon": model.features[0][1].eps}
            if "project" not in name:
                relu = {"bn_Conv1": "Conv1_relu", "Conv_1_bn": "out_relu"}.get(
                    name, name.replace("_BN", "_relu")
                )
                yield "ReLU", relu, {}, {"max_value": 6.0, "negative_slope": 0.0, "threshold": 0.0}
            continue
        if name == "Conv1":
            stride = 2
        elif name.endswith("depthwise"):
            stride = blocks[name.removesuffix("depthwise")].stride
            if stride == 2:
                padding = {"padding": [[0, 1], [0, 1]]}
                yield "ZeroPadding2D", name.replace("depthwise", "pad"), {}, padding
        options = {
            "strides": [stride, stride],
            "dilation_rate": [1, 1],
            "use_bias": False,
            "activation": "linear",
        }
        kind = "DepthwiseConv2D" if name.endswith("depthwise") else "Conv2D"
        yield kind, name, weights, options | ({"groups": 1} if kind == "Conv2D" else {})


def snake_case(class_name: str) -> str:
    """As Keras makes names of classes: GlobalAveragePooling2D is global_average_pooling2d."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", class_name).lower()


def top_layers(model: FusedMobileNetV2, pool: str = "GlobalAveragePooling2D") -> list[Layer]:
    dense = {"kernel": model.classifier[1].weight.T, "bias": model.classifier[1].bias}
    return [
        (pool, "pool", {}, {}),
        ("Dropout", "dropout_3", {}, {"rate": 0.2}),
        ("Dense", "dense_3", dense, {"activation": "softmax", "use_bias": True}),
    ]


def write_numbered(group: h5py.Group, layers: list[Layer], named: bool = True) -> None:
    """The layers of one container: a group for each class and number, the weights numbered in it."""
    counts: Counter[str] = Counter()
    for class_name, name, weights, _ in layers:
        snake = snake_case(class_name)
        number = f"_{counts[snake]}" if counts[snake] else ""
        counts[snake] += 1
        variables = group.create_group(f"layers/{snake}{number}/vars")
        if named:
            variables.attrs["name"] = name
        for index, tensor in enumerate(weights.values()):
            variables[str(index)] = tensor.detach().numpy()
        if class_name in ("Dropout", "RandomFlip"):
            group[f"layers/{snake}{number}/seed_generator/vars/0"] = torch.ones(2, dtype=torch.uint32).numpy()


def keras3_weights(
    path: Path,
    model: FusedMobileNetV2,
    nested: bool = True,
    named: bool = True,
    first: tuple[Layer, ...] = (),
) -> None:
    """A .weights.h5, of a network that is a layer inside, if nested, and an optimiser's state."""
    base, top = list(described_layers(model)), top_layers(model)
    with h5py.File(path, "w") as file:
        if nested:
            write_numbered(file, [*first, *top], named)
            write_numbered(file.create_group("layers/functional"), base, named)
        else:
            write_numbered(file, [*first, *base, *top], named)
        for index in range(4):
            file[f"optimizer/vars/{index}"] = torch.zeros(3, 3).numpy()


def keras3_flat_weights(path: Path, model: FusedMobileNetV2) -> None:
    keras3_weights(path, model, nested=False)


def keras3_nameless_weights(path: Path, model: FusedMobileNetV2) -> None:
    keras3_weights(path, model, named=False)


def configured(layer: Layer, inbound_nodes: list[Any] | None = None) -> dict[str, Any]:
    class_name, name, _, options = layer
    config = {"name": name, "trainable": True, **options}
    return {"class_name": class_name, "config": config, "name": name, "inbound_nodes": inbound_nodes or []}


def operation(class_name: str, operand: float) -> dict[str, Any]:
    """What stands in a configuration for arithmetic, which has no group in the file of weights."""
    tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": ["input_layer", 0, 0]}}
    return configured((class_name, class_name.lower(), {}, {}), [{"args": [tensor, operand], "kwargs": {}}])


def keras3_archive(
    path: Path,
    model: FusedMobileNetV2,
    first: tuple[Layer, ...] = (),
    operations: tuple[dict[str, Any], ...] = (),
    change: Callable[[dict[str, Any]], None] = lambda config: None,
) -> None:
    """A .keras; ``change`` gets every layer's configuration."""
    weights = path.with_suffix(".weights.h5")
    keras3_weights(weights, model, first=first)
    base = [configured(layer) for layer in described_layers(model)]
    top = [configured(layer) for layer in top_layers(model)]
    for layer in (*base, *top):
        change(layer)
    inner = {"class_name": "Functional", "config": {"name": NETWORK, "layers": base}}
    layers = [
        configured(("InputLayer", "input_layer", {}, {})),
        *map(configured, first),
        *operations,
        inner,
        *top,
    ]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr(
            "config.json", json.dumps({"class_name": "Functional", "config": {"layers": layers}})
        )
        archive.write(weights, "model.weights.h5")


def assert_same_network(read: FusedMobileNetV2, model: FusedMobileNetV2) -> None:
    assert not read.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor), name
    x = torch.randn(2, model.features[0][0].in_channels, 33, 48)
    with torch.no_grad():
        assert torch.equal(read(x), model(x))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "suffix", "width", "eps"),
    [
        (keras2_weights, ".h5", 0.35, 1e-3),
        (keras3_model, ".h5", 0.35, 1e-2),
        (keras3_model, ".h5", 1.4, 1e-3),
        (keras3_weights, ".weights.h5", 0.35, 1e-3),
        (keras3_flat_weights, ".weights.h5", 0.37, 1e-3),
        (keras3_nameless_weights, ".weights.h5", 0.35, 1e-3),
        (keras3_archive, ".keras", 0.5, 1e-2),
    ],
)
def test_reads_what_keras_writes(
    write: Callable, suffix: str, width: float, eps: float, tmp_path: Path
) -> None:
    model, path = network(width, eps), tmp_path / f"network{suffix}"
    write(path, model)
    read = FusedMobileNetV2.from_keras(path)
    assert {module.eps for module in read.modules() if isinstance(module, nn.BatchNorm2d)} == {eps}
    assert_same_network(read, model)


@pytest.mark.parametrize("write", [keras2_weights, keras3_weights])
def test_reads_grey_images(write: Callable, tmp_path: Path) -> None:
    model, path = network(in_channels=1), tmp_path / "grey.weights.h5"
    write(path, model)
    assert_same_network(FusedMobileNetV2.from_keras(path), model)


RESCALING = ("Rescaling", "rescaling", {}, {"scale": 1 / 127.5, "offset": -1})
FLIP = ("RandomFlip", "random_flip", {}, {"mode": "horizontal"})


def test_layers_that_scale_images_as_keras_does_are_left_out(tmp_path: Path) -> None:
    model, path = network(), tmp_path / "network.keras"
    keras3_archive(path, model, first=(RESCALING, FLIP))
    assert_same_network(FusedMobileNetV2.from_keras(path), model)
    keras3_archive(path, model, operations=(operation("TrueDivide", 127.5), operation("Subtract", 1.0)))
    assert_same_network(FusedMobileNetV2.from_keras(path), model)


def changed(layer_name: str, option: str, value: object) -> dict[str, Any]:
    def change(layer: dict[str, Any]) -> None:
        if layer["name"] == layer_name:
            layer["config"][option] = value

    return {"change": change}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"operations": (operation("TrueDivide", 255.0),)},
            "its layer truedivide prepares images otherwise than from 0",
        ),
        (
            {"operations": (operation("Subtract", 0.5),)},
            "its layer subtract prepares images otherwise than from 0",
        ),
        (
            {"first": (("Rescaling", "rescaling", {}, {"scale": 1 / 255, "offset": 0}),)},
            "its layer rescaling prepares images otherwise than from 0 to 255 to -1 to 1",
        ),
        ({"operations": (operation("Lambda", 0.5),)}, "lambda is a Lambda, which MobileNetV2 has not"),
        (changed("Conv1_relu", "max_value", None), "its layer Conv1_relu has max_value None, expected 6"),
        (changed("block_3_expand_relu", "negative_slope", 0.1), "has negative_slope 0.1, expected 0"),
        (changed("block_3_depthwise", "strides", [1, 1]), r"has strides \[1, 1\], expected \[2, 2\]"),
        (changed("block_4_depthwise", "dilation_rate", [2, 2]), r"has dilation_rate \[2, 2\], expected"),
        (
            changed("dense_3", "activation", "relu"),
            "has activation 'relu', expected 'linear' or 'softmax' or",
        ),
        (changed("Conv_1_bn", "epsilon", 1e-5), r"different values of epsilon: \[1e-05, 0.001\]"),
    ],
)
def test_archives_of_other_networks_are_refused(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "network.keras"
    keras3_archive(path, network(), **options)
    with pytest.raises(ValueError, match=rf"network\.keras: .*{words}"):
        FusedMobileNetV2.from_keras(path)


def test_weights_alone_do_not_tell_the_scale_of_images(tmp_path: Path) -> None:
    path = tmp_path / "network.weights.h5"
    keras3_weights(path, network(), first=(RESCALING,))
    with pytest.raises(
        ValueError, match="rescaling prepares images by numbers that a file of weights does not"
    ):
        FusedMobileNetV2.from_keras(path)


def test_another_pool_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.weights.h5"
    keras3_weights(path, network())
    with h5py.File(path, "a") as file:
        file.move("layers/global_average_pooling2d", "layers/global_max_pooling2d")
    with pytest.raises(
        ValueError, match="its layer pool is a global_max_pooling2d, which MobileNetV2 has not"
    ):
        FusedMobileNetV2.from_keras(path)


def _remove(key: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "a") as file:
            del file[key]

    return change


def _add_dense(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["hidden/hidden/kernel:0"] = [[0.0]]


def _other_shape(key: str, *shape: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "a") as file:
            if key in file:
                del file[key]
            file[key] = torch.zeros(shape).numpy()

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_remove("block_3_depthwise"), "it has no block_3_depthwise/kernel"),
        (_remove("Conv_1_bn/Conv_1_bn/moving_mean:0"), "it has no Conv_1_bn/moving_mean"),
        (_remove("predictions"), "it has no Dense layer, the classifier: save the network with one"),
        (_remove("predictions/predictions/bias:0"), "it has no predictions/bias"),
        (
            _add_dense,
            r"its classifier is 2 Dense layers, hidden \(1 to 1\) and predictions \(1280 to 5\), inst",
        ),
        (_other_shape("top/top/kernel:0", 1, 1, 1280, 7), "it has top/kernel, which MobileNetV2 has not"),
        (_other_shape("Conv1/Conv1/bias:0", 16), "it has Conv1/bias, which MobileNetV2 has not"),
        (_other_shape("again/Conv1/kernel:0", 3, 3, 3, 16), "it has two Conv1/kernel"),
        (_other_shape("Conv1/Conv1/kernel:0", 3, 3, 3), r"Conv1/kernel has shape \(3, 3, 3\)"),
        (
            _other_shape("Conv1/Conv1/kernel:0", 3, 3, 3, 17),
            r"bn_Conv1/gamma has shape \(16,\), expected \(17,\)",
        ),
        (
            _other_shape("block_1_depthwise/block_1_depthwise/depthwise_kernel:0", 5, 5, 48, 1),
            r"block_1_depthwise/kernel has shape \(5, 5, 48, 1\), expected \(3, 3, 48, 1\)",
        ),
    ],
)
def test_other_networks_are_refused(change: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    path = tmp_path / "network.h5"
    keras2_weights(path, network())
    change(path)
    with pytest.raises(ValueError, match=f"(?s)no MobileNetV2 of Keras applications: .*{words}"):
        FusedMobileNetV2.from_keras(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.h5"
    with pytest.raises(FileNotFoundError, match=r"network\.h5: no such file"):
        FusedMobileNetV2.from_keras(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match=r"network\.h5: not an HDF5 file"):
        FusedMobileNetV2.from_keras(path)
    for config in ("{", "[1]", '{"config": {"layers": [3]}}'):
        keras3_weights(path, network())
        with h5py.File(path, "a") as file:
            file.attrs["model_config"] = config
        with pytest.raises(ValueError, match=r"network\.h5: its configuration is none of Keras's"):
            FusedMobileNetV2.from_keras(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"network\.h5: not a \.keras archive: .*'model\.weights\.h5'"):
        FusedMobileNetV2.from_keras(path)


def test_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match="needs h5py: pip install h5py"):
        FusedMobileNetV2.from_keras(tmp_path / "network.h5")
