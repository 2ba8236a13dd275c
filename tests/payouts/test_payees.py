"""Where miners are paid: who says so, and from when on it counts."""

from __future__ import annotations

import pytest
from far_side import DAY

from pool.accounts import AccountError
from pool.store import Store
from pool.store.accounts import (
    account_by_payout_token,
    account_by_token,
    create_account,
    mark_closed,
    renew_payout_token,
)
from pool.store.payees import (
    attest,
    attestation_of,
    changed_payees,
    payee_of,
    payees_of,
    set_payout_address,
)
from shares.money.addresses import AddressError


def set_address(store: Store, name: str, address: str, at: float) -> None:
    set_payout_address(store.database, name, "text", address, at, hold_seconds=DAY)


def test_a_payout_address_is_remembered_for_a_while_after_it_changed(store: Store) -> None:
    """Who changes it is no stranger at once to whom it was shared with."""
    create_account(store.database, "anna", "miner", 1.0)
    for moment, address in ((10.0, "first"), (20.0, "second"), (30.0, "second")):
        set_address(store, "anna", address, moment)
    with store.database.read() as connection:
        payee = payee_of(connection, "anna")
        assert payee is not None
        assert (payee.address, payee.since) == ("second", 20.0)
        assert payees_of(connection, "anna", 19.0) == ("first", "second")
        assert payees_of(connection, "anna", 20.0) == ("second",)
        assert payee_of(connection, "ben") is None


def test_a_change_is_held_and_the_first_address_is_not(store: Store) -> None:
    create_account(store.database, "anna", "miner", 1.0)
    set_address(store, "anna", "first", 10.0)
    with store.database.read() as connection:
        assert payee_of(connection, "anna").usable == 10.0  # type: ignore[union-attr]
    set_address(store, "anna", "second", 20.0)
    with store.database.read() as connection:
        payee = payee_of(connection, "anna")
        assert payee is not None
        assert payee.usable == 20.0 + DAY
        assert "1970-01-02 00:00 UTC" in payee.news()
        assert changed_payees(connection, 10.0) == {"anna": payee}
        assert changed_payees(connection, 20.0) == {}


def test_a_closed_account_can_still_say_where_it_is_paid(store: Store) -> None:
    create_account(store.database, "anna", "miner", 1.0)
    with store.database.write() as connection:
        mark_closed(connection, "anna", 2.0)
    set_address(store, "anna", "first", 10.0)
    with store.database.read() as connection:
        assert payee_of(connection, "anna") is not None


def test_going_back_to_an_old_address_is_a_change_too(store: Store) -> None:
    create_account(store.database, "anna", "miner", 1.0)
    for moment, address in ((10.0, "first"), (20.0, "second"), (30.0, "first")):
        set_address(store, "anna", address, moment)
    with store.database.read() as connection:
        assert payee_of(connection, "anna").usable == 30.0 + DAY  # type: ignore[union-attr]


@pytest.mark.parametrize("address", ["", "line\nbreak", "x" * 129])
def test_an_address_that_no_document_could_hold_is_refused(store: Store, address: str) -> None:
    create_account(store.database, "anna", "miner", 1.0)
    with pytest.raises(AddressError, match="payout address"):
        set_address(store, "anna", address, 2.0)


def test_only_miners_have_payout_addresses(store: Store) -> None:
    create_account(store.database, "carol", "customer", 1.0)
    with pytest.raises(AccountError, match="only miners are paid"):
        set_address(store, "carol", "somewhere", 2.0)
    with pytest.raises(AccountError, match="account list"):
        set_address(store, "nobody", "somewhere", 2.0)


def test_a_payout_token_opens_payouts_and_nothing_else(store: Store) -> None:
    mining = create_account(store.database, "anna", "miner", 1.0)
    first = renew_payout_token(store.database, "anna", 2.0)
    second = renew_payout_token(store.database, "anna", 3.0)
    with store.database.read() as connection:
        assert account_by_payout_token(connection, first) is None
        assert account_by_payout_token(connection, mining) is None
        found = account_by_payout_token(connection, second)
        assert found is not None
        assert found.name == "anna"
        assert account_by_token(connection, second) is None
    create_account(store.database, "carol", "customer", 1.0)
    with pytest.raises(AccountError, match="only miners are paid"):
        renew_payout_token(store.database, "carol", 2.0)


def test_of_a_person_only_a_reference_and_a_hash_are_kept(store: Store) -> None:
    create_account(store.database, "anna", "miner", 1.0)
    attest(store.database, "anna", "case 17", "ab" * 32, 5.0)
    with store.database.read() as connection:
        found = attestation_of(connection, "anna")
    assert found is not None
    assert (found.reference, found.hash) == ("case 17", "ab" * 32)
    for reference, digest in (("", "ab" * 32), ("x" * 201, "ab" * 32), ("a\nb", "ab" * 32)):
        with pytest.raises(AccountError, match="reference"):
            attest(store.database, "anna", reference, digest, 5.0)
    for digest in ("", "AB" * 32, "a" * 63):
        with pytest.raises(AccountError, match="64 hex digits"):
            attest(store.database, "anna", "case", digest, 5.0)
