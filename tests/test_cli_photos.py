from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cli_cases import needs_data, save_photo
from PIL import Image
from torchvision import transforms

from mnv2_kernels.photos import IMAGENET_DEVIATION, IMAGENET_MEAN, PhotoError, load_photo, load_photos
from mnv2_kernels.weights import data_folder

# expected.json gives six decimals, and a deviation that may be the sample's or the population's.
STATISTICS_TOLERANCE = 1e-5


@needs_data
@pytest.mark.parametrize("network", ["imagenet", "dogs"])
def test_tf_inputs_have_the_expected_statistics(network: str) -> None:
    content = json.loads((data_folder() / "expected.json").read_text())
    size = content["models"][network]["input_size"]
    listed = [photo for photo in content["photos"] if network in photo]
    assert listed
    for photo in listed:
        x = load_photo(data_folder() / photo["file"], size, "tf")
        expected = photo[network]["input"]
        assert x.mean().item() == pytest.approx(expected["mean"], abs=STATISTICS_TOLERANCE)
        assert x.std().item() == pytest.approx(expected["std"], abs=STATISTICS_TOLERANCE)
        assert x.mean((1, 2)).tolist() == pytest.approx(expected["channel_means"], abs=STATISTICS_TOLERANCE)


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


@pytest.mark.parametrize("preprocess", ["tf", "torchvision"])
def test_shape_and_type(tmp_path: Path, preprocess: str) -> None:
    x = load_photo(save_photo(tmp_path), 33, preprocess)
    assert (x.shape, x.dtype, x.is_contiguous()) == ((3, 33, 33), torch.float32, True)


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


def test_a_photo_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    orientation, rotated_90 = 0x0112, 6
    upright = Image.open(save_photo(tmp_path))
    exif = Image.Exif()
    exif[orientation] = rotated_90
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "sideways.png", exif=exif)
    assert torch.equal(load_photo(tmp_path / "sideways.png", 20), load_photo(tmp_path / "noise.png", 20))


def test_no_photo(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"absent\.png: no such photo"):
        load_photo(tmp_path / "absent.png", 20)


def test_not_a_photo(tmp_path: Path) -> None:
    path = tmp_path / "text.jpg"
    path.write_text("not an image")
    with pytest.raises(PhotoError, match=r"text\.jpg: not an image"):
        load_photo(path, 20)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="cannot be read as an image"):
        load_photo(tmp_path, 20)


def test_a_truncated_photo(tmp_path: Path) -> None:
    path = save_photo(tmp_path, "noise.jpg")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(PhotoError, match="truncated"):
        load_photo(path, 20)


def test_bad_arguments(tmp_path: Path) -> None:
    path = save_photo(tmp_path)
    with pytest.raises(ValueError, match="size must be at least 1"):
        load_photo(path, 0)
    with pytest.raises(ValueError, match="preprocess must be one of tf, torchvision, got 'caffe'"):
        load_photo(path, 20, "caffe")
