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
