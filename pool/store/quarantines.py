"""Quarantines: kinds of devices that are kept from a model, and wrong rows put down to them."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import delete, select, update

from pool.store import schema
from pool.store.database import Database, upsert

DECISIONS = ("innocent", "guilty")


@dataclass(frozen=True, slots=True)
class Quarantine:
    """``kind`` as rigs name their devices; ``model``: its digest."""

    kind: str
    model: str
    since: float
    why: str


@dataclass(frozen=True, slots=True)
class Excuse:
    """A share with wrong ``rows`` that were put down to a kind of device.

    ``decision``: what the operator said of it, if anything.
    """

    lease: int
    account: str
    rig: str
    model: str
    kind: str
    rows: int
    price: int
    at: float
    decision: str | None


class QuarantineError(ValueError):
    """There is no such quarantine; says what to do."""


def quarantine(database: Database, kind: str, *, model: str, why: str, at: float) -> None:
    """Keep devices of a kind from the model of this digest; again changes why."""
    row = {"kind": kind, "model": model, "since": at, "why": why}
    with database.write() as connection:
        upsert(connection, schema.quarantine, [row])


def lift(database: Database, kind: str, model: str, *, guilty: bool = False) -> int:
    """End a quarantine, and decide on the shares that were excused for it; returns how many.

    A running pool carries it out. Raises ``QuarantineError`` when there is neither.
    """
    table, one = schema.quarantine, schema.excuse
    with database.write() as connection:
        gone = connection.execute(
            delete(table).where(table.c.kind == kind, table.c.model == model)
        ).rowcount
        decided = connection.execute(
            update(one)
            .where(one.c.kind == kind, one.c.model == model, one.c.decision.is_(None))
            .values(decision=DECISIONS[guilty])
        ).rowcount
    if not gone and not decided:
        raise QuarantineError(
            f"{kind!r} is in no quarantine for this model, and nothing was put down to it: "
            "see inferpool quarantine list"
        )
    return decided


def quarantines(connection: sa.Connection) -> list[Quarantine]:
    """All that there are, oldest first."""
    q = schema.quarantine.c
    rows = connection.execute(select(q.kind, q.model, q.since, q.why).order_by(q.since, q.kind))
    return [Quarantine(*row) for row in rows]


def quarantined_kinds(connection: sa.Connection) -> frozenset[tuple[str, str]]:
    """As the board wants them: (model's digest, kind)."""
    q = schema.quarantine.c
    return frozenset((row.model, row.kind) for row in connection.execute(select(q.model, q.kind)))


def open_excuses(connection: sa.Connection) -> list[Excuse]:
    """Those on which nothing has been carried out, oldest first."""
    one = schema.excuse.c
    rows = connection.execute(
        select(
            one.lease,
            one.account,
            one.rig,
            one.model,
            one.kind,
            one.rows,
            one.price,
            one.at,
            one.decision,
        )
        .where(one.outcome.is_(None))
        .order_by(one.at, one.lease)
    )
    return [Excuse(*row) for row in rows]
