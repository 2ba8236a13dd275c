"""Rounds and hand-overs: who is paid, who waits, and who is never paid twice."""

from __future__ import annotations

import pytest
from far_side import DAY, TERMS, Bank, earn, miner, payouts_in, states_of, units_of
from sqlalchemy import select

from pool.accounts import AccountError
from pool.payouts.carrier import Answer, NotTaken, Taken, Unknown
from pool.payouts.office import PayoutError, approve, give_back, note_paid
from pool.payouts.policies import ALLOW, Case, Decision
from pool.payouts.rounds import Terms, pay_round
from pool.payouts.sending import look_up_due, send_due
from pool.store import Store, schema
from pool.store.accounts import mark_closed
from pool.store.payees import attest, set_payout_address, set_payout_minimum
from pool.store.payouts import payouts_by_state, step, wait_of


def wait(store: Store, account: str) -> str | None:
    with store.database.read() as connection:
        return wait_of(connection, account)


def audited(store: Store) -> list[str]:
    with store.database.read() as connection:
        return list(connection.scalars(select(schema.audit_log.c.what)))


def test_a_round_pays_whoever_has_enough_and_all_of_it(store: Store) -> None:
    miner(store, "alice", 1_000)
    miner(store, "bob", 99)
    closed = pay_round(store.database, TERMS, 10.0)
    bank = Bank()
    send_due(store.database, bank, 10.0)
    look_up_due(store.database, bank, 5_000.0)

    assert (closed.payouts, closed.units, closed.waiting) == (1, 1_000, 0)
    assert bank.received() == {"alice": 1_000}
    assert units_of(store) == {"external": -1_099, "available:bob": 99, "paid:alice": 1_000}


def test_a_miner_may_wish_for_less_frequent_payouts(store: Store) -> None:
    miner(store, "alice", 1_000)
    set_payout_minimum(store.database, "alice", 1_001, 5.0)
    assert pay_round(store.database, TERMS, 10.0).payouts == 0
    earn(store, "alice", 1)
    assert pay_round(store.database, TERMS, 20.0).units == 1_001
    with pytest.raises(AccountError, match="minimum"):
        set_payout_minimum(store.database, "alice", -1, 5.0)


def test_a_closed_account_is_paid_to_its_last_unit(store: Store) -> None:
    miner(store, "alice", 7)
    with store.database.write() as connection:
        mark_closed(connection, "alice", 5.0)
    assert pay_round(store.database, TERMS, 10.0).units == 7


def test_a_bad_address_keeps_nobody_else_waiting(store: Store) -> None:
    """One without an address, one whom the far side refuses, one who breaks the policy."""

    def breaks(case: Case) -> Decision:
        if case.account == "bob":
            raise RuntimeError("out of order")
        return ALLOW

    miner(store, "alice", 1_000, address=None)
    miner(store, "bob", 1_000)
    miner(store, "carl", 1_000)
    miner(store, "dora", 1_000)
    closed = pay_round(store.database, Terms("text", 100, [("mine", breaks)]), 10.0)
    bank = Bank(answers={"carl": NotTaken("no such IBAN", again=False)})
    send_due(store.database, bank, 10.0)

    assert (closed.payouts, closed.waiting) == (3, 1)
    assert states_of(store) == {"bob": "manual", "carl": "manual", "dora": "submitted"}
    assert "no payout address" in str(wait(store, "alice"))
    assert bank.received() == {"dora": 1_000}
    reasons = {payout.account: payout.reason for payout in payouts_in(store)}
    assert "mine: it failed: RuntimeError: out of order" in str(reasons["bob"])
    assert "no such IBAN" in str(reasons["carl"])


def test_a_changed_address_waits_for_its_hold_and_the_first_does_not(store: Store) -> None:
    miner(store, "alice", 1_000)
    set_payout_address(store.database, "alice", "text", "IBAN 2", 100.0, hold_seconds=DAY)
    assert pay_round(store.database, TERMS, 100.0 + DAY - 1).payouts == 0
    assert "hold" in str(wait(store, "alice"))
    assert pay_round(store.database, TERMS, 100.0 + DAY).payouts == 1
    assert wait(store, "alice") is None
    (payout,) = payouts_in(store)
    assert payout.address == "IBAN 2"


def test_an_address_of_another_type_is_not_paid(store: Store) -> None:
    miner(store, "alice", 1_000)
    assert pay_round(store.database, Terms("evm", 100), 10.0).payouts == 0
    assert "type evm" in str(wait(store, "alice"))


@pytest.mark.parametrize(
    ("answer", "state", "handed"),
    [
        (NotTaken("busy", again=True), "manual", 6),
        (NotTaken("bad address", again=False), "manual", 1),
        (Unknown("timeout"), "finalised", 1),
        (Taken("x", final=True), "finalised", 1),
    ],
    ids=["busy for ever", "refused", "no answer", "final at once"],
)
def test_what_the_far_side_says_decides(
    store: Store, answer: Answer, state: str, handed: int
) -> None:
    miner(store, "alice", 1_000)
    pay_round(store.database, TERMS, 10.0)
    bank = Bank(answers={"alice": answer})
    for hour in range(48):
        at = 10.0 + 3_600 * hour
        look_up_due(store.database, bank, at)
        send_due(store.database, bank, at)
    (payout,) = payouts_in(store)
    assert payout.state == state
    assert bank.handed[payout.key] == handed


def test_of_two_that_hand_a_payout_over_one_wins(store: Store) -> None:
    """A command beside a running pool: the second sees that the state has moved on."""
    miner(store, "alice", 1_000)
    pay_round(store.database, TERMS, 10.0)
    (seen,) = payouts_in(store)
    with store.database.write() as connection:
        assert step(connection, seen, "submitting", 11.0) is not None
        assert step(connection, seen, "submitting", 11.0) is None
    bank = Bank()
    assert send_due(store.database, bank, 12.0) == 0
    assert not bank.handed


def test_a_late_word_about_an_earlier_attempt_changes_nothing(store: Store) -> None:
    """The state is the same again, and the attempt is not."""
    miner(store, "alice", 1_000)
    pay_round(store.database, TERMS, 10.0)
    (payout,) = payouts_in(store)
    with store.database.write() as connection:
        first = step(connection, payout, "submitting", 11.0)
        assert first is not None
        refused = step(connection, first, "retryable", 12.0)
        assert refused is not None
        second = step(connection, refused, "submitting", 13.0)
        assert second is not None
        assert step(connection, first, "retryable", 14.0) is None
        assert step(connection, second, "submitted", 15.0) is not None


def test_an_address_that_changes_while_policies_are_asked_is_not_paid(store: Store) -> None:
    """What was decided was about the other one."""

    def changes(case: Case) -> Decision:
        set_payout_address(
            store.database, case.account, "text", "IBAN thief", 10.0, hold_seconds=0.0
        )
        return ALLOW

    miner(store, "alice", 1_000)
    assert pay_round(store.database, Terms("text", 100, [("slow", changes)]), 10.0).payouts == 0
    assert units_of(store)["available:alice"] == 1_000


def test_a_new_carrier_says_nothing_of_what_another_handed_over(store: Store) -> None:
    """It has never heard of it, and that is no evidence: a person decides after a day."""
    miner(store, "alice", 1_000)
    pay_round(store.database, TERMS, 10.0)
    old = Bank(name="old", answers={"alice": Unknown("timeout")})
    send_due(store.database, old, 10.0)
    new = Bank(name="new")
    for hour in range(1, 27):
        look_up_due(store.database, new, 10.0 + 3_600 * hour)
        send_due(store.database, new, 10.0 + 3_600 * hour)
    assert states_of(store) == {"alice": "manual"}
    assert not new.handed
    assert "handed over by old" in str(payouts_in(store)[0].reason)


def test_a_pool_that_stops_hands_no_more_over(store: Store) -> None:
    for name in ("alice", "bob", "carl"):
        miner(store, name, 1_000)
    pay_round(store.database, TERMS, 10.0)
    bank, left = Bank(), [None, None]

    def pause() -> None:
        left.pop()

    with pytest.raises(IndexError):
        send_due(store.database, bank, 10.0, pause)
    assert bank.received() == {"alice": 1_000, "bob": 1_000}
    assert states_of(store)["carl"] == "reserved"


def test_a_step_that_there_is_not_is_refused(store: Store) -> None:
    miner(store, "alice", 1_000)
    pay_round(store.database, TERMS, 10.0)
    (payout,) = payouts_in(store)
    for state in ("submitted", "finalised", "returned", "retryable", "reserved"):
        with store.database.write() as connection, pytest.raises(ValueError, match="does not go"):
            step(connection, payout, state, 11.0)
    assert units_of(store)["payout:alice"] == 1_000


def test_a_person_approves_gives_back_or_notes_what_was_paid(store: Store) -> None:
    def hold(_: Case) -> Decision:
        return Decision("hold", "look first")

    for name in ("alice", "bob", "carl"):
        miner(store, name, 1_000)
    pay_round(store.database, Terms("text", 100, [("careful", hold)]), 10.0)
    bank = Bank()
    send_due(store.database, bank, 10.0)
    assert not bank.handed
    ids = {payout.account: str(payout.id) for payout in payouts_in(store)}
    approve(store.database, ids["alice"], 20.0)
    give_back(store.database, ids["bob"], 20.0, "by wish")
    send_due(store.database, bank, 20.0)
    assert bank.received() == {"alice": 1_000}
    note_paid(store.database, ids["carl"], 20.0, "cash")
    note_paid(store.database, ids["alice"], 21.0, "wire 1")

    assert units_of(store) == {
        "external": -3_000,
        "available:bob": 1_000,
        "paid:alice": 1_000,
        "paid:carl": 1_000,
    }
    with pytest.raises(PayoutError, match="is finalised: only one that is manual"):
        give_back(store.database, ids["alice"], 22.0, "again")
    with pytest.raises(PayoutError, match="no payout"):
        approve(store.database, "99", 22.0)
    with store.database.read() as connection:
        states = payouts_by_state(connection)
    assert states["finalised"] == (2, 2_000)
    assert states["returned"] == (1, 1_000)
    assert any("hold, careful: look first" in what for what in audited(store))


def test_a_refusal_leaves_the_units_and_is_asked_again(store: Store) -> None:
    """A policy that wants an attested owner: the units wait until there is one."""

    def attested(case: Case) -> Decision:
        if case.attestation is None:
            return Decision("refuse", "no attestation")
        return ALLOW

    terms = Terms("text", 100, [("attested", attested)])
    miner(store, "alice", 1_000)
    assert pay_round(store.database, terms, 10.0).waiting == 1
    assert pay_round(store.database, terms, 20.0).waiting == 1
    assert units_of(store)["available:alice"] == 1_000
    assert wait(store, "alice") == "the operator's rules do not allow it: ask the operator"
    assert any("refuse, attested: no attestation" in what for what in audited(store))
    assert sum("refuse" in what for what in audited(store)) == 1, "one decision, one line"
    attest(store.database, "alice", "case 17", "ab" * 32, 25.0)
    assert pay_round(store.database, terms, 30.0).units == 1_000
    assert any("1000 units to alice: allow" in what for what in audited(store))
