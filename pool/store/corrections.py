"""Corrections: delivered rows that the referee found wrong afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select

from pool.store import schema


@dataclass(frozen=True, slots=True)
class Correction:
    """A row of a block whose delivered result was wrong. ``given``, ``expected``: digests."""

    block: int
    row: int
    given: bytes
    expected: bytes
    at: float


def corrections_of(connection: sa.Connection, job: int) -> list[Correction]:
    """Those of a job, as they were found."""
    refuted = schema.refuted.c
    rows = connection.execute(
        _delivered_false(refuted.block, refuted.row, refuted.given, refuted.expected, refuted.at)
        .where(refuted.job == job)
        .order_by(refuted.at, refuted.block, refuted.row)
    )
    return [Correction(*row) for row in rows]


def correction_count(connection: sa.Connection, job: int) -> int:
    """How many a job has."""
    counted = _delivered_false(func.count()).where(schema.refuted.c.job == job)
    return int(connection.scalar(counted) or 0)


def corrected_jobs(connection: sa.Connection) -> dict[int, int]:
    """{job with a webhook: how many corrections it has}."""
    job, refuted = schema.job.c, schema.refuted.c
    rows = connection.execute(
        _delivered_false(refuted.job, func.count())
        .join(schema.job, job.id == refuted.job)
        .where(job.webhook.is_not(None))
        .group_by(refuted.job)
    )
    return {number: int(count) for number, count in rows}


def unrefunded_corrections() -> sa.Select[Any]:
    """(job, lease, block, row, units) of corrections that settlement has not seen.

    A row's units are its share's ordinary row at the job's price.
    """
    refuted, lease, job = schema.refuted.c, schema.lease.c, schema.job.c
    units = (lease.work // lease.rows * job.price).label("units")
    return (
        _delivered_false(refuted.job, refuted.lease, refuted.block, refuted.row, units)
        .join(schema.job, job.id == refuted.job)
        .where(~refuted.refunded)
    )


def _delivered_false(*columns: Any) -> sa.Select[Any]:
    """Refuted rows of shares that stay cleared, but for those whose appeal was won."""
    refuted, lease, appeal = schema.refuted, schema.lease, schema.appeal
    return (
        select(*columns)
        .select_from(refuted)
        .join(lease, lease.c.id == refuted.c.lease)
        .join(appeal, appeal.c.lease == refuted.c.lease, isouter=True)
        .where(lease.c.verdict == "cleared", appeal.c.outcome.is_distinct_from("overturned"))
    )
