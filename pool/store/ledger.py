"""The ledger: balanced transactions of entries, and what each account code has.

``entry`` is the truth and is only ever added to, each entry chained by its hash to the one before;
``balance`` is its sum by account code, kept by the same transactions. No code but ``external`` (the
world outside) may fall below zero. ``pool.store.ledgeraudit`` recomputes all of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import sqlalchemy as sa
from sqlalchemy import insert, select

from pool.store import schema
from pool.store.database import upsert
from shares.money.chain import FIRST_PREVIOUS, Entry
from shares.money.posting import EXTERNAL, Entries


class LedgerError(Exception):
    """A transaction that must not be posted."""


class OverdrawnError(LedgerError):
    """A transaction would take more from an account code than it has."""

    def __init__(self, code: str, available: int, needed: int) -> None:
        super().__init__(f"{code} has {available} units and {needed} are to be taken")
        self.code = code
        self.available = available
        self.needed = needed


def post(connection: sa.Connection, kind: str, ref: str, entries: Entries, at: float) -> bool:
    """Post one transaction of (account code, amount).

    ``kind`` and ``ref`` together name what happened: it is posted once, and posting it again
    changes nothing and returns ``False``. Raises ``LedgerError`` when the amounts do not add up to
    zero, ``OverdrawnError`` when a code would fall below zero. An empty transaction is not written.
    """
    if sum(amount for _, amount in entries) != 0:
        raise LedgerError(f"{kind} {ref}: the amounts do not add up to zero: {entries}")
    if not entries:
        return False
    table = schema.entry
    if connection.scalar(
        select(table.c.seq).where(table.c.kind == kind, table.c.ref == ref).limit(1)
    ):
        return False
    before = balances_of(connection, [code for code, _ in entries])
    after = {code: before[code] + amount for code, amount in entries}
    for code, amount in entries:
        if after[code] < 0 and amount < 0 and code != EXTERNAL:
            raise OverdrawnError(code, before[code], -amount)
    connection.execute(insert(table), _chained(connection, kind, ref, entries, at))
    upsert(
        connection,
        schema.balance,
        [{"account_code": code, "units": units} for code, units in after.items()],
    )
    return True


def _chained(
    connection: sa.Connection, kind: str, ref: str, entries: Entries, at: float
) -> list[dict[str, object]]:
    """The rows of a transaction's entries, each behind the one before."""
    last = head(connection)
    seq, previous = last.seq, last.hash
    rows: list[dict[str, object]] = []
    for code, amount in entries:
        seq += 1
        entry = Entry(seq, last.txn + 1, kind, ref, code, amount, at)
        previous = entry.hashed(previous)
        rows.append(asdict(entry) | {"hash": previous})
    return rows


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry, by which all before it are fixed (see ``shares.money.chain``)."""

    seq: int
    txn: int
    hash: bytes
    at: float


def head(connection: sa.Connection) -> Head:
    """Number 0 and zeros before the first entry."""
    table = schema.entry.c
    row = connection.execute(
        select(table.seq, table.txn, table.hash, table.at).order_by(table.seq.desc()).limit(1)
    ).first()
    return Head(row.seq, row.txn, row.hash, row.at) if row else Head(0, 0, FIRST_PREVIOUS, 0.0)


def balance(connection: sa.Connection, code: str) -> int:
    """Units that one account code has."""
    return balances_of(connection, [code])[code]


def balances_of(connection: sa.Connection, codes: Iterable[str]) -> dict[str, int]:
    """Units of each of these account codes; 0 for one that was never used."""
    found = dict.fromkeys(codes, 0)
    table = schema.balance
    rows = connection.execute(select(table).where(table.c.account_code.in_(found)))
    return found | {row.account_code: row.units for row in rows}


def balances(connection: sa.Connection, prefix: str = "") -> dict[str, int]:
    """Units of every account code that begins with ``prefix``, in the order of their names."""
    table = schema.balance
    query = select(table).order_by(table.c.account_code)
    if prefix:
        query = query.where(
            table.c.account_code >= prefix, table.c.account_code < after_prefix(prefix)
        )
    return {row.account_code: row.units for row in connection.execute(query)}


def after_prefix(prefix: str) -> str:
    """The first text, in the order of code points, that comes after all that begin with it."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def ledger_totals(connection: sa.Connection) -> dict[str, int]:
    """Units in each kind of place; ``deposited`` is what came in, and all others add up to it."""
    totals = {
        "deposited": 0,
        "customers": 0,
        "escrow": 0,
        "pending": 0,
        "held": 0,
        "available": 0,
        "in_flight": 0,
        "paid": 0,
        "pot": 0,
        "operator": 0,
        "reserve": 0,
        "forfeits": 0,
    }
    names = {"customer": "customers", "payout": "in_flight"}
    for code, units in balances(connection).items():
        if code == EXTERNAL:
            totals["deposited"] -= units
        else:
            kind = code.partition(":")[0].partition(".")[0]
            totals[names.get(kind, kind)] += units
    return totals
