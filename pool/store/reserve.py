"""The reserve, as the board may spend it.

The board spends from the reserve by issuing credits; the ledger follows when settlement posts
them. So what may still be spent is the ledger's balance less what is issued and not posted.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import case, func, select

from pool.store import schema
from pool.store.database import meta_value, set_meta
from pool.store.ledger import balance
from shares.money.posting import RESERVE

_SEEN = "reserve_seen"  # key in meta: the last ledger entry that the board was told of

ADVANCED = "advanced"  # the kind of entries that pool.store.advances posts

# Entries of these kinds follow from credits, which the board issues and takes back itself; or the
# board was told before they were posted.
BOARD_KINDS = ("accepted.reserve", "returned.reserve", "forfeited.reserve", ADVANCED)


def spendable_reserve(connection: sa.Connection) -> int:
    """Units of the reserve that no credit has been issued on."""
    credit = schema.credit
    taken = case((credit.c.state == "rejected", 0), else_=credit.c.amount)
    posted = case(
        (credit.c.posted.in_(("pending", "cleared", "forfeited")), credit.c.amount), else_=0
    )
    waiting = connection.scalar(
        select(func.coalesce(func.sum(taken - posted), 0)).where(
            credit.c.source == "reserve", credit.c.posted.is_distinct_from(credit.c.state)
        )
    )
    return balance(connection, RESERVE) - int(waiting or 0)


def watch_reserve(connection: sa.Connection) -> int:
    """Units of the reserve at the start; changes from here on are told by ``reserve_change``."""
    _see(connection)
    return spendable_reserve(connection)


def reserve_change(connection: sa.Connection) -> int:
    """Units that the reserve gained or lost outside the board since this was last asked."""
    entry = schema.entry
    seen = int(meta_value(connection, _SEEN) or 0)
    change = connection.scalar(
        select(func.coalesce(func.sum(entry.c.amount), 0)).where(
            entry.c.account_code == RESERVE, entry.c.seq > seen, entry.c.kind.not_in(BOARD_KINDS)
        )
    )
    _see(connection)
    return int(change or 0)


def _see(connection: sa.Connection) -> None:
    last = connection.scalar(select(func.max(schema.entry.c.seq))) or 0
    if last != int(meta_value(connection, _SEEN) or 0):
        set_meta(connection, _SEEN, str(last))
