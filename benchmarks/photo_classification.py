"""Images a second from encoded photographs to logits, with and without a copy of each image in floats.

python benchmarks/photo_classification.py FOLDER    # of photographs; one thread, one image at a time
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mnv2_kernels import FusedMobileNetV2
from mnv2_kernels.nn.image_bytes import IMAGENET
from mnv2_kernels.timing import interleaved_times
from mnv2_kernels.weights.photos import load_photo_bytes

SIZE = 224
ROUNDS = 30

Step = Callable[[], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    photos = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    model = FusedMobileNetV2().eval()
    reads_bytes, reads_floats = model.deploy(normalize="imagenet"), model.deploy()
    seconds: dict[str, float] = {}
    for photo in photos:
        image = decoded(photo)
        floats = normalised(image)
        steps: dict[str, Step] = {
            "bytes: classified": lambda image=image: reads_bytes(image),
            "floats: classified": lambda floats=floats: reads_floats(floats),
            "floats: normalised, classified": lambda image=image: reads_floats(normalised(image)),
            "bytes: decoded, resized, classified": lambda photo=photo: reads_bytes(decoded(photo)),
            "floats: decoded, resized, normalised, classified": lambda photo=photo: reads_floats(
                normalised(decoded(photo))
            ),
        }
        assert all(torch.equal(step(), reads_floats(floats)) for step in steps.values())
        for name, times in interleaved_times(steps, options.rounds).items():
            seconds[name] = seconds.get(name, 0.0) + min(times) / 1e3
    print(f"{len(photos)} photographs, each step's least time of {options.rounds}\n")
    print("| | ms an image | images a second |\n|---|---|---|")
    for name, total in seconds.items():
        print(f"| {name} | {total / len(photos) * 1e3:.2f} | {len(photos) / total:.1f} |")


def decoded(photo: Path) -> Tensor:
    return load_photo_bytes(photo, SIZE, "torchvision")[None]


def normalised(images: Tensor) -> Tensor:
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    return (images / 255 - mean) / deviation


if __name__ == "__main__":
    main()
