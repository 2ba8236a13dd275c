"""Sampling keys as the public may see them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import select

from pool.store import schema


def published_epochs(connection: sa.Connection, limit: int) -> list[dict[str, Any]]:
    """The latest epochs, newest first. ``key`` is null while a verdict may still depend on it."""
    epoch, part, lease = schema.epoch, schema.part, schema.lease
    undecided = (
        select(part.c.epoch)
        .join(lease, lease.c.id == part.c.lease)
        .where(lease.c.verdict.in_(("open", "accepted")))
        .distinct()
    )
    waiting = set(connection.scalars(undecided))
    rows = connection.execute(select(epoch).order_by(epoch.c.id.desc()).limit(limit))
    return [
        {
            "epoch": row.id,
            "key_hash": row.key_hash,
            "opens": row.opens,
            "closes": row.closes,
            "key": row.key.hex() if row.closes is not None and row.id not in waiting else None,
        }
        for row in rows
    ]
