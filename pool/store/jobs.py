"""Jobs in the database: batches and direct requests, and their blocks.

A state changes by compare-and-swap, so that a cancellation and the end of a job cannot both win.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import insert, select, update

from pool.store import schema
from pool.store.closedholds import jobs_to_keep
from pool.store.escrow import job_ref
from shares.money.posting import customer

# States that a job leaves by itself.
UNFINISHED = ("validating", "in_progress", "finalizing", "cancelling")
OVER = ("completed", "failed", "expired", "cancelled")

JobRow = sa.Row[Any]


def add_job(connection: sa.Connection, **values: Any) -> int:
    """Insert a job with these columns of ``schema.job``; returns its number."""
    result = connection.execute(insert(schema.job).values(values))
    (number,) = result.inserted_primary_key or (0,)
    return int(number)


def find_job(connection: sa.Connection, job: int) -> JobRow:
    """All columns of one job. Raises ``NoResultFound`` when there is none."""
    return connection.execute(select(schema.job).where(schema.job.c.id == job)).one()


def find_batch(connection: sa.Connection, account: str, batch: str) -> JobRow | None:
    """The account's batch of this id."""
    table = schema.job
    return connection.execute(
        select(table).where(table.c.batch == batch, table.c.account == account)
    ).one_or_none()


def list_batches(
    connection: sa.Connection, account: str, *, after: int | None, limit: int
) -> list[JobRow]:
    """A page of the account's batches, newest first; ``after`` is a job's number."""
    table = schema.job
    query = select(table).where(table.c.account == account, table.c.batch.is_not(None))
    if after is not None:
        query = query.where(table.c.id < after)
    return list(connection.execute(query.order_by(table.c.id.desc()).limit(limit)))


def unfinished_jobs(connection: sa.Connection) -> list[JobRow]:
    """Every job that is not over, in the order in which they came."""
    table = schema.job
    return list(
        connection.execute(select(table).where(table.c.state.in_(UNFINISHED)).order_by(table.c.id))
    )


def jobs_past(connection: sa.Connection, now: float) -> list[int]:
    """Jobs being worked on whose time is over."""
    table = schema.job
    query = select(table.c.id).where(
        table.c.state == "in_progress", table.c.closed.is_(None), table.c.expires_at <= now
    )
    return list(connection.scalars(query))


def move_job(
    connection: sa.Connection, job: int, states: Iterable[str], state: str, **values: Any
) -> bool:
    """Change a job's state (and other columns) if it is in one of ``states``; whether it was."""
    table = schema.job
    result = connection.execute(
        update(table)
        .where(table.c.id == job, table.c.state.in_(tuple(states)))
        .values(state=state, **values)
    )
    return result.rowcount == 1


def add_blocks(connection: sa.Connection, job: int, blocks: Sequence[tuple[str, int, int]]) -> None:
    """Insert a job's blocks: (object, rows, work), numbered from 0."""
    rows = [
        {"job": job, "no": number, "object": name, "rows": rows, "work": work}
        for number, (name, rows, work) in enumerate(blocks)
    ]
    if rows:
        connection.execute(insert(schema.block), rows)


def blocks_of(connection: sa.Connection, job: int) -> list[str]:
    """The objects of a job's blocks, in order."""
    table = schema.block
    return list(
        connection.scalars(select(table.c.object).where(table.c.job == job).order_by(table.c.no))
    )


def block_sizes(connection: sa.Connection, job: int) -> list[tuple[str, int]]:
    """(object, rows) of a job's blocks, in order."""
    table = schema.block
    rows = connection.execute(
        select(table.c.object, table.c.rows).where(table.c.job == job).order_by(table.c.no)
    )
    return [(row.object, row.rows) for row in rows]


def jobs_by_state(connection: sa.Connection) -> dict[str, int]:
    """How many batches are in each state."""
    table = schema.job
    query = (
        select(table.c.state, sa.func.count())
        .where(table.c.batch.is_not(None))
        .group_by(table.c.state)
    )
    return {state: int(count) for state, count in connection.execute(query)}


def file_sha256(connection: sa.Connection, file: str) -> str:
    """SHA-256 of a file, also of one that was deleted since. Raises ``NoResultFound``."""
    table = schema.file
    return str(connection.execute(select(table.c.sha256).where(table.c.id == file)).scalar_one())


def input_in_use(connection: sa.Connection, file: str) -> bool:
    """Whether a batch that is being validated reads this file."""
    table = schema.job
    query = select(table.c.id).where(table.c.state == "validating", table.c.input_file == file)
    return connection.scalar(query.limit(1)) is not None


def refund_of(connection: sa.Connection, row: JobRow) -> int:
    """Units that a settled job gave back to its customer."""
    if row.settled is None:
        return 0
    table = schema.entry
    amount = connection.scalar(
        select(table.c.amount).where(
            table.c.kind == "completed",
            table.c.ref == job_ref(row.id),
            table.c.account_code == customer(row.account),
        )
    )
    return int(amount or 0)


def old_direct_blocks(connection: sa.Connection, before: float, limit: int) -> list[str]:
    """Objects of the blocks of direct requests that began before then and are over.

    Not while an appeal waits for one, or the operator's word on a share that was excused, or the
    hold of a closed account that covers rows of it.
    """
    job, block, wrong = schema.job, schema.block, schema.refuted.c
    appeal, excuse = schema.appeal.c, schema.excuse.c
    appealed = (
        select(wrong.job)
        .join(schema.appeal, appeal.lease == wrong.lease)
        .where(appeal.outcome.is_(None))
    )
    excused = (
        select(wrong.job)
        .join(schema.excuse, excuse.lease == wrong.lease)
        .where(excuse.outcome.is_(None))
    )
    query = (
        select(block.c.object)
        .join(job, job.c.id == block.c.job)
        .where(job.c.direct, job.c.state.in_(OVER), job.c.created < before)
        .where(job.c.id.not_in(appealed), job.c.id.not_in(excused))
        .where(job.c.id.not_in(jobs_to_keep(connection)))
    )
    return list(connection.scalars(query.limit(limit)))


def forget_blocks(connection: sa.Connection, objects: Sequence[str]) -> None:
    """Their objects are gone."""
    connection.execute(sa.delete(schema.block).where(schema.block.c.object.in_(objects)))
