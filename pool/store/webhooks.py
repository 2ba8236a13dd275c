"""What is to be told to customers, and how far it has come."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import func, insert, select, update

from pool.store import schema
from pool.store.corrections import corrected_jobs
from pool.store.jobs import OVER

# Seconds until each further attempt; after the last one an event is given up.
PAUSES = (5.0, 30.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0)


@dataclass(frozen=True, slots=True)
class Event:
    """An event to be sent now."""

    id: str
    account: str
    url: str
    body: bytes
    attempts: int


def has_news(connection: sa.Connection) -> bool:
    """Whether ``write_events`` would find something."""
    return bool(_ended(connection) or _corrected(connection))


def write_events(connection: sa.Connection, at: float) -> None:
    """Make the events of what happened to batches with a webhook."""
    job = schema.job
    for row in _ended(connection):
        _add(connection, row.id, f"batch.{row.state}", {"id": row.batch}, at)
        connection.execute(update(job).where(job.c.id == row.id).values(webhook_told=True))
    for number, batch, count in _corrected(connection):
        data = {"id": batch, "corrections": count}
        _add(connection, number, "batch.corrected", data, at)
        connection.execute(update(job).where(job.c.id == number).values(corrections_told=count))


def _ended(connection: sa.Connection) -> list[sa.Row[Any]]:
    job = schema.job.c
    return list(
        connection.execute(
            select(job.id, job.batch, job.state).where(
                job.webhook.is_not(None), ~job.webhook_told, job.state.in_(OVER)
            )
        )
    )


def _corrected(connection: sa.Connection) -> list[tuple[int, str, int]]:
    """(job, batch, corrections) of those that have more than their customers know."""
    job = schema.job.c
    found = []
    for number, count in corrected_jobs(connection).items():
        row = connection.execute(
            select(job.batch, job.corrections_told).where(job.id == number)
        ).one()
        if count > row.corrections_told:
            found.append((number, row.batch, count))
    return found


def _add(connection: sa.Connection, job: int, kind: str, data: dict[str, Any], at: float) -> None:
    name = f"evt_{secrets.token_hex(16)}"
    body = {"id": name, "object": "event", "type": kind, "created_at": int(at), "data": data}
    connection.execute(
        insert(schema.webhook_event).values(
            id=name, job=job, type=kind, created=at, body=msgspec.json.encode(body), next_at=at
        )
    )


def due_events(connection: sa.Connection, at: float, of_each: int, limit: int) -> list[Event]:
    """Those whose time has come, the longest waiting first: ``of_each`` account's at most, so that
    none takes the turns of the others."""
    event, job = schema.webhook_event.c, schema.job.c
    place = func.row_number().over(partition_by=job.account, order_by=event.next_at)
    due = (
        select(event.id, job.account, job.webhook, event.body, event.attempts, event.next_at)
        .add_columns(place.label("place"))
        .join(schema.job, job.id == event.job)
        .where(event.next_at <= at)
        .subquery()
    )
    rows = connection.execute(
        select(due.c.id, due.c.account, due.c.webhook, due.c.body, due.c.attempts)
        .where(due.c.place <= of_each)
        .order_by(due.c.place, due.c.next_at)
        .limit(limit)
    )
    return [Event(*row) for row in rows]


def note_attempt(connection: sa.Connection, event: Event, problem: str | None, at: float) -> None:
    """An attempt ended: well (``problem`` is ``None``), or to be repeated, or for the last time."""
    table = schema.webhook_event
    values: dict[str, Any] = {"attempts": event.attempts + 1, "problem": problem}
    if problem is None:
        values |= {"delivered": at, "next_at": None}
    elif event.attempts < len(PAUSES):
        values["next_at"] = at + PAUSES[event.attempts]
    else:
        values["next_at"] = None
    connection.execute(update(table).where(table.c.id == event.id).values(values))
