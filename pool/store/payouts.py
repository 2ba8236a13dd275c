"""Payouts: units on their way to miners, moved from state to state by compare and swap.

    reserved ─▶ submitting ─▶ submitted ─▶ finalised
        ▲        │      │         │
        │        ▼      └────▶ manual ─▶ returned
        └── retryable

A step happens in one transaction with the ledger entry that it means, and only from the state and
version that its maker saw: of two that try, one wins. ``submitting`` is written before the far
side is asked, and is left only with evidence of what the far side did; without it a person
decides.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, insert, or_, select, update

from pool.store import schema
from pool.store.ledger import post
from shares.money import posting

_STEPS = {
    "reserved": {"submitting", "manual"},
    "submitting": {"submitted", "finalised", "retryable", "manual"},
    "retryable": {"submitting", "manual"},
    "submitted": {"finalised", "manual"},
    "manual": {"reserved", "submitted", "finalised", "returned"},
    "finalised": set(),
    "returned": set(),
}
STATES = tuple(_STEPS)
OVER = frozenset({"finalised", "returned"})
OPEN = tuple(state for state in STATES if state not in OVER)


@dataclass(frozen=True, slots=True)
class Payout:
    """One payout, as it was read. ``units`` are the ledger's; ``next_at`` None: a person's turn."""

    id: int
    key: str
    round: int
    account: str
    units: int
    kind: str
    address: str
    state: str
    version: int
    attempts: int
    next_at: float | None
    carrier: str | None
    document: str | None
    reference: str | None
    reason: str | None
    created: float
    changed: float


_COLUMNS = [schema.payout.c[name] for name in Payout.__slots__]


def open_round(connection: sa.Connection, at: float) -> int:
    """The round that is open, or a new one."""
    table = schema.payout_round
    found = connection.scalar(select(table.c.id).where(table.c.closed.is_(None)))
    if found is None:
        found = connection.scalar(insert(table).values(opened=at).returning(table.c.id))
    assert found is not None
    return int(found)


def close_round(connection: sa.Connection, number: int, at: float) -> None:
    """Every account has been looked at."""
    table = schema.payout_round
    connection.execute(update(table).where(table.c.id == number).values(closed=at))


def last_round(connection: sa.Connection) -> tuple[float, float | None]:
    """When the last round was opened and closed; (-inf, -inf) before the first."""
    table = schema.payout_round.c
    row = connection.execute(
        select(table.opened, table.closed).order_by(table.id.desc()).limit(1)
    ).first()
    return (row.opened, row.closed) if row else (float("-inf"), float("-inf"))


def reserve(
    connection: sa.Connection,
    number: int,
    account: str,
    units: int,
    kind: str,
    address: str,
    at: float,
    *,
    hold: str | None = None,
) -> bool:
    """Set an account's units aside to be paid in a round: once a round.

    ``hold``: why a person must agree first. Raises ``OverdrawnError`` when less is available.
    Returns whether it was done now.
    """
    table = schema.payout
    if connection.scalar(
        select(table.c.id).where(table.c.round == number, table.c.account == account)
    ):
        return False
    key = f"payout_{secrets.token_hex(16)}"
    connection.execute(
        insert(table).values(
            key=key,
            round=number,
            account=account,
            units=units,
            kind=kind,
            address=address,
            state="reserved" if hold is None else "manual",
            reason=hold,
            next_at=at if hold is None else None,
            created=at,
            changed=at,
        )
    )
    post(connection, "payout_reserved", key, posting.payout_reserved(account, units), at)
    return True


def step(
    connection: sa.Connection, payout: Payout, state: str, at: float, **changes: Any
) -> Payout | None:
    """Move ``payout`` on from the state and version in which it was read, with its posting.

    Returns it as it is then; ``None``, with nothing changed, when somebody else moved it first.
    Raises ``ValueError`` for a step that there is not.
    """
    if state not in _STEPS[payout.state]:
        raise ValueError(f"a payout does not go from {payout.state} to {state}")
    moved = _swap(connection, payout, {"state": state, "changed": at} | changes)
    if moved is None:
        return None
    if state == "finalised":
        entries = posting.payout_finalised(payout.account, payout.units)
        post(connection, "payout_finalised", payout.key, entries, at)
    elif state == "returned":
        entries = posting.payout_returned(payout.account, payout.units)
        post(connection, "payout_returned", payout.key, entries, at)
    return moved


def postpone(
    connection: sa.Connection, payout: Payout, next_at: float | None, reason: str | None
) -> Payout | None:
    """Look at ``payout`` again later, in the state that it has; as ``step``."""
    return _swap(connection, payout, {"next_at": next_at, "reason": reason})


def _swap(connection: sa.Connection, payout: Payout, changes: dict[str, Any]) -> Payout | None:
    table = schema.payout
    changes["version"] = payout.version + 1
    swapped = connection.execute(
        update(table)
        .where(
            table.c.id == payout.id,
            table.c.state == payout.state,
            table.c.version == payout.version,
        )
        .values(**changes)
    )
    return replace(payout, **changes) if swapped.rowcount else None


def due_payouts(
    connection: sa.Connection, states: tuple[str, ...], at: float, limit: int, after: int = 0
) -> list[Payout]:
    """Payouts in these states whose time has come, in the order in which they were made."""
    table = schema.payout.c
    return _payouts(
        connection,
        (table.state.in_(states)) & (table.next_at <= at) & (table.id > after),
        limit,
    )


def payouts_of(
    connection: sa.Connection, account: str, after: int, limit: int
) -> tuple[list[Payout], int | None]:
    """An account's payouts behind number ``after``, and the number to go on behind."""
    table = schema.payout.c
    found = _payouts(connection, (table.account == account) & (table.id > after), limit + 1)
    return found[:limit], found[limit - 1].id if len(found) > limit else None


def newest_payouts(connection: sa.Connection, account: str, limit: int) -> list[Payout]:
    """An account's last payouts, the newest first."""
    table = schema.payout
    rows = connection.execute(
        select(*_COLUMNS).where(table.c.account == account).order_by(table.c.id.desc()).limit(limit)
    )
    return [Payout(**row._mapping) for row in rows]


def list_payouts(
    connection: sa.Connection, states: tuple[str, ...], after: int, limit: int
) -> list[Payout]:
    """Payouts in these states behind number ``after``."""
    table = schema.payout.c
    return _payouts(connection, (table.state.in_(states)) & (table.id > after), limit)


def find_payout(connection: sa.Connection, key: str) -> Payout | None:
    """The payout with this key, or this number."""
    table = schema.payout.c
    wanted = table.key == key
    if key.isascii() and key.isdecimal() and len(key) <= 18:
        wanted = or_(wanted, table.id == int(key))
    found = _payouts(connection, wanted, 1)
    return found[0] if found else None


def paid_since(connection: sa.Connection, account: str, since: float) -> int:
    """Units of an account's payouts that were begun since and not returned."""
    table = schema.payout.c
    units = connection.scalar(
        select(func.coalesce(func.sum(table.units), 0)).where(
            table.account == account, table.created >= since, table.state != "returned"
        )
    )
    return int(units or 0)


def payouts_by_state(
    connection: sa.Connection, states: tuple[str, ...] = STATES
) -> dict[str, tuple[int, int]]:
    """How many payouts there are in each of these states, and their units."""
    table = schema.payout.c
    rows = connection.execute(
        select(table.state, func.count().label("payouts"), func.sum(table.units).label("units"))
        .where(table.state.in_(states))
        .group_by(table.state)
    )
    found = {row.state: (int(row.payouts), int(row.units)) for row in rows}
    return {state: found.get(state, (0, 0)) for state in states}


def _payouts(connection: sa.Connection, wanted: sa.ColumnElement[bool], limit: int) -> list[Payout]:
    table = schema.payout
    rows = connection.execute(select(*_COLUMNS).where(wanted).order_by(table.c.id).limit(limit))
    return [Payout(**row._mapping) for row in rows]


# ── accounts that wait ────────────────────────────────────────────────────────


def note_wait(connection: sa.Connection, account: str, reason: str | None, at: float) -> bool:
    """Keep why an account is not paid (``None``: it is); returns whether that is news."""
    table = schema.payout_wait
    before = connection.scalar(select(table.c.reason).where(table.c.account == account))
    if before == reason:
        return False
    connection.execute(table.delete().where(table.c.account == account))
    if reason is not None:
        connection.execute(insert(table).values(account=account, reason=reason, since=at))
    return True


def wait_of(connection: sa.Connection, account: str) -> str | None:
    """Why the account was not paid in the last round, if it has enough to be paid."""
    table = schema.payout_wait.c
    return connection.scalar(select(table.reason).where(table.account == account))
