"""What an account's parts earned, as its miner may see it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import select

from pool.store import schema


def credits_after(
    connection: sa.Connection, account: str, after: int, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """The next credits of an account behind number ``after``, as they stand now.

    Also the number to go on behind, ``None`` when there are no more.
    """
    credit, job = schema.credit.c, schema.job.c
    rows = connection.execute(
        select(schema.credit, job.price)
        .join(schema.job, job.id == credit.job)
        .where(credit.account == account, credit.id > after)
        .order_by(credit.id)
        .limit(limit + 1)
    ).all()
    found = [
        {
            "credit": row.id,
            "lease": row.lease,
            "part": row.part,
            "rig": row.rig,
            "kind": row.kind,
            "source": row.source,
            "work": row.work,
            "price": row.price,
            "amount": row.amount,
            "state": row.state,
            "at": row.at,
        }
        for row in rows[:limit]
    ]
    return found, found[-1]["credit"] if len(rows) > limit else None
