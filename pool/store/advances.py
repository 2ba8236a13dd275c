"""Pay per share (pps): the reserve pays for accepted shares at once, and carries their risk.

Only a rig whose own money in the pool, after what it was advanced, is its minimum hold at least is
paid so: that hold is what it may lose. The pay of the share itself goes its ordinary way, pending
and held, and from there back to the reserve; of a share that is rejected nothing comes back, and
what the rig owes then is taken from its later pay.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import func, select

from pool.store import schema
from pool.store.database import Database, meta_value, set_meta, upsert
from pool.store.ledger import balance, balances, post
from pool.store.releases import Release, ReleasePolicy, holds_of, take_held
from pool.store.reserve import ADVANCED
from shares.money import posting
from shares.money.ruin import ruin_bound

_SEEN = "advanced_to"  # key in meta: the last credit that was looked at
_AT_ONCE = 2_000
_LOOK_BACK = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Advance:
    """Accepted work that the reserve may pay now. ``last``: the last credit that it is of."""

    last: int
    rigs: dict[tuple[str, str], int]  # {(account, rig): units}

    @property
    def units(self) -> int:
        """In all."""
        return sum(self.rigs.values())

    def within(self, most: int) -> Advance:
        """The same, or nothing where the reserve has less by now."""
        return self if self.units <= most else Advance(self.last, {})


def advance_wanted(connection: sa.Connection, policy: ReleasePolicy, most: int) -> Advance:
    """Credits since the last look that can be advanced, of ``most`` units at most.

    A rig must hold its minimum, and what it holds and has pending, less all that it owes, must
    exceed that by the credit. A credit that has no room is never advanced: it is paid after its
    verdict, as it would be.
    """
    seen = int(meta_value(connection, _SEEN) or 0)
    credit = schema.credit
    rows = connection.execute(
        select(credit.c.id, credit.c.account, credit.c.rig, credit.c.amount, credit.c.state)
        .where(credit.c.id > seen)
        .where(credit.c.posted.is_not(None) | credit.c.state.in_(("rejected", "forfeited")))
        .order_by(credit.c.id)
        .limit(_AT_ONCE)
    ).all()
    owed, pending = _owed(connection), balances(connection, posting.pending(""))
    own: dict[tuple[str, str], int] = {}  # beyond the minimum hold
    for account, rig, held, minimum in holds_of(connection, policy, 0.0):
        if held >= minimum:
            waits = pending.get(posting.pending(f"{account}.{rig}"), 0)
            own[account, rig] = held + waits - owed.get((account, rig), 0) - minimum
    rigs: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        key = row.account, row.rig
        if (
            row.state in ("pending", "cleared")
            and row.amount <= own.get(key, 0) - rigs[key]
            and row.amount <= most - sum(rigs.values())
        ):
            rigs[key] += row.amount
    rigs = {key: units for key, units in rigs.items() if units}
    return Advance(rows[-1].id if rows else seen, dict(rigs))


def post_advance(database: Database, wanted: Advance, at: float) -> None:
    """Pay what was wanted. Its units must have been taken from the board's reserve before."""
    with database.write() as connection:
        accounts: dict[str, int] = defaultdict(int)
        for (account, _), units in wanted.rigs.items():
            accounts[account] += units
        post(connection, ADVANCED, f"credit:{wanted.last}", posting.advanced(accounts), at)
        owed = _owed(connection)
        upsert(
            connection,
            schema.advance,
            [
                {"account": key[0], "rig": key[1], "units": owed.get(key, 0) + units}
                for key, units in wanted.rigs.items()
            ],
        )
        set_meta(connection, _SEEN, str(wanted.last))


def skip_advances(connection: sa.Connection) -> None:
    """Whatever was credited so far is not advanced: another scheme was in force."""
    last = connection.scalar(select(func.max(schema.credit.c.id))) or 0
    if last != int(meta_value(connection, _SEEN) or 0):
        set_meta(connection, _SEEN, str(last))


def repay(database: Database, policy: ReleasePolicy, at: float) -> tuple[Release, ...]:
    """Give the reserve back what rigs hold above their minimum and owe; tell the board."""
    with database.read() as connection:
        if not _owed(connection):
            return ()
    done = []
    with database.write() as connection:
        owed = _owed(connection)
        since = at - policy.hold_seconds
        for account, rig, held, minimum in holds_of(connection, policy, since):
            units = min(owed.get((account, rig), 0), held - minimum)
            if units <= 0:
                continue
            one = Release(account, rig, units)
            entries = posting.repaid(f"{account}.{rig}", units)
            take_held(connection, one, "repaid", entries, units, at)
            left = owed[account, rig] - units
            row = {"account": account, "rig": rig, "units": left}
            upsert(connection, schema.advance, [row])
            done.append(one)
    return tuple(done)


@dataclass(frozen=True, slots=True)
class Risk:
    """What the reserve carries. ``bound``: of the chance that it is ever exhausted (Lundberg)."""

    reserve: int
    advanced: int  # units that are out
    shares: int  # judged in the last 30 days
    rejected: int
    largest: int  # units of a share, at most
    income: float  # units that levies left to the reserve, per share
    bound: float


def risk_of(connection: sa.Connection, at: float) -> Risk:
    """By what happened in the last 30 days; without shares the bound is 1."""
    credit, entry = schema.credit.c, schema.entry.c
    shares = (
        select(
            credit.lease,
            func.sum(credit.amount).label("units"),
            func.max(sa.case((credit.state == "cleared", 0), else_=1)).label("bad"),
        )
        .where(credit.judged >= at - _LOOK_BACK, credit.state != "pending")
        .group_by(credit.lease)
        .subquery()
    )
    number, bad, largest = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(shares.c.bad), 0),
            func.coalesce(func.max(shares.c.units), 0),
        ).select_from(shares)
    ).one()
    gained = connection.scalar(
        select(func.coalesce(func.sum(entry.amount), 0)).where(
            entry.account_code == posting.RESERVE,
            entry.kind.in_(("completed", "swept")),
            entry.at >= at - _LOOK_BACK,
        )
    )
    reserve = balance(connection, posting.RESERVE)
    income = int(gained or 0) / number if number else 0.0
    bound = 1.0
    if number:
        # One more than was seen: what never happened so far may happen.
        chance = min(1.0, (int(bad) + 1) / (int(number) + 1))
        bound = ruin_bound(reserve, chance=chance, loss=float(largest), income=income)
    out = sum(_owed(connection).values())
    return Risk(reserve, out, int(number), int(bad), int(largest), income, bound)


def _owed(connection: sa.Connection) -> dict[tuple[str, str], int]:
    table = schema.advance
    rows = connection.execute(select(table).where(table.c.units > 0))
    return {(row.account, row.rig): row.units for row in rows}
