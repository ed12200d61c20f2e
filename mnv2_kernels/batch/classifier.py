"""Images in, classes out: what every worker of a batch job holds."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy
import torch
from PIL import Image
from torch import Tensor, nn

from ..nn.deploying import deploy
from ..weights.libraries import own_recipe
from ..weights.models import load_model, logits_of, results
from ..weights.photos import TORCHVISION_RESIZE, PhotoError, Preprocess, decode_photo
from ..weights.sources import default_weights, load_any

TOP = 5

# A JPEG may be scaled while it is decoded to no less than this many times the side that it is resized to:
# nearer to it, the filter of the decoder would show.
DECODED_SIDES = 2


class Classifier:
    """A network as a function of arrays, for Ray, Daft, Spark or a loop.

        classifier = Classifier("imagenet")
        classes = classifier(encoded)["label"]

    Args:
        weights: as `mnv2 classify` takes them; with ``model`` a file of its weights.
        model: a model of any library, as `mnv2 classify --model` takes it.
        labels, preprocess, size, pretrained: as of `mnv2 classify`.
        images: how many run in one call of the network.

    A pickled copy loads the network anew from where this one came from. ``decoding_s`` and ``computing_s``
    count its seconds. Raises WeightsError where the network cannot be loaded.
    """

    def __init__(
        self,
        weights: str | None = None,
        *,
        model: str | None = None,
        labels: str | None = None,
        preprocess: Preprocess | None = None,
        size: int | None = None,
        pretrained: bool = False,
        images: int = 32,
    ) -> None:
        self._arguments = {
            **{"weights": weights, "model": model, "labels": labels, "preprocess": preprocess},
            **{"size": size, "pretrained": pretrained, "images": images},
        }
        self._images = images
        self.decoding_s = self.computing_s = 0.0
        file = None if labels is None else Path(labels)
        self._network: nn.Module
        self._recipe: Callable[[Image.Image], Tensor]
        if model is not None:
            of_library = load_model(
                model, file, weights=weights, pretrained=pretrained, preprocess=preprocess, size=size
            )
            self._network, self.size = deploy(of_library.fused), of_library.size
            self._recipe, labels_of = of_library.recipe_for(self.size), of_library.labels_of
        else:
            weights = weights or default_weights()
            network = load_any(weights, file, preprocess=preprocess, size=size)
            network.check_takes_photos()
            self._network, self.size = network.model.deploy(), network.settings.size
            self._recipe = own_recipe(network.settings.preprocess, self.size)
            labels_of = lambda classes: network.labels  # noqa: E731
        self._least_side = round(DECODED_SIDES * TORCHVISION_RESIZE * self.size)
        with torch.inference_mode():
            logits = logits_of(
                model or str(weights), results(self._network, torch.zeros(1, 3, self.size, self.size))[0]
            )
        # The last one is that of no class, -1.
        self._labels = numpy.array([*labels_of(logits.shape[1]), ""], dtype=object)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._arguments,)

    def __call__(self, images: Sequence[Any] | numpy.ndarray) -> dict[str, numpy.ndarray]:
        """The classes of N images.

        Args:
            images: encoded images as bytes, or decoded ones as uint8 arrays (height, width, 3), N of them in
                an array or a sequence.

        Returns: ``class`` (N,) int64 and ``label`` (N,) str, of the largest logit; ``top_class`` and
        ``top_probability`` (N, 5), int64 and float32, and ``top_label`` (N, 5) str; fewer than five where the
        network has fewer classes; ``error`` (N,) str. Where ``error`` says why an image cannot be read, its
        class is -1, its probabilities are NaN and its labels "".
        """
        inputs: list[Tensor | None] = []
        errors: list[str] = []
        began = time.perf_counter()
        for image in images:
            tensor, error = self._input(image)
            inputs.append(tensor)
            errors.append(error)
        decoded = time.perf_counter()
        logits = self._logits([each for each in inputs if each is not None])
        self.decoding_s += decoded - began
        self.computing_s += time.perf_counter() - decoded
        return self._table(logits, numpy.array(errors, dtype=object))

    def _input(self, image: Any) -> tuple[Tensor | None, str]:
        try:
            return self._recipe(self.decoded(image)), ""
        except PhotoError as error:
            return None, str(error)
        except Exception as error:  # whatever a damaged file makes a decoder fail with
            return None, f"cannot be read as an image ({type(error).__name__}: {error})"

    def decoded(self, image: Any) -> Image.Image:
        """One image as the network's recipe takes it. Raises PhotoError where it is none."""
        if isinstance(image, (bytes, bytearray, memoryview)):
            file: BinaryIO = io.BytesIO(image)
            return decode_photo(file, self._least_side)
        pixels = numpy.asarray(image)
        if pixels.dtype != numpy.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise PhotoError(
                f"no image: expected bytes or uint8 (height, width, 3), got {pixels.dtype} {pixels.shape}"
            )
        return Image.fromarray(pixels)

    @torch.inference_mode()
    def _logits(self, inputs: Sequence[Tensor]) -> Tensor:
        """(images, classes)."""
        chunks = (inputs[start : start + self._images] for start in range(0, len(inputs), self._images))
        batches = (torch.stack(list(chunk)).contiguous(memory_format=torch.channels_last) for chunk in chunks)
        logits = [results(self._network, batch)[0].float() for batch in batches]
        return torch.cat([torch.empty(0, len(self._labels) - 1), *logits])

    def _table(self, logits: Tensor, errors: numpy.ndarray) -> dict[str, numpy.ndarray]:
        found = logits.softmax(1).topk(min(TOP, logits.shape[1]))
        is_readable = errors == ""
        classes = numpy.full((len(errors), found.indices.shape[1]), -1, dtype=numpy.int64)
        probabilities = numpy.full(classes.shape, numpy.nan, dtype=numpy.float32)
        classes[is_readable] = found.indices.numpy()
        probabilities[is_readable] = found.values.numpy()
        return {
            "class": classes[:, 0],
            "label": self._labels[classes[:, 0]],
            "top_class": classes,
            "top_label": self._labels[classes],
            "top_probability": probabilities,
            "error": errors,
        }


def _rebuilt(arguments: dict[str, Any]) -> Classifier:
    return Classifier(**arguments)
