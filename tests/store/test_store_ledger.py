"""The ledger: balanced, once, never below zero, and able to prove it."""

from __future__ import annotations

import pytest

from pool.store import Store
from pool.store.ledger import LedgerError, OverdrawnError, balance, balances, post
from pool.store.ledgeraudit import check_ledger


def test_a_transaction_moves_units(store: Store) -> None:
    with store.database.write() as connection:
        assert post(connection, "in", "1", (("external", -9), ("customer:a", 9)), 1.0)
        assert post(connection, "out", "1", (("customer:a", -4), ("reserve", 4)), 1.0)

        assert balances(connection) == {"customer:a": 5, "external": -9, "reserve": 4}
        assert balance(connection, "never:used") == 0
        check_ledger(connection)


def test_posting_again_changes_nothing(store: Store) -> None:
    entries = (("external", -9), ("customer:a", 9))
    with store.database.write() as connection:
        assert post(connection, "in", "1", entries, 1.0)
        assert not post(connection, "in", "1", entries, 2.0)
        assert balance(connection, "customer:a") == 9


def test_what_does_not_add_up_is_refused(store: Store) -> None:
    with store.database.write() as connection, pytest.raises(LedgerError, match="add up to zero"):
        post(connection, "in", "1", (("external", -9), ("customer:a", 8)), 1.0)


def test_nobody_falls_below_zero(store: Store) -> None:
    with store.database.write() as connection:
        post(connection, "in", "1", (("external", -9), ("customer:a", 9)), 1.0)
        with pytest.raises(OverdrawnError, match="customer:a has 9 units and 10") as caught:
            post(connection, "out", "1", (("customer:a", -10), ("reserve", 10)), 1.0)
        assert (caught.value.available, caught.value.needed) == (9, 10)
        check_ledger(connection)


def test_prefixes_do_not_reach_neighbours(store: Store) -> None:
    """``_`` and ``.`` in names are letters here, not patterns."""
    entries = (
        ("external", -6),
        ("pending:a_b.r", 1),
        ("pending:axb.r", 2),
        ("pending:a_b2.r", 3),
    )
    with store.database.write() as connection:
        post(connection, "in", "1", entries, 1.0)
        assert balances(connection, "pending:a_b.") == {"pending:a_b.r": 1}


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE entry SET amount = amount + 1 WHERE account_code = 'reserve'",
        "UPDATE balance SET units = units + 1 WHERE account_code = 'reserve'",
        "DELETE FROM balance WHERE account_code = 'reserve'",
    ],
)
def test_tampering_is_found(store: Store, harm: str) -> None:
    with store.database.write() as connection:
        post(connection, "in", "1", (("external", -9), ("reserve", 9)), 1.0)
        check_ledger(connection)
        connection.exec_driver_sql(harm)
        with pytest.raises(LedgerError):
            check_ledger(connection)
