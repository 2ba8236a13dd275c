"""The ledger: balanced transactions of entries, and what each account code has.

``entry`` is the truth and is only ever added to; ``balance`` is its sum by account code, kept by
the same transactions. No code but ``external`` (the world outside) may fall below zero.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy import func, insert, select

from pool.store import schema
from pool.store.database import upsert
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
    txn = (connection.scalar(select(func.max(table.c.txn))) or 0) + 1
    connection.execute(
        insert(table),
        [
            {"txn": txn, "kind": kind, "ref": ref, "account_code": c, "amount": a, "at": at}
            for c, a in entries
        ],
    )
    upsert(
        connection,
        schema.balance,
        [{"account_code": code, "units": units} for code, units in after.items()],
    )
    return True


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


def check_ledger(connection: sa.Connection) -> None:
    """Add everything up again. Raises ``LedgerError`` when money came from or went nowhere.

    Every transaction adds up to zero, the balances are what the entries say, and none but
    ``external`` is below zero.
    """
    table = schema.entry
    total = func.sum(table.c.amount)
    for row in connection.execute(select(table.c.txn).group_by(table.c.txn).having(total != 0)):
        raise LedgerError(f"transaction {row.txn} does not add up to zero")
    summed = {
        row.account_code: int(row.units)
        for row in connection.execute(
            select(table.c.account_code, total.label("units")).group_by(table.c.account_code)
        )
    }
    if summed != balances(connection):
        raise LedgerError("the balances are not what the entries add up to")
    for code, units in summed.items():
        if units < 0 and code != EXTERNAL:
            raise LedgerError(f"{code} is {units} units below zero")
