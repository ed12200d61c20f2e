"""Networks quantised by other libraries, with their defaults, on photographs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

# What NNCF takes by itself of however many images.
NNCF_IMAGES = 300


def openvino_int8(model: Any, images: Tensor, batch: int = 1) -> Any:
    """An OpenVINO model of ``batch`` images a call, quantised by NNCF on float32 images (N, C, H, W)."""
    import nncf

    batches = [each.numpy() for each in images.contiguous().split(batch)]
    return nncf.quantize(model, nncf.Dataset(batches), subset_size=min(len(batches), NNCF_IMAGES))


def onnx_int8(model: bytes, images: Tensor, batch: int = 1) -> bytes:
    """An ONNX model of ``batch`` images a call, quantised by ONNX Runtime on float32 images (N, C, H, W).

    Images that fill no batch are left out. Scales of weights are per channel, which ONNX Runtime recommends
    and does not do by default.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self, name: str) -> None:
            whole = images[: len(images) // batch * batch]
            self.left: Iterator[Tensor] = iter(whole.contiguous().split(batch))
            self.name = name

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.left, None)
            return None if image is None else {self.name: image.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        given, prepared, quantised = (f"{folder}/{name}.onnx" for name in ("given", "prepared", "quantised"))
        Path(given).write_bytes(model)
        quant_pre_process(given, prepared)
        quantize_static(
            prepared,
            quantised,
            Reader(input_name(model)),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return Path(quantised).read_bytes()


def input_name(model: bytes) -> str:
    """The name of an ONNX model's only input."""
    import onnx

    return onnx.load_from_string(model).graph.input[0].name
