"""Photographs as network inputs: decode, resize, normalise.

Two recipes. `tf` is that of the TensorFlow and Keras networks: straight to the square, then [-1, 1].
`torchvision` is that of torchvision's ImageNet weights: shorter side to 256/224 of the size, centre crop,
ImageNet's mean and deviation. Both resize with Pillow's bilinear filter, which widens when it shrinks and
rounds back to 8 bits; another resize moves logits by more than any kernel does.

Pictures of more than 8 bits are cut to their upper 8, as Pillow itself does with 16-bit colours. Its own
conversion of grey ones clips at 255 instead, which leaves white.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import BinaryIO, Literal, get_args

import torch
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from ..nn.image_bytes import IMAGENET

Preprocess = Literal["tf", "torchvision"]
PREPROCESSES: tuple[Preprocess, ...] = get_args(Preprocess)

TORCHVISION_RESIZE = 256 / 224
IMAGENET_MEAN, IMAGENET_DEVIATION = IMAGENET

# A strip one pixel wide would be resized to gigabytes before the crop. This is 96 MiB, which at size 224 a
# picture reaches that is 512 times as long as wide.
MAX_RESIZED_PIXELS = 2**25

DEEP_GREY = ("I;16", "I;16B", "I;16L", "I;16N", "I")
# Formats whose grey values Pillow gives in 0 to 65535. TIFF has any range and says which.
FORMATS_OF_16_BITS = ("PNG", "PPM", "JPEG2000")
TIFF_BITS_PER_SAMPLE, TIFF_SAMPLE_FORMAT, TIFF_PHOTOMETRIC = 258, 339, 262
UNSIGNED, WHITE_IS_ZERO = 1, 0


class PhotoError(ValueError):
    """A photograph is missing or cannot be decoded; the message says why, and of a file its name."""


def load_photo(path: str | PathLike[str], size: int, preprocess: Preprocess = "tf") -> torch.Tensor:
    """One photograph as a contiguous float32 tensor (3, size, size); errors as for `load_photo_bytes`."""
    return normalised(load_photo_bytes(path, size, preprocess), preprocess)


def photo_tensor(image: Image.Image, size: int, preprocess: Preprocess) -> torch.Tensor:
    """The same of an RGB image."""
    return normalised(photo_bytes(image, size, preprocess), preprocess)


def normalised(pixels: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    """What a network takes of bytes (..., 3, height, width): float32."""
    pixels = pixels.float()
    if preprocess == "tf":
        return pixels / 127.5 - 1
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (pixels / 255 - mean) / deviation


def load_photo_bytes(path: str | PathLike[str], size: int, preprocess: Preprocess = "tf") -> torch.Tensor:
    """One photograph in its size, before it is normalised: contiguous uint8 (3, size, size).

    It is taken as 8-bit RGB, without transparency, turned upright where EXIF says how. Raises PhotoError
    where there is no such file or none that Pillow decodes, or its pixels are floating-point numbers or
    signed or 32-bit integers, of which no file says what is white; ValueError for a size below 1 or an
    unknown recipe.
    """
    if size < 1:
        raise ValueError(f"load_photo: size must be at least 1, got {size}")
    if preprocess not in PREPROCESSES:
        raise ValueError(
            f"load_photo: preprocess must be one of {', '.join(PREPROCESSES)}, got {preprocess!r}"
        )
    return photo_bytes(open_photo(path), size, preprocess)


def photo_bytes(image: Image.Image, size: int, preprocess: Preprocess) -> torch.Tensor:
    """An RGB image in a network's size, before it is normalised: contiguous uint8 (3, size, size)."""
    return channels_first(_tf(image, size) if preprocess == "tf" else _torchvision(image, size))


def load_photos(
    paths: Sequence[str | PathLike[str]], size: int, preprocess: Preprocess = "tf"
) -> torch.Tensor:
    """Reads photographs as one float32 batch (len(paths), 3, size, size); errors as for `load_photo`."""
    if not paths:
        return torch.empty(0, 3, size, size)
    return torch.stack([load_photo(path, size, preprocess) for path in paths])


def open_photo(path: str | PathLike[str]) -> Image.Image:
    """One photograph in 8-bit RGB, upright. Raises PhotoError, as `load_photo_bytes`."""
    try:
        return decode_photo(path)
    except PhotoError as error:
        raise PhotoError(f"{path}: {error}") from error


def decode_photo(source: str | PathLike[str] | BinaryIO, least_side: int | None = None) -> Image.Image:
    """One photograph in 8-bit RGB, upright, from a path or an open file, which errors do not name.

    ``least_side``: a JPEG may be scaled while it is decoded, by 1/2, 1/4 or 1/8, as long as no side gets
    shorter than this. Raises PhotoError, as `load_photo_bytes`.
    """
    try:
        with Image.open(source) as image:
            if least_side is not None:
                image.draft(image.mode, (least_side, least_side))
            upright = ImageOps.exif_transpose(image)
            if image.mode in DEEP_GREY or image.mode == "F":
                upright = _upper_8_bits(upright, _grey_bits(image), _tiff_tag(image, TIFF_PHOTOMETRIC))
            return upright.convert("RGB")
    except FileNotFoundError:
        raise PhotoError("no such photo") from None
    except UnidentifiedImageError:
        raise PhotoError("not an image that Pillow can read") from None
    except PhotoError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PhotoError(f"cannot be read as an image ({reason})") from error


def _grey_bits(image: Image.Image) -> int | None:
    """Bits of the unsigned integers that the file's pixels are; None where they are others."""
    if image.mode in DEEP_GREY and image.format in FORMATS_OF_16_BITS:
        return 16
    # Pillow's mode I is signed, so that 32 unsigned bits overflow.
    if image.mode == "I" or _tiff_tag(image, TIFF_SAMPLE_FORMAT) not in (None, UNSIGNED):
        return None
    return _tiff_tag(image, TIFF_BITS_PER_SAMPLE)


def _tiff_tag(image: Image.Image, tag: int) -> int | None:
    """A TIFF file's tag, the first value where it has several; None where it, or the file, is none."""
    value = image.tag_v2.get(tag) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    return value[0] if isinstance(value, tuple) else value


def _upper_8_bits(image: Image.Image, bits: int | None, photometric: int | None) -> Image.Image:
    if bits is None:
        numbers = "floating-point numbers" if image.mode == "F" else "integers of an unknown range"
        raise PhotoError(
            f"its pixels are {numbers} (Pillow's mode {image.mode}), so nothing says what is white; "
            "save it with 8 or 16 bits a channel"
        )
    dtype = torch.int32 if image.mode == "I" else torch.uint16
    native = "I" if image.mode == "I" else "I;16N"
    pixels = torch.frombuffer(bytearray(image.tobytes("raw", native)), dtype=dtype).int()
    pixels = pixels >> (bits - 8)
    upper = bytearray(pixels.numel())
    torch.frombuffer(upper, dtype=torch.uint8).copy_(255 - pixels if photometric == WHITE_IS_ZERO else pixels)
    return Image.frombytes("L", image.size, bytes(upper))


def _tf(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _torchvision(image: Image.Image, size: int) -> Image.Image:
    shorter = int(size * TORCHVISION_RESIZE)
    width, height = (int(shorter * side / min(image.size)) for side in image.size)
    left, top = (round((side - size) / 2) for side in (width, height))
    region = left, top, left + size, top + size
    if width * height <= MAX_RESIZED_PIXELS:
        return image.resize((width, height), Image.Resampling.BILINEAR).crop(region)
    # The same but for roundings: Pillow takes the borders of a box in float32.
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


def channels_first(image: Image.Image) -> torch.Tensor:
    """The pixels of an RGB image, contiguous uint8 (3, height, width)."""
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, 3).permute(2, 0, 1).contiguous()
