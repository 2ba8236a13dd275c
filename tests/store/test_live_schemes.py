"""Schemes in a running pool: the pot of pay per last N units, the advances of pay per share."""

from __future__ import annotations

import pytest
from bookmaker import Bookmaker

from pool.settlement import SettlementPolicy
from pool.store import Store, schema
from pool.store.advances import Risk, advance_wanted, post_advance, risk_of
from pool.store.database import meta_value
from pool.store.escrow import deposit
from pool.store.pots import PotTerms
from pool.store.releases import ReleasePolicy
from pool.store.reserve import reserve_change, spendable_reserve
from pool.store.statements import Span, miner_statement
from shares.money.apportion import PARTS

ROUND = 1_000
RELEASE = ReleasePolicy(hold_seconds=0.0, minimum_rows=0, price=1, every_seconds=0.0)


def cleared(books: Bookmaker, rig: str, job: int, start: int, stop: int) -> None:
    books.judge(books.share(rig, job, start, stop), "cleared")


def now_of(store: Store, account: str) -> tuple[int, dict[str, int], dict[str, int]]:
    """What the account earned, what moved, and where its units are."""
    with store.database.read() as connection:
        found = miner_statement(connection, account, Span(0.0, 1e9))
    moved: dict[str, int] = {}
    for one in found.movements:
        moved[one.kind] = moved.get(one.kind, 0) + one.units
    totals = found.totals()
    return totals["pending"] + totals["cleared"], moved, found.now


# ── pplns ─────────────────────────────────────────────────────────────────────


@pytest.fixture
def pot(books: Bookmaker) -> Bookmaker:
    terms = PotTerms(round_seconds=ROUND, window=100)
    books.policy = SettlementPolicy(release=RELEASE, scheme="pplns", pot=terms)
    for name in ("alice", "bob"):
        books.trust(f"{name}.a")
    books.at = 10.0 * ROUND + 1
    return books


def test_a_round_divides_the_pot_over_the_last_units_before_its_end(pot: Bookmaker) -> None:
    """The share on the window's boundary counts in part; work of before the round counts too."""
    job = pot.job(blocks=(400,))
    cleared(pot, "alice.a", job, 0, 90)
    pot.settle()
    assert pot.balances("pot") == {"pot": 90}
    pot.at += ROUND
    cleared(pot, "bob.a", job, 90, 150)
    pot.settle()  # round 10 is over: alice was alone in it
    assert pot.balances("available") == {"available:alice": 90}
    assert pot.balances("pot") == {"pot": 60}
    pot.at += ROUND
    pot.settle()
    # Of the last 100 units bob's 60 and 40 of alice's 90 count: 36 and 24 of the pot of 60.
    assert pot.balances("available") == {"available:alice": 114, "available:bob": 36}
    assert pot.balances("pot") == {}


def test_what_is_pooled_after_a_rounds_end_waits_for_its_own(pot: Bookmaker) -> None:
    """Settlement may come late: who came after the round was over has no part of it."""
    job = pot.job(blocks=(400,))
    cleared(pot, "alice.a", job, 0, 50)
    pot.settle()
    pot.at += ROUND
    cleared(pot, "bob.a", job, 50, 100)
    pot.settle()
    assert pot.balances("available") == {"available:alice": 50}
    pot.settle()
    assert pot.balances("available") == {"available:alice": 50}, "a round is divided once"


def test_fractions_are_carried_and_every_unit_is_somewhere(pot: Bookmaker) -> None:
    """Three at equal parts of pots that three does not divide: nobody loses a unit for good."""
    pot.policy = SettlementPolicy(
        release=RELEASE, scheme="pplns", pot=PotTerms(round_seconds=ROUND, window=3)
    )
    pot.trust("carl.a")
    job = pot.job(blocks=(400,))
    for start, name in enumerate(("alice", "bob", "carl")):
        cleared(pot, f"{name}.a", job, start, start + 1)
    pot.settle()
    pot.at += ROUND
    pot.settle()
    assert pot.balances("available") == {f"available:{n}": 1 for n in ("alice", "bob", "carl")}
    for turn in range(1, 7):
        # One of them after the other earns one unit: each pot is 1, over the last 3 units.
        cleared(pot, f"{('alice', 'bob', 'carl')[turn % 3]}.a", job, 2 + turn, 3 + turn)
        pot.settle()
        pot.at += ROUND
        pot.settle()
        with pot.store.database.read() as connection:
            parts = {row.account: row.parts for row in connection.execute(schema.fraction.select())}
        kept = pot.balances("pot").get("pot.fractions", 0)
        assert sum(parts.values()) == kept * PARTS
        paid = sum(pot.balances("available").values())
        assert paid + kept == 3 + turn
    assert all(units >= 2 for units in pot.balances("available").values())


def test_a_pooled_statement_adds_up(pot: Bookmaker) -> None:
    job = pot.job(blocks=(400,))
    for start in range(0, 200, 50):
        cleared(pot, f"{'alice' if start % 100 else 'bob'}.a", job, start, start + 50)
        pot.at += ROUND
        pot.settle()
    for name in ("alice", "bob"):
        earned, moved, now = now_of(pot.store, name)
        assert earned == 100
        assert moved["pooled"] == -100
        assert earned + moved["pooled"] + moved["pot_divided"] == sum(now.values())
    assert pot.table(job).available == 200


# ── pps ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def reserve(books: Bookmaker) -> Bookmaker:
    """A reserve of 1,000, and alice's rig with a minimum hold of 20 that it has."""
    release = ReleasePolicy(hold_seconds=1e6, minimum_rows=20, price=1, every_seconds=0.0)
    books.policy = SettlementPolicy(release=release, scheme="pps")
    deposit(books.store.database, "reserve", 1_000, books.at)
    job = books.job(blocks=(400,))
    books.trust("alice.a")
    books.trust("new.a")
    cleared(books, "alice.a", job, 0, 21)
    books.settle()
    advance(books, 10_000)
    return books


def advance(books: Bookmaker, most: int) -> int:
    """As the settler does, after the board gave the units up."""
    with books.store.database.read() as connection:
        wanted = advance_wanted(connection, books.policy.release, most)
    post_advance(books.store.database, wanted, books.at)
    books.check()
    with books.store.database.write() as connection:
        assert reserve_change(connection) == 0, "the board knows already"
    return wanted.units


def test_an_accepted_share_is_paid_at_once_and_the_reserve_gets_it_back(
    reserve: Bookmaker,
) -> None:
    lease = reserve.share("alice.a", 1, 100, 150)
    reserve.settle()
    assert advance(reserve, 10_000) == 50
    assert advance(reserve, 10_000) == 0, "once"
    assert reserve.balances("available") == {"available:alice": 50}
    assert reserve.balances("reserve") == {"reserve": 950}
    reserve.judge(lease, "cleared")
    settled = reserve.settle()
    # 21 and 50 were held: 20 are the minimum, 50 are owed, and one has its hold to pass.
    assert [(one.account, one.units) for one in settled.released] == [("alice", 50)]
    assert settled.reserve_change == 50
    assert reserve.balances("held") == {"held:alice.a": 21}
    assert reserve.balances("reserve") == {"reserve": 1_000}
    earned, moved, now = now_of(reserve.store, "alice")
    assert earned + moved["advanced"] + moved["repaid"] == sum(now.values())


def test_the_reserve_carries_what_is_rejected_until_later_pay_makes_up_for_it(
    reserve: Bookmaker,
) -> None:
    bad = reserve.share("alice.a", 1, 100, 150)
    reserve.settle()
    advance(reserve, 10_000)
    reserve.judge(bad, "rejected")
    reserve.settle()
    assert reserve.balances("available") == {"available:alice": 50}
    assert reserve.balances("reserve") == {"reserve": 951}
    assert reserve.balances("held") == {"held:alice.a": 20}, "no debt takes the minimum hold"
    good = reserve.share("alice.a", 1, 150, 180)
    reserve.judge(good, "cleared")
    reserve.settle()
    assert reserve.balances("reserve") == {"reserve": 981}, "50 were owed, 1 and 30 were there"
    assert reserve.balances("held") == {"held:alice.a": 20}


def test_who_has_no_minimum_hold_is_paid_after_the_verdict(reserve: Bookmaker) -> None:
    """He would have nothing to lose."""
    reserve.judge(reserve.share("new.a", 1, 100, 110), "cleared")
    reserve.share("new.a", 1, 110, 150)
    reserve.settle()
    assert advance(reserve, 10_000) == 0
    assert reserve.balances("available") == {}


def test_a_debt_is_no_hold(reserve: Bookmaker) -> None:
    """Who owes what a rejected share was advanced is paid after the verdict until it is paid."""
    bad = reserve.share("alice.a", 1, 100, 150)
    reserve.settle()
    advance(reserve, 10_000)
    reserve.judge(bad, "rejected")
    for start, units in ((150, 0), (200, 50), (250, 50)):
        good = reserve.share("alice.a", 1, start, start + 50)
        reserve.settle()
        assert advance(reserve, 10_000) == units
        reserve.judge(good, "cleared")
        reserve.settle()


def test_no_more_is_advanced_than_the_board_gives_up(reserve: Bookmaker) -> None:
    reserve.share("alice.a", 1, 100, 150)
    reserve.share("alice.a", 1, 150, 180)
    reserve.settle()
    assert advance(reserve, 40) == 30, "the second fits"
    with reserve.store.database.read() as connection:
        assert spendable_reserve(connection) == 970


def test_what_was_credited_under_another_scheme_is_not_advanced(reserve: Bookmaker) -> None:
    reserve.policy = SettlementPolicy(release=reserve.policy.release)
    reserve.share("alice.a", 1, 100, 150)
    reserve.settle()
    with reserve.store.database.read() as connection:
        assert meta_value(connection, "advanced_to") == "2"
    assert advance(reserve, 10_000) == 0


def test_the_risk_of_the_reserve_is_shown(reserve: Bookmaker) -> None:
    """From what was judged lately; a share that was never rejected is not taken for impossible."""
    with reserve.store.database.read() as connection:
        before = risk_of(connection, reserve.at)
    assert before == Risk(1_000, 0, 1, 0, 21, 0.0, 1.0), "without income"
    for start in range(100, 300, 2):
        cleared(reserve, "alice.a", 1, start, start + 2)
    reserve.close(1)
    reserve.settle()
    with reserve.store.database.read() as connection:
        after = risk_of(connection, reserve.at)
    assert (after.shares, after.rejected, after.largest) == (101, 0, 21)
    assert after.income == pytest.approx(12 / 101)
    assert after.bound == 1.0, "0.2 units are expected to be lost a share, and 0.12 come in"
