"""What a batch job reads: folders, globs, lists of paths and Parquet, on any of Arrow's file systems."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import fs, parquet

PARQUET, LIST = ".parquet", ".txt"


class BatchError(ValueError):
    """A batch job that cannot be carried out; the message says why."""


@dataclass(frozen=True)
class Partition:
    """Some images, whose rows make one file: whole files, or a row group of a Parquet file."""

    number: int
    paths: Sequence[str]
    row_group: int | None = None
    column: str = ""

    def batches(self, images: int) -> Iterator[tuple[list[str], list[Any]]]:
        """Names and encoded images, some at a time; an exception in place of what cannot be read."""
        if self.row_group is None:
            for start in range(0, len(self.paths), images):
                chosen = list(self.paths[start : start + images])
                yield chosen, [_read(path) for path in chosen]
            return
        (path,) = self.paths
        system, place = locate(path)
        with system.open_input_file(place) as file:
            row, parts = 0, parquet.ParquetFile(file)
            for batch in parts.iter_batches(images, row_groups=[self.row_group], columns=[self.column]):
                values = _encoded(batch.column(self.column))
                yield [f"{path}#{self.row_group}.{row + index}" for index in range(len(values))], values
                row += len(values)


def locate(address: str) -> tuple[fs.FileSystem, str]:
    """The file system of an address, and the path there; without a scheme that of this machine.

    Raises BatchError where Arrow knows no such file system.
    """
    if "://" not in address:
        return fs.LocalFileSystem(), str(Path(address).absolute())
    try:
        return fs.FileSystem.from_uri(address)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise BatchError(f"{address}: {_first_line(error)}") from error


def partitions(source: str, size: int, column: str) -> list[Partition]:
    """The images of a folder, a glob, a .txt file of paths, a .parquet file, or of a folder of these.

    ``size``: how many files make a partition. ``column``: of encoded images in Parquet, as bytes or as a
    struct with bytes. Raises BatchError where there is no such place, or no image in it.
    """
    try:
        paths = _paths(source)
        if not paths:
            raise BatchError(f"{source}: no files there")
        if all(path.endswith(PARQUET) for path in paths):
            found = [
                Partition(0, (path,), group, column)
                for path in paths
                for group in range(_row_groups(path, column))
            ]
        else:
            found = [Partition(0, tuple(paths[start : start + size])) for start in range(0, len(paths), size)]
    except (pyarrow.ArrowException, OSError) as error:
        raise BatchError(f"{source}: {_first_line(error)}") from error
    return [Partition(number, *_fields(each)) for number, each in enumerate(found)]


def digest(found: Sequence[Partition]) -> str:
    """Tells whether two jobs have the same images in the same partitions."""
    lines = "\n".join(str((each.paths, each.row_group, each.column)) for each in found)
    return hashlib.sha256(lines.encode()).hexdigest()


def _fields(partition: Partition) -> tuple[Sequence[str], int | None, str]:
    return partition.paths, partition.row_group, partition.column


def _paths(source: str) -> list[str]:
    """In the order of names, but for those of a list."""
    system, place = locate(source)
    if any(letter in place for letter in "*?[") and system.get_file_info(place).type == fs.FileType.NotFound:
        return _matching(source, system, place)
    info = system.get_file_info(place)
    if info.type == fs.FileType.NotFound:
        raise BatchError(f"{source}: no such file or folder")
    if info.type == fs.FileType.Directory:
        prefix = source.rstrip("/")
        inside = _files(system, place)
        return [f"{prefix}/{path[len(place.rstrip('/')) + 1 :]}" for path in inside]
    if place.endswith(LIST):
        with system.open_input_file(place) as file:
            lines = file.read().decode("utf-8", "surrogateescape").splitlines()
        return [line for line in lines if line.strip()]
    return [source]


def _files(system: fs.FileSystem, folder: str) -> list[str]:
    """All files below a folder but hidden ones, and those in hidden folders."""
    every = system.get_file_info(fs.FileSelector(folder, recursive=True))
    paths = [info.path for info in every if info.type == fs.FileType.File]
    return sorted(path for path in paths if "/." not in path[len(folder) :])


def _matching(source: str, system: fs.FileSystem, pattern: str) -> list[str]:
    """``*`` and ``?`` match no slash, ``**`` any folders."""
    whole = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    folder = whole.rpartition("/")[0] or "/"
    if system.get_file_info(folder).type != fs.FileType.Directory:
        raise BatchError(f"{source}: no such file or folder")
    parts = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*|\?|\[[^\]]+\])", pattern)
    expression = re.compile(
        "".join(parts.get(each, each if each.startswith("[") else re.escape(each)) for each in pieces)
    )
    prefix = source[: len(source) - len(pattern)] if source.endswith(pattern) else ""
    return [prefix + path for path in _files(system, folder) if expression.fullmatch(path)]


def _row_groups(path: str, column: str) -> int:
    system, place = locate(path)
    with system.open_input_file(place) as file:
        parts = parquet.ParquetFile(file)
        if column not in parts.schema_arrow.names:
            names = ", ".join(parts.schema_arrow.names)
            raise BatchError(f"{path}: no column {column}, but {names}; --column names that of the images")
        kind = parts.schema_arrow.field(column).type
        if pyarrow.types.is_struct(kind):
            kind = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else kind
        if not (pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)):
            raise BatchError(f"{path}: column {column} holds no bytes, but {kind}")
        return parts.num_row_groups


def _encoded(column: pyarrow.Array) -> list[Any]:
    if pyarrow.types.is_struct(column.type):
        column = column.field("bytes")
    return [value if value is not None else b"" for value in column.to_pylist()]


def _read(path: str) -> bytes | Exception:
    try:
        system, place = locate(path)
        with system.open_input_file(place) as file:
            return file.read()
    except (BatchError, pyarrow.ArrowException, OSError, ValueError) as error:
        return error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
