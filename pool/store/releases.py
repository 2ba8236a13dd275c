"""Release of held pay: what is older than the hold, down to the minimum hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import func, select, update

from pool.store import schema
from pool.store.database import Database, meta_value, set_meta
from pool.store.ledger import balance, balances, post
from pool.store.pots import add_to_pot
from shares.money import posting

_LOOKED_AT = "released_at"  # key in meta


@dataclass(frozen=True, slots=True)
class ReleasePolicy:
    """When held pay becomes available."""

    hold_seconds: float = 86_400.0  # cleared pay is held this long
    minimum_rows: int = 2_000  # the price of this many ordinary rows stays held
    price: int = 1  # units a unit of work
    every_seconds: float = 60.0  # how often holds are looked at


@dataclass(frozen=True, slots=True)
class Release:
    """Held pay of one rig that can become, or became, available."""

    account: str
    rig: str
    units: int


def releases_due(database: Database, policy: ReleasePolicy, at: float) -> bool:
    """Whether holds have not been looked at for ``every_seconds``."""
    with database.read() as connection:
        return at - float(meta_value(connection, _LOOKED_AT) or 0) >= policy.every_seconds


def release_candidates(database: Database, policy: ReleasePolicy, at: float) -> tuple[Release, ...]:
    """What could be released at time ``at``; nothing is changed.

    A rig keeps the larger of its minimum hold (``minimum_rows`` of its ordinary rows, which light
    rows hardly change) and all it earned within ``hold_seconds``. Of an account that was closed
    so long ago it keeps no minimum once all that it covers was computed again and found right
    (``pool.closedholds``). While wrong rows of it are put down to a kind of device, nothing of it
    is released.
    """
    since = at - policy.hold_seconds
    found = []
    with database.read() as connection:
        for account, rig, units, minimum in holds_of(connection, policy, since):
            free = units - max(minimum, _recent(connection, account, rig, since))
            if free > 0:
                found.append(Release(account, rig, free))
    return tuple(found)


def holds_of(
    connection: sa.Connection, policy: ReleasePolicy, since: float
) -> list[tuple[str, str, int, int]]:
    """(account, rig, units held, minimum hold) of all whose hold is not frozen.

    ``since``: accounts that were closed before, and whose hold was found right, keep no minimum.
    """
    held = balances(connection, posting.held(""))
    trust, account = schema.trust, schema.account
    rows = connection.execute(select(trust.c.account, trust.c.rig, trust.c.row_work)).all()
    checked = schema.hold_check.c
    over = {
        (row.account, row.rig)
        for row in connection.execute(
            select(checked.account, checked.rig)
            .join(account, account.c.name == checked.account)
            .where(account.c.closed <= since)
        )
    }
    excused = schema.excuse.c
    frozen = {
        (row.account, row.rig)
        for row in connection.execute(
            select(excused.account, excused.rig).where(excused.outcome.is_(None))
        )
    }
    found = []
    for row in rows:
        if (row.account, row.rig) in frozen:
            continue
        units = held.get(posting.held(f"{row.account}.{row.rig}"), 0)
        minimum = -(-policy.minimum_rows * row.row_work * policy.price // 1_000)
        if (row.account, row.rig) in over:
            minimum = 0
        found.append((row.account, row.rig, units, minimum))
    return found


def post_releases(
    database: Database, candidates: Sequence[Release], at: float, *, pooled: bool = False
) -> tuple[Release, ...]:
    """Make held pay available; returns what was released (less where less is held by now).

    ``pooled``: it goes to the pot that the next round divides (``pool.store.pots``).
    """
    with database.write() as connection:
        set_meta(connection, _LOOKED_AT, repr(at))
        released = [_release(connection, one, at, pooled) for one in candidates]
    return tuple(one for one in released if one.units)


def _release(connection: sa.Connection, wanted: Release, at: float, pooled: bool) -> Release:
    account, rig = wanted.account, f"{wanted.account}.{wanted.rig}"
    units = min(wanted.units, balance(connection, posting.held(rig)))
    if pooled:
        take_held(connection, wanted, "pooled", posting.pooled(rig, units), units, at)
        add_to_pot(connection, account, units, at)
    else:
        entries = posting.released(account, rig, units)
        take_held(connection, wanted, "released", entries, units, at)
    return Release(account, wanted.rig, units)


def take_held(
    connection: sa.Connection,
    of: Release,
    kind: str,
    entries: posting.Entries,
    units: int,
    at: float,
) -> None:
    """Post ``entries``, by which a rig holds ``units`` less."""
    number = connection.scalar(select(func.max(schema.entry.c.seq))) or 0
    post(connection, kind, f"{of.account}.{of.rig}:{number + 1}", entries, at)
    trust = schema.trust
    connection.execute(
        update(trust)
        .where(trust.c.account == of.account, trust.c.rig == of.rig)
        .values(held=func.max(0, trust.c.held - units))
    )


def held_by_rig(connection: sa.Connection) -> dict[tuple[str, str], int]:
    """What every rig holds, {(account, rig): units}, with what the ledger has not followed yet."""
    credit, forfeit = schema.credit, schema.forfeit
    found: dict[tuple[str, str], int] = defaultdict(int)
    for code, units in balances(connection, posting.held("")).items():
        account, _, rig = code.partition(":")[2].partition(".")
        found[account, rig] += units
    for row in connection.execute(
        select(credit.c.account, credit.c.rig, func.sum(credit.c.amount).label("units"))
        .where(credit.c.posted.is_distinct_from(credit.c.state), credit.c.state == "cleared")
        .group_by(credit.c.account, credit.c.rig)
    ):
        found[row.account, row.rig] += int(row.units)
    for row in connection.execute(select(forfeit).where(~forfeit.c.posted)):
        key = (row.account, row.rig)
        found[key] -= min(found[key], row.units)
    return found


def _recent(connection: sa.Connection, account: str, rig: str, since: float) -> int:
    credit = schema.credit
    units = connection.scalar(
        select(func.coalesce(func.sum(credit.c.amount), 0)).where(
            credit.c.account == account,
            credit.c.rig == rig,
            credit.c.state == "cleared",
            credit.c.judged > since,
        )
    )
    return int(units or 0)
