"""A batch job on Ray Data: every partition of the images becomes one Parquet file, once.

A partition's file appears whole or not at all, and a job that is started again leaves those that are there.
What a job computes stands in ``job.json`` beside them, so that rows of two jobs never mix.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import torch
from pyarrow import fs, parquet

from .. import _native
from .classifier import Classifier
from .inputs import BatchError, Partition, digest, locate, partitions

JOB = "job.json"
# Nothing is reported to Ray's makers. Its core warns of every pool of workers that Ray Data itself starts.
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}

# Files that a worker holds at a time.
IMAGES = 32

SCHEMA = pyarrow.schema(
    [
        ("path", pyarrow.string()),
        ("class", pyarrow.int64()),
        ("label", pyarrow.string()),
        (
            "top",
            pyarrow.list_(
                pyarrow.struct(
                    [
                        ("class", pyarrow.int64()),
                        ("label", pyarrow.string()),
                        ("probability", pyarrow.float32()),
                    ]
                )
            ),
        ),
        ("error", pyarrow.string()),
    ]
)


@dataclass(frozen=True)
class Done:
    """What a partition took, in seconds of one worker, which has a name."""

    worker: str
    rows: int
    errors: int
    reading_s: float
    decoding_s: float
    computing_s: float


@dataclass(frozen=True)
class Summary:
    """Everything `mnv2 batch` shows.

    ``found_partitions`` of all ``partitions`` were there; the rest is of this run: ``images``, ``errors``
    among them, ``workers`` that had something to do, ``seconds`` with Ray's start, and all workers' seconds.
    """

    output: str
    partitions: int
    found_partitions: int
    images: int
    errors: int
    workers: int
    seconds: float
    reading_s: float
    decoding_s: float
    computing_s: float

    @property
    def working_s(self) -> float:
        """Of all workers together."""
        return self.reading_s + self.decoding_s + self.computing_s

    @property
    def images_per_s(self) -> float:
        """While the workers run, without Ray's start; 0 where nothing was left to do."""
        return self.images * self.workers / self.working_s if self.images else 0.0

    @property
    def decoding_share(self) -> float:
        """Of the workers' time."""
        return self.decoding_s / self.working_s if self.images else 0.0

    def as_json(self) -> dict[str, object]:
        """A dictionary that json can write."""
        rates = {"images_per_s": self.images_per_s, "decoding_share": self.decoding_share}
        return {**asdict(self), **rates}


@dataclass(frozen=True)
class Job:
    """Images, where their rows go, and the Classifier's arguments."""

    partitions: Sequence[Partition]
    output: str
    network: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """What has to be the same for rows of the same bits."""
        files = [
            Path(part)
            for value in self.network.values()
            if isinstance(value, str)
            for part in (value, value.rpartition(":")[0])  # FILE.py:function
        ]
        return {
            "network": self.network,
            "files": {
                str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()
            },
            "images": digest(self.partitions),
            "isa": _native.selected_isa(),
        }


def file_of(output: str, number: int) -> str:
    """Where the rows of a partition go."""
    return f"{output.rstrip('/')}/part-{number:06}.parquet"


def classify_all(
    source: str,
    output: str,
    *,
    network: dict[str, Any],
    address: str = "local",
    workers: int | None = None,
    partition: int = 256,
    column: str = "image",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Classifies all images of a place that no finished partition has.

    Args:
        source, partition, column: as ``inputs.partitions`` takes them.
        output: a folder, on any of Arrow's file systems.
        network: arguments of Classifier, with which every worker loads the network.
        address: Ray's: ``local`` starts a cluster on this machine, ``auto`` and ``ray://...`` find one.
        workers: one core each; all cores where None.
        progress: called with how many partitions are done, and how many there are.

    Raises BatchError where there is nothing to read or the output is another job's, WeightsError where the
    network cannot be loaded.
    """
    Classifier(**network)  # says in one line what would else fail in every worker
    job = Job(partitions(source, partition, column), output, network)
    todo = _unfinished(job)
    found, total = len(job.partitions) - len(todo), len(job.partitions)
    began, done = time.perf_counter(), []
    progress(found, total)
    for each in _run(job, todo, address, workers) if todo else ():
        done.append(each)
        progress(found + len(done), total)
    return Summary(
        output=output,
        partitions=total,
        found_partitions=found,
        images=sum(each.rows for each in done),
        errors=sum(each.errors for each in done),
        workers=len({each.worker for each in done}),
        seconds=time.perf_counter() - began,
        reading_s=sum(each.reading_s for each in done),
        decoding_s=sum(each.decoding_s for each in done),
        computing_s=sum(each.computing_s for each in done),
    )


def _unfinished(job: Job) -> list[Partition]:
    """Checks that the output is this job's, or claims it."""
    system, folder = locate(job.output)
    try:
        system.create_dir(folder, recursive=True)
        inside = {info.base_name for info in system.get_file_info(fs.FileSelector(folder))}
        described = json.dumps(job.describe(), indent=2)
        if JOB in inside:
            with system.open_input_file(f"{folder}/{JOB}") as file:
                if file.read().decode() != described:
                    raise BatchError(f"{job.output}: it has rows of another job; see {JOB} there")
        elif inside:
            raise BatchError(f"{job.output}: not empty, and without a {JOB}")
        else:
            _write(system, f"{folder}/{JOB}", lambda stream: stream.write(described.encode()))
    except (pyarrow.ArrowException, OSError) as error:
        raise BatchError(f"{job.output}: {error}") from error
    return [each for each in job.partitions if Path(file_of(job.output, each.number)).name not in inside]


def _write(system: fs.FileSystem, path: str, write: Callable[[Any], object]) -> None:
    """Whole or not at all."""
    folder, _, name = path.rpartition("/")
    draft = f"{folder}/.{name}.{uuid.uuid4().hex}"
    with system.open_output_stream(draft) as stream:
        write(stream)
    system.move(draft, path)


def _run(job: Job, todo: Sequence[Partition], address: str, workers: int | None) -> Iterator[Done]:
    """What each partition took, as they are done."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray
    from ray import data

    logging.getLogger("ray.data").setLevel(logging.ERROR)

    started_here = not ray.is_initialized()
    if started_here:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        workers = min(workers, len(todo))
        items = [{"partition": json.dumps(asdict(each))} for each in todo]
        rows = data.from_items(items, override_num_blocks=len(todo))
        results = rows.map_batches(
            Worker,
            fn_constructor_args=(job.output, job.network),
            batch_size=1,
            num_cpus=1,
            compute=data.ActorPoolStrategy(size=workers),
        )
        for row in results.iter_rows():
            yield Done(**row)
    except ray.exceptions.RayError as error:
        raise BatchError(f"a worker failed: {(str(error).strip().splitlines() or [''])[-1]}") from error
    finally:
        if started_here:
            ray.shutdown()


class Worker:
    """One core's: makes partitions to files."""

    def __init__(self, output: str, network: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        self._output = output
        self._name = uuid.uuid4().hex
        self._classifier = Classifier(**network)

    def __call__(self, batch: dict[str, numpy.ndarray]) -> dict[str, list[Any]]:
        done = [self._classified(Partition(**json.loads(text))) for text in batch["partition"]]
        return {name: [getattr(each, name) for each in done] for name in Done.__dataclass_fields__}

    def _classified(self, partition: Partition) -> Done:
        classifier, tables = self._classifier, []
        classifier.decoding_s = classifier.computing_s = 0.0
        began = time.perf_counter()
        for paths, images in partition.batches(IMAGES):
            tables.append(_rows(paths, images, classifier))
        took = time.perf_counter() - began
        table = pyarrow.concat_tables(tables) if tables else SCHEMA.empty_table()
        system, path = locate(file_of(self._output, partition.number))
        _write(system, path, lambda stream: parquet.write_table(table, stream))
        return Done(
            worker=self._name,
            rows=len(table),
            errors=len(table) - table["error"].null_count,
            reading_s=took - classifier.decoding_s - classifier.computing_s,
            decoding_s=classifier.decoding_s,
            computing_s=classifier.computing_s,
        )


def _rows(paths: Sequence[str], images: Sequence[Any], classifier: Classifier) -> pyarrow.Table:
    found = classifier([b"" if isinstance(each, Exception) else each for each in images])
    unread = {index: str(each) for index, each in enumerate(images) if isinstance(each, Exception)}
    errors = [unread.get(index, error) or None for index, error in enumerate(found["error"])]
    failed = numpy.array([error is not None for error in errors])
    tops = zip(found["top_class"], found["top_label"], found["top_probability"], strict=True)
    top = [
        None
        if error
        else [
            {"class": index, "label": label, "probability": probability}
            for index, label, probability in zip(*each, strict=True)
        ]
        for error, each in zip(errors, tops, strict=True)
    ]
    columns = [
        pyarrow.array([_utf8(path) for path in paths], SCHEMA.field("path").type),
        pyarrow.array(found["class"], mask=failed),
        pyarrow.array(found["label"], SCHEMA.field("label").type, mask=failed),
        pyarrow.array(top, SCHEMA.field("top").type),
        pyarrow.array([error and _utf8(error) for error in errors], SCHEMA.field("error").type),
    ]
    return pyarrow.Table.from_arrays(columns, schema=SCHEMA)


def _utf8(text: str) -> str:
    """File names may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()
