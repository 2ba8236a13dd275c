"""Quarantines: kinds of devices that the operator keeps from a model."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import delete, select

from pool.store import schema
from pool.store.database import Database, upsert


@dataclass(frozen=True, slots=True)
class Quarantine:
    """``kind`` as rigs name their devices; ``model`` as customers write it."""

    kind: str
    model: str
    since: float
    why: str


class QuarantineError(ValueError):
    """There is no such quarantine; says what to do."""


def quarantine(
    database: Database, kind: str, *, digest: str, model: str, why: str, at: float
) -> None:
    """Keep devices of a kind from the model of this digest and name; again changes why."""
    row = {"kind": kind, "model": digest, "name": model, "since": at, "why": why}
    with database.write() as connection:
        upsert(connection, schema.quarantine, [row])


def lift(database: Database, kind: str, model: str) -> None:
    """End a quarantine. Raises ``QuarantineError``."""
    table = schema.quarantine
    with database.write() as connection:
        gone = connection.execute(
            delete(table).where(table.c.kind == kind, table.c.name == model)
        ).rowcount
    if not gone:
        raise QuarantineError(
            f"{kind!r} is in no quarantine for {model!r}: see inferpool quarantine list"
        )


def quarantines(connection: sa.Connection) -> list[Quarantine]:
    """All that there are, oldest first."""
    q = schema.quarantine.c
    rows = connection.execute(select(q.kind, q.name, q.since, q.why).order_by(q.since, q.kind))
    return [Quarantine(*row) for row in rows]


def quarantined_kinds(connection: sa.Connection) -> frozenset[tuple[str, str]]:
    """As the board wants them: (model's digest, kind)."""
    q = schema.quarantine.c
    return frozenset((row.model, row.kind) for row in connection.execute(select(q.model, q.kind)))
