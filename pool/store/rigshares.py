"""Shares of a rig, and what is kept of an account's rigs, for its pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, cast, func, select

from pool.store import schema

_CHARTED = 20_000  # the rig's last shares, at most, that a chart is made of


@dataclass(frozen=True, slots=True)
class RigTrust:
    """What is known of a rig, connected or not."""

    account: str
    rig: str
    held: int
    accepted_rows: int
    accepted_work: int
    cleared_shares: int
    rejected_shares: int
    offences: int
    banned_until: float


@dataclass(frozen=True, slots=True)
class Share:
    """A share that was leased. ``units``: what its credits come to, whatever their state."""

    lease: int
    account: str
    rig: str
    model: str
    operation: str
    rows: int
    work: int
    difficulty: int
    issued: float
    deadline: float
    state: str
    fault: str
    ended: float | None
    verdict: str
    reason: str | None
    judged: float | None
    units: int

    @property
    def seconds(self) -> float | None:
        """From the lease to its end."""
        return None if self.ended is None else self.ended - self.issued


def rigs_of(connection: sa.Connection, account: str) -> list[RigTrust]:
    """All rigs that an account ever had."""
    return _rigs(connection, schema.trust.c.account == account)


def punished_rigs(connection: sa.Connection, now: float) -> list[RigTrust]:
    """Rigs that are banned now, or were found guilty of an offence."""
    trust = schema.trust.c
    return _rigs(connection, (trust.banned_until > now) | (trust.offences > 0))


def _rigs(connection: sa.Connection, wanted: sa.ColumnElement[bool]) -> list[RigTrust]:
    trust = schema.trust.c
    columns = [trust[name] for name in RigTrust.__slots__]
    rows = connection.execute(select(*columns).where(wanted).order_by(trust.account, trust.rig))
    return [RigTrust(*row) for row in rows]


def shares_before(
    connection: sa.Connection, account: str, rig: str, before: int, limit: int
) -> tuple[list[Share], int | None]:
    """A rig's shares before lease number ``before``, the newest first.

    Also the number to go on before, None when there are no more.
    """
    lease = schema.lease.c
    rows = connection.execute(
        select(schema.lease)
        .where(lease.account == account, lease.rig == rig, lease.id < before)
        .order_by(lease.id.desc())
        .limit(limit + 1)
    ).all()
    found = _shares(connection, rows[:limit])
    return found, found[-1].lease if len(rows) > limit else None


def share_of(connection: sa.Connection, number: int) -> Share | None:
    """One share, whosever it is."""
    rows = connection.execute(select(schema.lease).where(schema.lease.c.id == number)).all()
    return next(iter(_shares(connection, rows)), None)


def rig_work(
    connection: sa.Connection, account: str, rig: str, since: float, step: float
) -> list[tuple[float, float, int]]:
    """(moment, cleared work a second, shares rejected) of a rig, by steps of ``step`` seconds.

    By the moment of the verdict. Of at most its last 20,000 shares.
    """
    lease = schema.lease.c
    last = (
        select(lease.judged, lease.work, lease.verdict)
        .where(lease.account == account, lease.rig == rig, lease.issued >= since)
        .order_by(lease.id.desc())
        .limit(_CHARTED)
        .subquery()
    )
    number = cast((last.c.judged - since) / step, BigInteger)
    work = func.sum(sa.case((last.c.verdict == "cleared", last.c.work), else_=0))
    lost = func.sum(sa.case((last.c.verdict == "rejected", 1), else_=0))
    rows = connection.execute(
        select(number.label("number"), work, lost)
        .where(last.c.judged >= since)
        .group_by("number")
        .order_by("number")
    )
    return [(since + (no + 1) * step, int(done) / step, int(bad)) for no, done, bad in rows]


def _shares(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[Share]:
    credit = schema.credit.c
    numbers = [row.id for row in rows]
    units: dict[int, int] = {
        lease: int(total)
        for lease, total in connection.execute(
            select(credit.lease, func.sum(credit.amount))
            .where(credit.lease.in_(numbers))
            .group_by(credit.lease)
        )
    }
    kept = [name for name in Share.__slots__ if name not in ("lease", "units")]
    return [
        Share(
            lease=row.id,
            units=units.get(row.id, 0),
            **{name: getattr(row, name) for name in kept},
        )
        for row in rows
    ]
