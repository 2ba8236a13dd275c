"""Policies: an operator's rules about whom the pool pays."""

from __future__ import annotations

from pathlib import Path

import pytest
from far_side import DAY, Bank, earn, miner, payouts_in, states_of

from pool.payouts.policies import ALLOW, Case, Decision, PolicyError, decide, load_policies
from pool.payouts.rounds import Terms, pay_round
from pool.payouts.sending import look_up_due, send_due
from pool.store import Store


def case(address: str = "IBAN 1", units: int = 100, recent: int = 0) -> Case:
    return Case("alice", units, "text", address, None, 1_000.0, lambda _: recent)


def test_a_listed_address_is_refused_in_any_spelling(tmp_path: Path) -> None:
    listed = tmp_path / "blocked.txt"
    listed.write_text(
        "# those\n0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed  # since May\n\nIBAN 7\n"
    )
    policies = load_policies([("block-list", {"file": str(listed)})])

    for address in ("0x5AAEB6053F3E94C9B9A09F33669435E7EF1BEAED", "iban  7"):
        assert decide(policies, case(address)).verdict == "refuse"
    assert decide(policies, case("IBAN 8")) == ALLOW
    listed.write_text("IBAN 8\n")
    assert decide(policies, case("IBAN 8")).verdict == "refuse", "a new line counts at once"
    listed.unlink()
    assert decide(policies, case("IBAN 9")).verdict == "hold", "no list, no payout"


def test_what_is_above_the_cap_waits_for_a_person(store: Store) -> None:
    """The cap counts what was begun within its days."""
    policies = load_policies([("cap", {"units": 1_500, "days": 30})])
    terms = Terms("text", 100, policies)
    miner(store, "alice", 1_000)
    for at, state in ((10.0, "finalised"), (10 * DAY, "manual")):
        pay_round(store.database, terms, at)
        bank = Bank()
        send_due(store.database, bank, at)
        look_up_due(store.database, bank, at + 7_200)
        assert states_of(store) == {"alice": state}
        earn(store, "alice", 1_000)
    assert "2000 units within 30 days are above 1500" in str(payouts_in(store)[-1].reason)
    pay_round(store.database, terms, 50 * DAY)
    assert payouts_in(store)[-1].state == "reserved"


def test_the_strictest_answer_counts() -> None:
    def says(verdict: str) -> tuple[str, object]:
        return verdict, lambda _: Decision(verdict, f"because {verdict}")

    every = [says("allow"), says("refuse"), says("hold")]
    assert decide(every, case()) == Decision("refuse", "refuse: because refuse")  # type: ignore[arg-type]
    assert decide(every[::2], case()).verdict == "hold"  # type: ignore[arg-type]
    assert decide([says("maybe")], case()).verdict == "hold"  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("magic", {}, "block-list, cap"),
        ("cap", {}, "cap: the setting 'units' is missing"),
        ("cap", {"units": 0}, "at least 1"),
        ("cap", {"units": 5, "days": -1}, "days must be"),
        ("cap", {"units": 5, "weeks": 1}, "no setting 'weeks'"),
        ("block-list", {"file": "/nowhere/at/all"}, "/nowhere/at/all"),
    ],
)
def test_bad_settings_are_named(name: str, settings: dict[str, object], words: str) -> None:
    with pytest.raises(PolicyError, match=f"payouts.policies: .*{words}"):
        load_policies([(name, settings)])
