"""The ledger, recomputed from nothing: its chain, every transaction, every balance."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy import select

from pool.store import schema
from pool.store.ledger import LedgerError, balances, head
from shares.money.chain import FIRST_PREVIOUS, Entry
from shares.money.posting import EXTERNAL

PAGE = 5_000  # transactions that are read at once


@dataclass(slots=True)
class LedgerAudit:
    """Reads entries in their order, each once, and remembers what they add up to.

    ``follow`` goes on where it stopped, so that a running pool audits what is new.
    """

    seq: int = 0  # of the last entry that was looked at
    head: bytes = FIRST_PREVIOUS  # its hash
    transactions: int = 0
    units: dict[str, int] = field(default_factory=dict)  # {account code: units}
    noted: dict[int, bytes] = field(default_factory=dict)  # {seq: its hash as somebody noted it}

    def follow(self, connection: sa.Connection) -> int:
        """Look at what was posted since; returns how many entries that was.

        Raises ``LedgerError`` at the first entry that is not chained to the one before, the first
        transaction that does not add up to zero or leaves a code but ``external`` below zero, and
        for balances that are not what the entries add up to.
        """
        before = self.seq
        while self._page(connection):
            pass
        last = head(connection).seq
        if last != self.seq:
            raise LedgerError(f"entry {self.seq + 1} is missing, and the last is {last}")
        kept = balances(connection)
        if kept != self.units:
            codes = sorted(
                code
                for code in kept.keys() | self.units.keys()
                if kept.get(code) != self.units.get(code)
            )
            code = codes[0]
            raise LedgerError(
                f"the balance of {code} is {kept.get(code)} units, and its entries add up to "
                f"{self.units.get(code)}"
            )
        for seq in self.noted:
            if seq > self.seq:
                raise LedgerError(f"entry {seq} was noted and is not there: entries were cut off")
        return self.seq - before

    def _page(self, connection: sa.Connection) -> bool:
        """Look at the next transactions; ``False`` when there are no more."""
        table = schema.entry
        first = self.transactions
        rows = connection.execute(
            select(table)
            .where(table.c.txn > first, table.c.txn <= first + PAGE)
            .order_by(table.c.seq)
        ).all()
        for _, entries in groupby(rows, key=lambda row: row.txn):
            self._transaction(list(entries))
        return bool(rows)

    def _transaction(self, rows: list[sa.Row[Any]]) -> None:
        number = self.transactions + 1
        total = 0
        for row in rows:
            entry = Entry(row.seq, row.txn, row.kind, row.ref, row.account_code, row.amount, row.at)
            self._chain(entry, row.hash, number)
            total += entry.amount
            self.units[entry.account_code] = self.units.get(entry.account_code, 0) + entry.amount
        if total != 0:
            raise LedgerError(f"transaction {number} does not add up to zero: {total} units")
        for row in rows:
            units = self.units[row.account_code]
            if units < 0 and row.amount < 0 and row.account_code != EXTERNAL:
                raise LedgerError(
                    f"transaction {number} leaves {row.account_code} {-units} units below zero"
                )
        self.transactions = number

    def _chain(self, entry: Entry, said: bytes, number: int) -> None:
        if entry.seq != self.seq + 1:
            raise LedgerError(f"entry {self.seq + 1} is missing: the next is {entry.seq}")
        if entry.txn != number:
            raise LedgerError(f"entry {entry.seq} is of transaction {entry.txn}, not {number}")
        found = entry.hashed(self.head)
        if found != said:
            raise LedgerError(f"entry {entry.seq} or one before it was altered: its hash is wrong")
        if self.noted.get(entry.seq, found) != found:
            raise LedgerError(f"entry {entry.seq} is not the one that was noted: it was rewritten")
        self.seq, self.head = entry.seq, found


def check_ledger(connection: sa.Connection) -> LedgerAudit:
    """Recompute the whole ledger. Raises ``LedgerError`` as ``LedgerAudit.follow`` does."""
    audit = LedgerAudit()
    audit.follow(connection)
    return audit
