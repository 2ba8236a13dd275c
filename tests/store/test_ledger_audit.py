"""The ledger recomputed from nothing: whatever was altered, left out or put in is found."""

from __future__ import annotations

import struct
from hashlib import sha256

import pytest
import sqlalchemy as sa
from sqlalchemy import delete, insert, select, update

from pool.store import Store, ledgeraudit, schema
from pool.store.ledger import LedgerError, head, post
from pool.store.ledgeraudit import LedgerAudit, check_ledger
from shares.money.chain import FIRST_PREVIOUS, Entry

ENTRY, BALANCE = schema.entry, schema.balance
MOVES = (
    ("in", "1", (("external", -90), ("customer:a", 90))),
    ("reserved", "job:1", (("customer:a", -30), ("escrow.pay:1", 20), ("reserve", 10))),
    ("in", "2", (("external", -5), ("customer:b", 5))),
    ("paid", "job:1", (("escrow.pay:1", -20), ("held:m.r", 20))),
)


@pytest.fixture
def written(store: Store) -> Store:
    with store.database.write() as connection:
        for moment, (kind, ref, entries) in enumerate(MOVES):
            post(connection, kind, ref, entries, 1_750_000_000.25 + moment)
    return store


def rehash(connection: sa.Connection, since: int) -> None:
    """What a forger does who can compute hashes too."""
    rows = connection.execute(select(ENTRY).order_by(ENTRY.c.seq)).all()
    previous = FIRST_PREVIOUS
    for row in rows:
        entry = Entry(row.seq, row.txn, row.kind, row.ref, row.account_code, row.amount, row.at)
        found = entry.hashed(previous)
        if row.seq >= since:
            connection.execute(update(ENTRY).where(ENTRY.c.seq == row.seq).values(hash=found))
        previous = found


def test_what_was_posted_is_right(written: Store) -> None:
    with written.database.read() as connection:
        audit = check_ledger(connection)
        last = head(connection)

    assert (audit.seq, audit.transactions) == (9, 4)
    assert (last.seq, last.txn, last.hash) == (9, 4, audit.head)
    assert audit.units["customer:a"] == 60


def test_what_was_posted_since_is_looked_at_alone(
    written: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page at a time, whole transactions."""
    monkeypatch.setattr(ledgeraudit, "PAGE", 1)
    audit = LedgerAudit()
    with written.database.read() as connection:
        assert audit.follow(connection) == 9
        assert audit.follow(connection) == 0
    with written.database.write() as connection:
        post(connection, "in", "3", (("external", -1), ("customer:c", 1)), 2e9)
        assert audit.follow(connection) == 2
        assert check_ledger(connection).head == audit.head


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("amount", 21),
        ("ref", "job:2"),
        ("kind", "in"),
        ("account_code", "customer:m"),
        ("at", 1_750_000_000.26),
        ("hash", bytes(32)),
    ],
)
def test_an_altered_entry_is_named(written: Store, column: str, value: object) -> None:
    with written.database.write() as connection:
        connection.execute(update(ENTRY).where(ENTRY.c.seq == 4).values({column: value}))
        with pytest.raises(LedgerError, match="entry 4 or one before it was altered"):
            check_ledger(connection)


@pytest.mark.parametrize("gone", [[1, 2], [5], [6, 7], [8, 9]])
def test_what_was_left_out_is_found(written: Store, gone: list[int]) -> None:
    """The last ones by the balances."""
    with written.database.write() as connection:
        connection.execute(delete(ENTRY).where(ENTRY.c.seq.in_(gone)))
        with pytest.raises(LedgerError, match=r"is missing|the balance of|does not add up"):
            check_ledger(connection)


def test_an_entry_without_its_transaction_is_found(written: Store) -> None:
    values = {"kind": "in", "ref": "9", "account_code": "customer:a", "amount": 1, "at": 1.0}
    with written.database.write() as connection:
        connection.execute(insert(ENTRY).values(seq=10, txn=5, hash=bytes(32), **values))
        rehash(connection, 10)
        with pytest.raises(LedgerError, match="transaction 5 does not add up to zero: 1 units"):
            check_ledger(connection)
        connection.execute(update(ENTRY).where(ENTRY.c.seq == 10).values(txn=9))
        with pytest.raises(LedgerError, match="entry 10 is of transaction 9, not 5"):
            check_ledger(connection)


def test_a_code_below_zero_is_found_at_its_transaction(written: Store) -> None:
    """Though it is above zero again at the end."""
    with written.database.write() as connection:
        for seq, amount in ((3, -100), (4, 90)):
            connection.execute(update(ENTRY).where(ENTRY.c.seq == seq).values(amount=amount))
        rehash(connection, 3)
        with pytest.raises(
            LedgerError, match="transaction 2 leaves customer:a 10 units below zero"
        ):
            check_ledger(connection)


def test_a_balance_that_was_altered_is_named(written: Store) -> None:
    with written.database.write() as connection:
        connection.execute(
            update(BALANCE).where(BALANCE.c.account_code == "reserve").values(units=11)
        )
        with pytest.raises(LedgerError, match=r"the balance of reserve is 11 units, .* up to 10"):
            check_ledger(connection)


def test_a_ledger_rewritten_with_all_its_hashes_is_not_what_was_noted(written: Store) -> None:
    """A forger can make a chain that is right in itself, but not the one that others noted."""
    with written.database.read() as connection:
        noted = check_ledger(connection)
        last = {noted.seq: noted.head}
        LedgerAudit(noted=last).follow(connection)
    with written.database.write() as connection:
        for table in (ENTRY, BALANCE):
            code = table.c.account_code
            change = update(table).where(code == "customer:b")
            connection.execute(change.values(account_code="customer:z"))
        rehash(connection, 1)
        check_ledger(connection)
        with pytest.raises(LedgerError, match="entry 9 is not the one that was noted"):
            LedgerAudit(noted=last).follow(connection)
        with pytest.raises(LedgerError, match="entry 10 was noted and is not there"):
            LedgerAudit(noted={10: bytes(32)}).follow(connection)


def test_the_hash_is_what_the_document_says() -> None:
    """Computed here from the text of docs/REWARDS.md alone."""
    numbers = struct.pack(">QQqQ", 1, 1, -90, 1_750_000_000_250_000)
    packed = b"inferpool.entry.1" + bytes(32) + numbers
    for text in (b"in", b"1", b"external"):
        packed += struct.pack(">I", len(text)) + text
    entry = Entry(1, 1, "in", "1", "external", -90, 1_750_000_000.25)

    assert entry.hashed(FIRST_PREVIOUS) == sha256(packed).digest()
