"""Where a job's results are: runs of rows in the result log, for the processes that read them.

A part's record is the values of all its rows, one after the other, then the positions in the part
of the rows that failed (the model gave a value that is not finite), uint32, little-endian.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy import select

from pool.store import schema
from pool.store.database import StoreError
from pool.store.resultlog import LogCorruptError, ResultLog, read_record

CLEARED = ("cleared",)
ACCEPTED = ("accepted", "cleared")


class ResultsError(StoreError):
    """The results of a job are not one for each row: a fault of the pool."""


@dataclass(frozen=True, slots=True)
class ResultRun:
    """Rows ``start:stop`` of a block, found in one part's record of the result log.

    The record is ``size`` bytes at ``offset`` of ``path`` and has ``part_rows`` rows; the run
    begins at the part's row ``first_row``.
    """

    start: int
    stop: int
    path: Path
    offset: int
    size: int
    part_rows: int
    first_row: int


class Gap(NamedTuple):
    """Rows ``start:stop`` of a block that have no result."""

    block: int
    start: int
    stop: int


def iterate_runs(
    connection: sa.Connection,
    log: ResultLog,
    job: int,
    verdicts: Collection[str] = CLEARED,
) -> Iterator[tuple[int, ResultRun]]:
    """(block, run) of every result of a job, by block and start.

    ``verdicts``: of the shares whose results count; ``ACCEPTED`` for results that may still turn
    out wrong. Raises ``ResultsError`` when a row has two.
    """
    won, part, lease = schema.won, schema.part, schema.lease
    rows = connection.execute(
        select(
            won.c.block,
            won.c.start,
            won.c.stop,
            won.c.first_row,
            part.c.log,
            part.c.offset,
            part.c.bytes,
            part.c.rows,
        )
        .join(lease, lease.c.id == won.c.lease)
        .join(part, (part.c.lease == won.c.lease) & (part.c.no == won.c.part))
        .where(won.c.job == job, lease.c.verdict.in_(verdicts))
        .order_by(won.c.block, won.c.start)
    )
    block, end = -1, 0
    for row in rows:
        if row.block != block:
            block, end = row.block, 0
        if row.start < end:
            raise ResultsError(f"job {job}, block {block}: rows from {row.start} have two results")
        end = row.stop
        yield (
            block,
            ResultRun(
                start=row.start,
                stop=row.stop,
                path=log.path(row.log),
                offset=row.offset,
                size=row.bytes,
                part_rows=row.rows,
                first_row=row.first_row,
            ),
        )


def result_runs(
    connection: sa.Connection,
    log: ResultLog,
    job: int,
    verdicts: Collection[str] = CLEARED,
) -> dict[int, list[ResultRun]]:
    """All runs of a job by block, as ``iterate_runs`` has them."""
    found: dict[int, list[ResultRun]] = defaultdict(list)
    for block, run in iterate_runs(connection, log, job, verdicts):
        found[block].append(run)
    return dict(found)


def missing_rows(
    connection: sa.Connection, job: int, runs: Mapping[int, Sequence[ResultRun]]
) -> list[Gap]:
    """The rows of a job that ``runs`` do not cover."""
    block = schema.block
    gaps = []
    for row in connection.execute(
        select(block.c.no, block.c.rows).where(block.c.job == job).order_by(block.c.no)
    ):
        end = 0
        for run in runs.get(row.no, ()):
            if run.start > end:
                gaps.append(Gap(row.no, end, run.start))
            end = run.stop
        if end < row.rows:
            gaps.append(Gap(row.no, end, row.rows))
    return gaps


def read_part(run: ResultRun, row_bytes: int) -> tuple[memoryview, frozenset[int]]:
    """Read the part that holds a run, from its path alone.

    Returns the values of all its rows (``part_rows`` times ``row_bytes`` bytes) and the positions
    in the part of failed rows. Raises ``LogCorruptError`` when the record is damaged.
    """
    descriptor = os.open(run.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        record = read_record(descriptor, run.path, run.offset, run.size)
    finally:
        os.close(descriptor)
    values = run.part_rows * row_bytes
    if len(record) < values or (len(record) - values) % 4:
        raise LogCorruptError(
            f"{run.path}: the record at offset {run.offset} does not hold {run.part_rows} rows "
            f"of {row_bytes} bytes"
        )
    failed = np.frombuffer(record, dtype="<u4", offset=values)
    return memoryview(record)[:values], frozenset(failed.tolist())
