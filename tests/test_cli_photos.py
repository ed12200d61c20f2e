from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from cli_cases import refusal, save_photo
from PIL import Image
from torchvision import transforms

from mnv2_kernels.weights.photos import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    MAX_RESIZED_PIXELS,
    PhotoError,
    load_photo,
    load_photos,
)


@pytest.mark.parametrize("width_height", [(301, 200), (200, 301), (224, 224), (50, 1000)])
def test_torchvision_inputs_are_torchvisions(tmp_path: Path, width_height: tuple[int, int]) -> None:
    path = save_photo(tmp_path)
    Image.open(path).resize(width_height).save(path)
    recipe = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_DEVIATION),
        ]
    )
    assert torch.equal(load_photo(path, 224, "torchvision"), recipe(Image.open(path)))


def test_batches(tmp_path: Path) -> None:
    paths = [save_photo(tmp_path, f"{name}.png") for name in ("one", "other")]
    batch = load_photos(paths, 16)
    assert torch.equal(batch, torch.stack([load_photo(path, 16) for path in paths]))
    assert load_photos([], 16).shape == (0, 3, 16, 16)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    source = Image.open(save_photo(tmp_path)).convert(mode)
    path = tmp_path / "photo.tiff"
    source.save(path)
    source.convert("RGB").save(tmp_path / "rgb.png")
    assert torch.equal(load_photo(path, 20), load_photo(tmp_path / "rgb.png", 20))


# --- more than 8 bits ---


def grey_photo(folder: Path) -> Image.Image:
    return Image.open(save_photo(folder)).convert("L")


def deep(image: Image.Image, mode: str, factor: int) -> Image.Image:
    """The same picture in 16 bits, each value times a factor."""
    order = ">" if mode == "I;16B" else "<"
    values = [factor * value for value in image.tobytes()]
    return Image.frombytes(mode, image.size, struct.pack(f"{order}{len(values)}H", *values))


def write_tiff(path: Path, image: Image.Image, bits: int, photometric: int, data: bytes) -> None:
    """A TIFF of one strip of unsigned grey integers, as Pillow reads but does not write them."""
    width, height = image.size
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 277: 1, 278: height}
    tags |= {273: 8, 279: len(data)}  # where the strip is, and its length
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory)


@pytest.mark.parametrize("factor", [256, 257])
@pytest.mark.parametrize(
    ("mode", "name"),
    [("I;16", "deep.png"), ("I;16", "deep.tiff"), ("I;16B", "deep.tiff"), ("I;16", "deep.ppm")],
)
def test_16_bits_of_grey_give_what_8_give(tmp_path: Path, mode: str, name: str, factor: int) -> None:
    grey = grey_photo(tmp_path)
    grey.save(tmp_path / "grey.png")
    deep(grey, mode, factor).save(tmp_path / name)
    assert torch.equal(load_photo(tmp_path / name, 20), load_photo(tmp_path / "grey.png", 20))


def test_16_bits_where_white_is_zero(tmp_path: Path) -> None:
    grey, path = grey_photo(tmp_path), tmp_path / "negative.tiff"
    grey.save(tmp_path / "grey.png")
    write_tiff(path, grey, 16, 0, deep(grey.point(lambda value: 255 - value), "I;16", 257).tobytes())
    assert torch.equal(load_photo(path, 20), load_photo(tmp_path / "grey.png", 20))


def test_12_bits_of_grey_give_what_8_give(tmp_path: Path) -> None:
    grey, path = grey_photo(tmp_path), tmp_path / "grey12.tiff"
    grey.save(tmp_path / "grey.png")
    first, second = grey.tobytes()[::2], grey.tobytes()[1::2]
    pairs = (bytes((a, b >> 4, b << 4 & 0xFF)) for a, b in zip(first, second, strict=True))
    write_tiff(path, grey, 12, 1, b"".join(pairs))
    assert torch.equal(load_photo(path, 20), load_photo(tmp_path / "grey.png", 20))


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("F", "floating-point numbers (Pillow's mode F)"),
        ("I", "integers of an unknown range (Pillow's mode I)"),
    ],
)
def test_pixels_of_an_unknown_range(
    tmp_path: Path, mode: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "photo.tiff"
    grey_photo(tmp_path).convert(mode).save(path)
    line = refusal(capsys, ["classify", path, "--weights", "random"])
    assert f"photo.tiff: its pixels are {words}, so nothing says what is white; save it with 8 or 16" in line


# --- long strips ---


@pytest.mark.parametrize("width_height", [(2, 1500), (1500, 2)])
def test_a_long_strip_is_resized_where_it_is_cropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width_height: tuple[int, int]
) -> None:
    path = save_photo(tmp_path)
    image = Image.open(path).resize(width_height)
    image.save(path)
    whole = transforms.functional.center_crop(transforms.functional.resize(image, 256), 224)
    resize, pixels = Image.Image.resize, []

    def recorded(self: Image.Image, size: tuple[int, int], *args: object, **options: object) -> Image.Image:
        pixels.append(size[0] * size[1])
        return resize(self, size, *args, **options)

    monkeypatch.setattr(Image.Image, "resize", recorded)
    x = load_photo(path, 224, "torchvision")
    assert pixels
    assert max(pixels) <= MAX_RESIZED_PIXELS
    expected = transforms.functional.normalize(
        transforms.functional.to_tensor(whole), IMAGENET_MEAN, IMAGENET_DEVIATION
    )
    one_level = 1 / 255 / min(IMAGENET_DEVIATION)
    assert torch.allclose(x, expected, rtol=0, atol=1.01 * one_level)


def test_a_photo_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    orientation, rotated_90 = 0x0112, 6
    upright = Image.open(save_photo(tmp_path))
    exif = Image.Exif()
    exif[orientation] = rotated_90
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "sideways.png", exif=exif)
    assert torch.equal(load_photo(tmp_path / "sideways.png", 20), load_photo(tmp_path / "noise.png", 20))


def test_what_is_no_photo(tmp_path: Path) -> None:
    text, truncated = tmp_path / "text.jpg", save_photo(tmp_path, "noise.jpg")
    text.write_text("not an image")
    truncated.write_bytes(truncated.read_bytes()[:-500])
    for path, words in {
        tmp_path / "absent.png": r"absent\.png: no such photo",
        text: r"text\.jpg: not an image",
        tmp_path: "cannot be read as an image",
        truncated: "truncated",
    }.items():
        with pytest.raises(PhotoError, match=words):
            load_photo(path, 20)
