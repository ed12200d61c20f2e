"""Random views of photographs, to calibrate a quantised network and to see what it keeps.

A few photographs say little of a network's activations; crops in other colours say more.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from .photos import Preprocess, channels_first, load_photo_bytes, open_photo

# Packages whose data are photographs; their other images are drawings, textures and scans.
PACKAGED = {
    "skimage": ("data", ("astronaut", "camera", "chelsea", "coffee", "coins", "motorcycle_left", "rocket")),
    "sklearn": ("datasets/images", ("china", "flower")),
}
PACKAGES = "scikit-image, scikit-learn"

# Share of an image's area, width by height, and factors of brightness, contrast and colour of a view.
AREA, ASPECT, ENHANCED = (0.35, 1.0), (0.75, 1.33), (0.75, 1.3)


def packaged_photos() -> Iterator[Path]:
    """The photographs of scikit-image and scikit-learn, as far as they are installed."""
    for package, (folder, names) in PACKAGED.items():
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            files = (Path(place) / folder).iterdir()
            yield from sorted(path for path in files if path.stem in names)


def photos_of(folder: Path) -> list[Path]:
    """Every image file below a folder, by the suffixes that Pillow knows."""
    known = Image.registered_extensions()
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in known)


def whole_and_views(photos: Sequence[Path], size: int, preprocess: Preprocess, count: int) -> Tensor:
    """Up to ``count`` photographs as a network takes them, and random views to make up for fewer.

    uint8 (count, 3, size, size). Where there are more photographs, they are taken at even distances. Raises
    PhotoError where one cannot be read.
    """
    chosen = [photos[index * len(photos) // count] for index in range(count)]
    chosen = list(dict.fromkeys(chosen))
    whole = torch.stack([load_photo_bytes(photo, size, preprocess) for photo in chosen])
    missing = count - len(chosen)
    return torch.cat([whole, random_views(photos, size, missing, seed=0)]) if missing else whole


def random_views(photos: Sequence[Path], size: int, count: int, seed: int) -> Tensor:
    """As many views of every photograph as make ``count`` in all, in random order.

    uint8 (count, 3, size, size). Raises PhotoError where a photograph cannot be read.
    """
    generator, views = random.Random(seed), []
    for photo in photos:
        image = open_photo(photo)
        for _ in range(math.ceil(count / len(photos))):
            views.append(channels_first(_view(image, size, generator)))
    generator.shuffle(views)
    return torch.stack(views[:count])


def _view(image: Image.Image, size: int, generator: random.Random) -> Image.Image:
    """A random crop, mirrored half the time, with brightness, contrast and colour moved."""
    area = generator.uniform(*AREA) * image.width * image.height
    aspect = generator.uniform(*ASPECT)
    width, height = (max(int(side**0.5), 1) for side in (area * aspect, area / aspect))
    width, height = min(image.width, width), min(image.height, height)
    left, top = generator.randint(0, image.width - width), generator.randint(0, image.height - height)
    box = (left, top, left + width, top + height)
    view = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    if generator.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        view = enhance(view).enhance(generator.uniform(*ENHANCED))
    return view
