"""Closing an account: its token opens nothing any more. What a miner holds stays held as long as
any hold. When that time is over, what it covers is computed again (``pool.closedholds``), and
``pool.store.releases`` lets all of it go.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import or_, select

from pool.accounts import AccountError
from pool.settlement import SettlementPolicy, post_everything
from pool.store import schema
from pool.store.accounts import mark_closed, need_account
from pool.store.database import Database
from pool.store.ledger import balances
from shares.money import posting


def close_account(
    database: Database,
    name: str,
    policy: SettlementPolicy,
    at: float,
    actor: str = "operator",
) -> int:
    """Close an account; returns the units that a miner holds, for the hold's time to come.

    Raises ``AccountError`` while a miner has shares without a verdict, or a customer jobs that are
    not settled. A running pool may lease one more share before it sees the closing: that share is
    finished or expires like any other, and what it earns is held and released like the rest. What
    is available to a miner, or left to a customer, stays on the ledger.
    """
    post_everything(database, policy, at)
    with database.write() as connection:
        account = need_account(connection, name)
        held = 0
        if account.role == "miner":
            _refuse_uncleared(connection, name)
            held = sum(balances(connection, posting.held(f"{name}.")).values())
        elif account.role == "customer":
            _refuse_unsettled(connection, name)
        mark_closed(connection, name, at, actor)
    return held


def _refuse_uncleared(connection: sa.Connection, name: str) -> None:
    lease = schema.lease
    under_way = connection.scalar(
        select(lease.c.id)
        .where(lease.c.account == name)
        .where(or_(lease.c.state == "open", lease.c.verdict == "accepted"))
        .limit(1)
    )
    waiting = sum(balances(connection, posting.pending(f"{name}.")).values())
    if under_way is not None or waiting:
        raise AccountError(
            f"account {name!r} has shares without a verdict: stop its rigs, "
            "and close it when they are cleared"
        )


def _refuse_unsettled(connection: sa.Connection, name: str) -> None:
    job = schema.job
    unsettled = connection.scalars(
        select(job.c.id).where(job.c.account == name, job.c.settled.is_(None))
    ).all()
    if unsettled:
        raise AccountError(
            f"account {name!r} has {len(unsettled)} jobs that are not settled: "
            "cancel them or let them finish, then close it"
        )
