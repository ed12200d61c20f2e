"""Models that others build: by name from timm, torchvision and transformers, or by a function in a file."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from .checkpoints import WeightsError
from .photos import Preprocess, photo_tensor
from .settings import Settings
from .sources import downloading

INSTALL = "pip install 'mnv2-kernels[zoo]'"

# Makes an RGB photograph the float32 image (3, height, width) that a model takes.
Recipe = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Built:
    """A model in eval mode, and what its library says of it.

    ``size``: height and width of its images; ``recipe_for`` another, maybe. ``labels``: of its classes in
    order, none where nobody says. ``is_random``: its weights are its library's random ones.
    """

    model: nn.Module
    size: int
    recipe_for: Callable[[int], Recipe]
    labels: tuple[str, ...] = ()
    is_random: bool = True


def build(source: str, pretrained: bool) -> Built:
    """The model that a source names.

    Args:
        source: ``timm:NAME``, ``torchvision:NAME``, ``transformers:NAME`` (a type of model such as
            mobilenet_v2, a configuration's file or folder, or a name on the Hub), ``FILE.py:function``.
        pretrained: with the weights that its library publishes, downloaded once.

    Raises WeightsError where the source is none of these, its library is missing, does not know the name or
    fails, or the function returns no module.
    """
    library, colon, name = source.rpartition(":")
    is_file = Path(library).suffix == ".py"
    if not colon or not name or not (is_file or library in LIBRARIES):
        forms = ", ".join((*(f"{each}:NAME" for each in LIBRARIES), "FILE.py:function"))
        raise WeightsError(f"--model {source}: expected one of {forms}")
    if is_file:
        if pretrained:
            raise WeightsError(f"--pretrained: nobody publishes weights of {source}; --weights loads a file")
        return _from_file(Path(library), name)
    try:
        return LIBRARIES[library](name, pretrained)
    except ModuleNotFoundError as error:
        missing = (error.name or library).partition(".")[0]
        raise WeightsError(f"{source}: {missing} is not installed; {INSTALL}") from error


def own_recipe(preprocess: Preprocess, size: int) -> Recipe:
    """One of this package's."""
    return partial(photo_tensor, size=size, preprocess=preprocess)


AS_IMAGENET = partial(own_recipe, "torchvision")


def _timm(name: str, pretrained: bool) -> Built:
    timm = import_module("timm")
    _check_known(f"timm:{name}", name.partition(".")[0], timm.list_models())
    with _failing(f"timm:{name}", pretrained):
        model = timm.create_model(name, pretrained=pretrained)
    config = timm.data.resolve_model_data_config(model)
    subset = timm.data.infer_imagenet_subset(model)
    info = timm.data.ImageNetInfo(subset) if subset else None
    labels = map(info.index_to_description, range(info.num_classes())) if info else ()

    def recipe_for(size: int) -> Recipe:
        return timm.data.create_transform(**{**config, "input_size": (3, size, size)}, is_training=False)

    return Built(model.eval(), config["input_size"][-1], recipe_for, tuple(labels), not pretrained)


def _torchvision(name: str, pretrained: bool) -> Built:
    models = import_module("torchvision.models")
    _check_known(f"torchvision:{name}", name, models.list_models())
    published = models.get_model_weights(name).DEFAULT
    options = {"weights": published if pretrained else None}
    # Detectors and segmenters would else download their backbone's weights.
    if not pretrained and "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        options["weights_backbone"] = None
    with _failing(f"torchvision:{name}", pretrained):
        model = models.get_model(name, **options)
    transform = published.transforms()
    if not hasattr(transform, "crop_size"):  # no classifier
        return Built(model.eval(), Settings.size, AS_IMAGENET, is_random=not pretrained)
    own, resized = transform.crop_size[0], transform.resize_size[0]

    def recipe_for(size: int) -> Recipe:
        return published.transforms(crop_size=size, resize_size=round(resized * size / own))

    return Built(model.eval(), own, recipe_for, tuple(published.meta["categories"]), not pretrained)


def _transformers(name: str, pretrained: bool) -> Built:
    transformers = import_module("transformers")
    source = f"transformers:{name}"
    is_type, is_local = name in transformers.CONFIG_MAPPING, Path(name).exists()
    if not (is_type or is_local or pretrained):
        raise WeightsError(
            f"{source}: neither a type of model nor a file or folder of a configuration; a name on the Hub "
            "needs --pretrained, which downloads it"
        )
    if is_type and pretrained:
        raise WeightsError(f"{source}: a type of model has no weights; --pretrained needs a name on the Hub")
    make = transformers.AutoModelForImageClassification
    with _failing(source, pretrained):
        if pretrained:
            model = make.from_pretrained(name)
        else:
            config = transformers.AutoConfig
            model = make.from_config(config.for_model(name) if is_type else config.from_pretrained(name))
    size, recipe_for = getattr(model.config, "image_size", Settings.size), AS_IMAGENET
    if pretrained or (Path(name) / "preprocessor_config.json").is_file():
        with _failing(source, pretrained):
            recipe_for = partial(_processed, transformers.AutoImageProcessor.from_pretrained(name), size)
    labels = tuple(label for _, label in sorted(model.config.id2label.items()))
    return Built(model.eval(), size, recipe_for, labels, not pretrained)


def _processed(processor: Any, own: int, size: int) -> Recipe:
    """By a processor of transformers, whose sizes are those of images of ``own`` pixels."""
    sizes = {
        name: {side: round(length * size / own) for side, length in dict(value).items() if length is not None}
        for name in ("size", "crop_size")
        if (value := getattr(processor, name, None))
    }
    return lambda image: processor(image, return_tensors="pt", **sizes)["pixel_values"][0]


def _from_file(path: Path, name: str) -> Built:
    source = f"{path}:{name}"
    if not path.is_file():
        raise WeightsError(f"{source}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # it ends with .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # As Python runs a script: it may import what lies beside it, and a class of it is found by its name.
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules.setdefault(path.stem, module)
    with _failing(source, False):
        spec.loader.exec_module(module)
        make = getattr(module, name, None)
        if not callable(make):
            raise TypeError(f"it has no function {name}")
        model = make()
        if not isinstance(model, nn.Module):
            raise TypeError(f"{name}() returns a {type(model).__name__}, not a torch.nn.Module")
    return Built(model.eval(), Settings.size, AS_IMAGENET, is_random=False)


@contextmanager
def _failing(source: str, pretrained: bool) -> Iterator[None]:
    """Whatever a library or a file fails with, in one line."""
    try:
        with downloading():
            yield
    except Exception as error:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        what = "its published weights cannot be had" if pretrained else "it cannot be built"
        raise WeightsError(f"{source}: {what} ({reason})") from error


def _check_known(source: str, name: str, known: Iterable[str]) -> None:
    if name not in (names := set(known)):
        near = get_close_matches(name, names)
        advice = f"; near it: {', '.join(near)}" if near else ""
        raise WeightsError(f"{source}: its library has no such model{advice}")


LIBRARIES: dict[str, Callable[[str, bool], Built]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "transformers": _transformers,
}
