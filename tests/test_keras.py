"""FusedMobileNetV2.from_keras on files as Keras 2 and 3 write them."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from models import randomised
from torch import Tensor, nn

from mnv2_kernels import FusedMobileNetV2

h5py = pytest.importorskip("h5py")

NETWORK = "mobilenetv2_0.35_96"
CLASSES = 5


def network(width: float = 0.35, eps: float = 1e-3) -> FusedMobileNetV2:
    def norm_layer(channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels, eps=eps)

    model = FusedMobileNetV2(CLASSES, width, norm_layer=norm_layer, padding="same")
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


@pytest.mark.parametrize(
    ("write", "width", "eps"),
    [(keras2_weights, 0.35, 1e-3), (keras3_model, 0.35, 1e-2), (keras3_model, 1.4, 1e-3)],
)
def test_reads_what_keras_writes(write: Callable, width: float, eps: float, tmp_path: Path) -> None:
    model, path = network(width, eps), tmp_path / "network.h5"
    write(path, model)
    read = FusedMobileNetV2.from_keras(path)
    assert not read.training
    assert {module.eps for module in read.modules() if isinstance(module, nn.BatchNorm2d)} == {eps}
    for name, tensor in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor), name
    x = torch.randn(2, 3, 33, 48)
    with torch.no_grad():
        assert torch.equal(read(x), model(x))


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
            del file[key]
            file[key] = torch.zeros(shape).numpy()

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_remove("block_3_depthwise"), "it has no block_3_depthwise/kernel"),
        (_remove("Conv_1_bn/Conv_1_bn/moving_mean:0"), "it has no Conv_1_bn/moving_mean"),
        (_remove("predictions"), r"it has 0 Dense layers \[\] instead of one"),
        (_remove("predictions/predictions/bias:0"), "it has no predictions/bias"),
        (_add_dense, "it has 2 Dense layers"),
        (_other_shape("Conv1/Conv1/kernel:0", 3, 3, 3, 17), "no width multiplier gives a stem of 17"),
        (
            _other_shape("block_1_depthwise/block_1_depthwise/depthwise_kernel:0", 5, 5, 48, 1),
            "size mismatch",
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


def test_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find = builtins.__import__

    def without_h5py(name: str, *args: object, **kwargs: object) -> object:
        if name == "h5py":
            raise ImportError(name)
        return find(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_h5py)
    with pytest.raises(ImportError, match="needs h5py: pip install h5py"):
        FusedMobileNetV2.from_keras(tmp_path / "network.h5")
