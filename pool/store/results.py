"""Where a job's results are: runs of rows in the result log, for the processes that read them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import select

from pool.store import schema
from pool.store.commit import unpack_segments
from pool.store.database import StoreError
from pool.store.resultlog import LogCorruptError, ResultLog, read_record
from shares.blocks import pieces
from shares.results import RowResult, row_of, split_record

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
    try:
        return split_record(record, run.part_rows, row_bytes)
    except ValueError as error:
        raise LogCorruptError(f"{run.path}: the record at offset {run.offset}: {error}") from None


def result_of(
    connection: sa.Connection,
    read: Callable[[int, int, int], bytes],
    lease: int,
    key: tuple[int, int, int],
    row_bytes: int,
) -> RowResult:
    """What a share gave of a row (job, block, row), whatever became of the share.

    ``read`` (log, offset, size) is the result log's. Raises ``ResultsError`` when it gave nothing,
    ``LogCorruptError`` when the record is damaged.
    """
    job, block, row = key
    part = schema.part.c
    packed = connection.scalar(select(schema.lease.c.segments).where(schema.lease.c.id == lease))
    segments = unpack_segments(packed) if packed is not None else ()
    for segment, start, stop, share_row in pieces(segments, 0, sum(s.rows for s in segments)):
        if (segment.job, segment.block) != (job, block) or not start <= row < stop:
            continue
        place = share_row + row - start
        found = connection.execute(
            select(part.log, part.offset, part.bytes, part.rows, part.first_row)
            .where(part.lease == lease, part.first_row <= place)
            .order_by(part.first_row.desc())
            .limit(1)
        ).first()
        if found is not None and place < found.first_row + found.rows:
            record = read(found.log, found.offset, found.bytes)
            try:
                return row_of(record, found.rows, row_bytes, place - found.first_row)
            except ValueError as error:
                raise LogCorruptError(f"part of lease {lease}: {error}") from None
    raise ResultsError(f"lease {lease} gave no result of row {row} of block {block} of job {job}")
