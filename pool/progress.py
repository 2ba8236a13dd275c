"""Progress bars of ``inferpool submit``: on stderr, so that stdout holds facts only."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from pool.customer import Batch


def duration(seconds: float) -> str:
    """``75`` as ``1:15``, an hour and more as ``1:02:03``."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextlib.contextmanager
def upload_bar(name: str, size: int) -> Iterator[Callable[[int], None]]:
    """A bar of bytes; yields a function that is told the bytes sent so far."""
    progress = Progress(
        TextColumn("upload {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with progress:
        task = progress.add_task(name, total=size)
        yield lambda sent: progress.update(task, completed=sent)


@contextlib.contextmanager
def batch_bar(batch: str) -> Iterator[tuple[Callable[[Batch], None], Callable[[str], None]]]:
    """A bar of requests; yields what is told each answer, and what is told of a lost pool."""
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with progress:
        task = progress.add_task(batch, total=None, speed="")

        def seen(found: Batch) -> None:
            counts = found.counts
            progress.update(
                task,
                description=f"{batch} {found.status}",
                total=counts.total or None,
                completed=counts.completed + counts.failed,
                speed=speed(found),
            )

        def lost(why: str) -> None:
            progress.update(task, description=f"{batch} waiting for the pool", speed=why)

        yield seen, lost


def speed(batch: Batch) -> str:
    """Work a second and the time left, as far as the pool knows them."""
    facts = batch.inferpool
    if batch.over or facts is None:
        return ""
    words = []
    if facts.rate:
        words.append(f"{facts.rate:,.0f} work/s")
    if facts.eta is not None:
        words.append(f"{duration(facts.eta)} left")
    return ", ".join(words)
