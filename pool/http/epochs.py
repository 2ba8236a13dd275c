"""Sampling keys as the public may see them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import select

from pool.store import schema

# Epochs of shares that wait for their verdict. A share is one of these from its first part on, and
# an index holds them: anybody may ask, so the answer must not read every share there ever was.
UNDECIDED = (
    select(schema.part.c.epoch)
    .join(schema.lease, schema.lease.c.id == schema.part.c.lease)
    .where(schema.awaits_verdict)
    .distinct()
)


def published_epochs(connection: sa.Connection, limit: int) -> list[dict[str, Any]]:
    """The latest epochs, newest first. ``key`` is null while a verdict may still depend on it."""
    epoch = schema.epoch
    waiting = set(connection.scalars(UNDECIDED))
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
