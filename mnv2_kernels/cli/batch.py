"""`mnv2 batch`: the command's options, progress and result; mnv2_kernels/batch does the work."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..weights.checkpoints import WeightsError
from .tables import count, facts_table, spaced

NEEDED = ("ray", "pyarrow")


def run_batch(source: str, output: str, **options: Any) -> Any:
    """As batch.run.classify_all, with a progress bar on stderr.

    Raises WeightsError where Ray is missing, or there is nothing to do what is asked with.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise WeightsError(f"mnv2 batch needs {' and '.join(missing)}: pip install 'mnv2-kernels[ray]'")
    from ..batch.inputs import BatchError
    from ..batch.run import classify_all

    try:
        with _progress() as show:
            return classify_all(source, output, progress=show, **options)
    except BatchError as error:
        raise WeightsError(str(error)) from error


@contextmanager
def _progress() -> Iterator[Any]:
    """A bar that appears with the first partition that is known."""
    columns = (TextColumn("partitions"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task("partitions")

    def show(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        if bar.live.is_started:  # else it would print an empty line
            bar.stop()


def summary(result: Any) -> RenderableType:
    """What was written, and what took the time."""
    seconds = {
        "reading": result.reading_s,
        "decoding": result.decoding_s,
        "the network": result.computing_s,
    }
    shares = ", ".join(
        f"{name} {each / result.working_s:.0%}" for name, each in seconds.items() if result.images
    )
    facts = {
        "rows": f"{count(result.images, 'image')}, {count(result.errors, 'error')}",
        "files": f"{count(result.partitions, 'partition')} in {result.output}, {result.found_partitions} "
        "of them found there",
        "speed": f"{result.images_per_s:.1f} images/s, {count(result.workers, 'worker')}; "
        f"{result.seconds:.0f} s with Ray's start",
        "workers": shares or "nothing was left to do",
    }
    return spaced(facts_table(facts))
