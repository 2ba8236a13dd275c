"""How the pool was, moment by moment: for charts."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import sqlalchemy as sa
from sqlalchemy import BigInteger, cast, delete, func, insert, select

from pool.store import schema
from pool.store.database import Database

KEPT_SECONDS = 32 * 86_400.0


@dataclass(slots=True)
class Moment:
    """``rate`` in work a second; the last three are counted since the moment before."""

    at: float
    rate: float = 0.0
    rigs: int = 0
    jobs: int = 0
    open_work: int = 0
    accepted_work: int = 0
    shares_cleared: int = 0
    shares_rejected: int = 0


def add_moment(database: Database, moment: Moment) -> None:
    """Keep one, and forget those that are older than ``KEPT_SECONDS``."""
    table = schema.moment
    with database.write() as connection:
        connection.execute(insert(table).values(**asdict(moment)))
        connection.execute(delete(table).where(table.c.at < moment.at - KEPT_SECONDS))


def moments(connection: sa.Connection, since: float, step: float) -> list[Moment]:
    """What was from ``since`` on, by steps of ``step`` seconds: means, and sums of what is counted.

    ``at`` is the last moment of its step.
    """
    m = schema.moment.c
    number = cast((m.at - since) / step, BigInteger)
    rows = connection.execute(
        select(
            func.max(m.at),
            func.avg(m.rate),
            func.avg(m.rigs),
            func.avg(m.jobs),
            func.avg(m.open_work),
            func.sum(m.accepted_work),
            func.sum(m.shares_cleared),
            func.sum(m.shares_rejected),
        )
        .where(m.at >= since)
        .group_by(number)
        .order_by(number)
    )
    return [
        Moment(
            float(at),
            float(rate),
            round(rigs),
            round(jobs),
            round(open_work),
            int(work),
            int(cleared),
            int(rejected),
        )
        for at, rate, rigs, jobs, open_work, work, cleared, rejected in rows
    ]
