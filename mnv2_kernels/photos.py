"""Photographs as network inputs: decode, resize, normalise.

Two recipes. `tf` is that of the TensorFlow and Keras networks: straight to the square, then [-1, 1].
`torchvision` is that of torchvision's ImageNet weights: shorter side to 256/224 of the size, centre crop,
ImageNet's mean and deviation. Both resize with Pillow's bilinear filter, which widens when it shrinks and
rounds back to 8 bits; another resize moves logits by more than any kernel does.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Literal, get_args

import torch
from PIL import Image, ImageOps, UnidentifiedImageError

Preprocess = Literal["tf", "torchvision"]
PREPROCESSES: tuple[Preprocess, ...] = get_args(Preprocess)

TORCHVISION_RESIZE = 256 / 224
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class PhotoError(ValueError):
    """A photograph is missing or cannot be decoded; the message names it."""


def load_photo(path: str | PathLike[str], size: int, preprocess: Preprocess = "tf") -> torch.Tensor:
    """Reads one photograph.

    Args:
        path: any image file that Pillow decodes; taken as 8-bit RGB, turned upright where EXIF says how.
        size: height and width of the result, in pixels.
        preprocess: `tf` or `torchvision`, see above.

    Returns:
        A float32 tensor (3, size, size), contiguous.

    Raises:
        PhotoError: no such file, or not an image.
        ValueError: size below 1, or an unknown recipe.
    """
    if size < 1:
        raise ValueError(f"load_photo: size must be at least 1, got {size}")
    if preprocess not in PREPROCESSES:
        raise ValueError(
            f"load_photo: preprocess must be one of {', '.join(PREPROCESSES)}, got {preprocess!r}"
        )
    image = _decode(path)
    return _tf(image, size) if preprocess == "tf" else _torchvision(image, size)


def load_photos(
    paths: Sequence[str | PathLike[str]], size: int, preprocess: Preprocess = "tf"
) -> torch.Tensor:
    """Reads photographs as one float32 batch (len(paths), 3, size, size); errors as for `load_photo`."""
    if not paths:
        return torch.empty(0, 3, size, size)
    return torch.stack([load_photo(path, size, preprocess) for path in paths])


def _decode(path: str | PathLike[str]) -> Image.Image:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise PhotoError(f"{path}: no such photo") from None
    except UnidentifiedImageError:
        raise PhotoError(f"{path}: not an image that Pillow can read") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PhotoError(f"{path}: cannot be read as an image ({reason})") from error


def _tf(image: Image.Image, size: int) -> torch.Tensor:
    return _channels_first(image.resize((size, size), Image.Resampling.BILINEAR)) / 127.5 - 1


def _torchvision(image: Image.Image, size: int) -> torch.Tensor:
    shorter = int(size * TORCHVISION_RESIZE)
    width, height = (int(shorter * side / min(image.size)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in resized.size)
    pixels = _channels_first(resized.crop((left, top, left + size, top + size))) / 255
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (pixels - mean) / deviation


def _channels_first(image: Image.Image) -> torch.Tensor:
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, 3).permute(2, 0, 1).contiguous().float()
