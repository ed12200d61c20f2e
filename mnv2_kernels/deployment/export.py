"""Saved programs of torch: one file that runs a fused model on any machine."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..bench.accuracy import LARGEST_ERROR, relative_error
from ..dtypes import dtype_name
from ..nn.deploying import deploy
from ..nn.image_bytes import SIDES, ImageLayout, Normalize, table_of
from ..reference import numbers_of

Format = Literal["export", "aoti"]
FORMATS: tuple[Format, ...] = get_args(Format)

SUFFIX = ".pt2"

# Sizes of 0 and 1 are constants to torch.export; a program that was made with 2 images takes any number.
FEWEST_IMAGES = 2

# Other code than operators of torch and of this package is compiled for the processor's architecture, not for
# what this machine's processor has beyond it.
FOR_ANY_PROCESSOR = {"cpp.march": "", "cpp.simdlen": 0}


class WrongProgramError(RuntimeError):
    """A written program that does not compute what its model does."""


def export(
    model: nn.Module,
    path: str | PathLike[str],
    images: Tensor,
    *,
    format: Format = "export",
    any_size: bool = False,
    normalize: Normalize | None = None,
    layout: ImageLayout = "NCHW",
) -> None:
    """Writes a model as a program that any machine runs, each by its best instruction set.

    Args:
        model: in eval mode on the CPU, as ``mnv2_kernels.deploy`` takes it: fused, a FusedMobileNetV2 or a
            QuantizedMobileNetV2.
        path: of the file, which ends in .pt2; one that is there is overwritten.
        images: as the program is to take them, (N, C, H, W), or (N, H, W, C) by ``layout``: of this dtype,
            C, H and W, and any N.
        format: "export" for ``torch.export.load(path).module()``; "aoti" for ``aoti_load_package``, also of
            C++, on processors of this architecture, x86-64 or ARM. Writing it needs a C++ compiler.
        any_size: whether the program takes images of any H and W.
        normalize, layout: of images of bytes, and of any images, as ``mnv2_kernels.deploy`` has them.

    The weights stand in the file as they are. The first call packs them for its machine, once a process.
    Before this returns the file is loaded and compared with the model, which also finds what ``deploy``
    cannot see (docs/fuse.md): equal to the bit, but for what torch itself compiles ("aoti" of a model with
    parts that no operator of this package computes), which has to be within a thousandth of the largest
    result.

    Raises ValueError for a wrong path, format or images, RuntimeError where ``deploy`` does,
    WrongProgramError where the file computes something else, and torch's own errors.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"{path}: expected a name that ends in {SUFFIX}")
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    if not isinstance(images, Tensor) or images.dim() != 4 or images.numel() == 0:
        raise ValueError(f"images: expected (N, C, H, W), got {_shape(images)}")
    deployed = deploy(model, portable=True, normalize=normalize, layout=layout)
    rows, columns = SIDES[layout]
    images = images.repeat(-(-FEWEST_IMAGES // len(images)), 1, 1, 1)
    sizes = dict.fromkeys((0, rows, columns) if any_size else (0,), torch.export.Dim.DYNAMIC)
    with torch.no_grad():
        program = torch.export.export(deployed, (images,), dynamic_shapes=(sizes,))
    if format == "aoti":
        _compile(program, path)
    else:
        torch.export.save(program, path)
    one = images[:1]
    half = images.narrow(rows, 0, -(-images.shape[rows] // 2))
    written = load(path, format)
    for batch in (one, images, half if any_size else one):
        with torch.no_grad():
            expected = model(_as_numbers(batch, model, normalize, layout))
        _check(path, written(batch), expected, exactly=format == "export")


def load(path: str | PathLike[str], format: Format = "export") -> Callable[[Tensor], Tensor]:
    """What a file of ``export`` computes: (N, C, H, W) images to the model's result, without a gradient."""
    if format == "export":
        return torch.export.load(path).module()
    return torch._inductor.aoti_load_package(str(path))


def _shape(images: object) -> str:
    return f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__


def _as_numbers(images: Tensor, model: nn.Module, normalize: Normalize | None, layout: ImageLayout) -> Tensor:
    """What the model itself takes for the program's images."""
    if layout == "NHWC":
        images = images.permute(0, 3, 1, 2)
    if normalize is None:
        return images
    dtype = next(model.parameters()).dtype
    return numbers_of(images, table_of(normalize, images.shape[1]), dtype_name(dtype))


def _compile(program: torch.export.ExportedProgram, path: Path) -> None:
    import torch._inductor.config as config

    if not hasattr(config.cpp, "march"):
        raise ValueError(
            f"format: torch {torch.__version__} compiles for this very processor; 'export' serves any, or "
            "take a newer torch for 'aoti'"
        )
    torch._inductor.aoti_compile_and_package(
        program, package_path=str(path.resolve()), inductor_configs=FOR_ANY_PROCESSOR
    )


def _check(path: Path, found: Any, expected: Tensor, exactly: bool) -> None:
    if torch.allclose(found, expected, rtol=0, atol=0, equal_nan=True):
        return
    error = relative_error(found, expected.double())
    if exactly or not error <= LARGEST_ERROR[dtype_name(expected.dtype)]:
        raise WrongProgramError(f"{path} is wrong: off by {error:.2g} of the model's largest result")
