"""Accounts: names, tokens and deposits, also beside a running pool."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.accounts import AccountError, split_user, token_hash
from pool.store import Store, schema
from pool.store.accounts import (
    all_accounts,
    create_account,
    find_account,
    mark_closed,
    payees_of,
    payout_address,
    set_payout_address,
)
from pool.store.escrow import deposit
from pool.store.ledger import balance


def test_a_token_opens_its_account_and_is_not_kept(store: Store) -> None:
    token = create_account(store.database, "alice", "miner", 5.0)
    found = store.account_by_token(token)

    assert found is not None
    assert (found.name, found.role, found.created, found.closed) == ("alice", "miner", 5.0, None)
    assert token.startswith("ip_")
    assert len(token) > 40
    kept = [path.read_bytes() for path in store.folder.glob("inferpool.db*")]
    assert not any(token.encode() in data for data in kept)
    assert any(token_hash(token).encode() in data for data in kept)


def test_another_token_opens_nothing(store: Store) -> None:
    token = create_account(store.database, "alice", "miner", 5.0)

    assert store.account_by_token(token + "x") is None
    assert store.account_by_token("") is None
    assert store.account_by_token("\ud800") is None


def test_a_closed_account_is_not_opened(store: Store) -> None:
    token = create_account(store.database, "alice", "miner", 5.0)
    with store.database.write() as connection:
        mark_closed(connection, "alice", 6.0)

    assert store.account_by_token(token) is None
    with pytest.raises(AccountError, match="exists already"):
        create_account(store.database, "alice", "miner", 7.0)


@pytest.mark.parametrize("name", ["", "Alice", "a.b", "-a", "a" * 33, "a b", "ä", "reserve"])
def test_names_that_would_confuse_are_refused(store: Store, name: str) -> None:
    with pytest.raises(AccountError, match="account name"):
        create_account(store.database, name, "miner", 5.0)


def test_unknown_roles_are_refused(store: Store) -> None:
    with pytest.raises(AccountError, match="miner, customer, operator"):
        create_account(store.database, "alice", "king", 5.0)


def test_another_process_may_make_accounts_meanwhile(store: Store) -> None:
    beside = Store.open(store.folder, durable=False)
    token = create_account(beside.database, "alice", "miner", 5.0)
    beside.close()

    assert store.account_by_token(token) is not None
    with store.database.read() as connection:
        assert [account.name for account in all_accounts(connection)] == ["alice"]
        assert find_account(connection, "bob") is None


def test_only_customers_and_the_reserve_are_credited(store: Store) -> None:
    create_account(store.database, "alice", "miner", 5.0)
    create_account(store.database, "carol", "customer", 5.0)

    assert deposit(store.database, "carol", 70, 6.0) == 70
    assert deposit(store.database, "carol", 30, 6.0) == 100
    assert deposit(store.database, "reserve", 5, 6.0) == 5
    with pytest.raises(AccountError, match="a miner earns"):
        deposit(store.database, "alice", 1, 6.0)
    with pytest.raises(AccountError, match="no account 'nobody'"):
        deposit(store.database, "nobody", 1, 6.0)
    with pytest.raises(AccountError, match="at least 1"):
        deposit(store.database, "carol", 0, 6.0)
    with store.database.read() as connection:
        assert balance(connection, "external") == -105
        assert connection.execute(schema.audit_log.select()).rowcount != 0


@given(user=st.text(max_size=80))
def test_a_user_is_two_names_or_an_error(user: str) -> None:
    with contextlib.suppress(ValueError):
        account, rig = split_user(user)
        assert user == f"{account}.{rig}"
        assert "." not in account + rig


def test_a_user_is_split_at_its_dot() -> None:
    assert split_user("alice.rig-1") == ("alice", "rig-1")
    for wrong in ("alice", "alice.", ".rig", "a.b.c", "Alice.rig", "alice.rig\n"):
        with pytest.raises(ValueError, match=r"ACCOUNT\.RIG"):
            split_user(wrong)


def test_a_payout_address_is_remembered_for_a_while_after_it_changed(store: Store) -> None:
    """Who changes it is no stranger at once to whom it was shared with."""
    create_account(store.database, "anna", "miner", 1.0)
    for moment, address in ((10.0, "first"), (20.0, "second"), (30.0, "second")):
        set_payout_address(store.database, "anna", address, moment)
    with store.database.read() as connection:
        assert payout_address(connection, "anna") == "second"
        assert payees_of(connection, "anna", 19.0) == ("first", "second")
        assert payees_of(connection, "anna", 20.0) == ("second",)
        assert payout_address(connection, "ben") is None


@pytest.mark.parametrize("address", ["", "with space", "line\nbreak", "é", "x" * 129])
def test_an_address_that_no_ledger_could_print_is_refused(store: Store, address: str) -> None:
    create_account(store.database, "anna", "miner", 1.0)
    with pytest.raises(AccountError, match="payout address"):
        set_payout_address(store.database, "anna", address, 2.0)


def test_only_miners_have_payout_addresses(store: Store) -> None:
    create_account(store.database, "carol", "customer", 1.0)
    with pytest.raises(AccountError, match="only miners are paid"):
        set_payout_address(store.database, "carol", "somewhere", 2.0)
    with pytest.raises(AccountError, match="account list"):
        set_payout_address(store.database, "nobody", "somewhere", 2.0)
