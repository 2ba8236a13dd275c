"""Every unit that comes in goes out, under each scheme, in whatever order a log is read."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from shares.money.examplelog import example_log, unknown_length_log
from shares.money.schemes import (
    Classic,
    Outcome,
    Pplns,
    Pps,
    Proportional,
    Scheme,
    pplns_weights,
)
from shares.money.sharelog import JobRecord, ShareLog, ShareRecord, share_log

KEY = b"a key"
SCHEMES: list[Scheme] = [
    Proportional(key=KEY),
    Pplns(window=50, round_seconds=10, key=KEY),
    Pps(income_ppm=30_000),
    Classic(key=KEY),
]
each_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)


@st.composite
def logs(draw: st.DrawFn, *, whole_price: bool = False) -> ShareLog:
    """Small logs: a few accounts and jobs, any price, rejected shares, jobs that still run."""
    shares, jobs = [], []
    for number in range(draw(st.integers(1, 4))):
        name = str(number)
        rows = draw(
            st.lists(
                st.tuples(
                    st.integers(0, 60), st.sampled_from("abcde"), st.integers(1, 40), st.booleans()
                ),
                max_size=12,
            )
        )
        done = sum(work for _, _, work, cleared in rows if cleared)
        work = done + draw(st.integers(0 if done else 1, 30))
        price = draw(st.integers(0, 5))
        bounty = price * work + (0 if whole_price else draw(st.integers(0, work - 1)))
        shares += [ShareRecord(at, who, name, w, w * price, ok) for at, who, w, ok in rows]
        jobs.append(JobRecord(name, work, bounty, draw(st.sampled_from([None, 60.0, 75.0]))))
    return share_log(shares, jobs)


@each_scheme
@settings(max_examples=80)
@given(log=logs())
def test_every_unit_that_comes_in_goes_out_once(scheme: Scheme, log: ShareLog) -> None:
    found = scheme.replay(log)

    assert found.missing == 0
    assert found.brought == log.bounty
    assert all(payment.units >= 0 for payment in found.payments)
    assert found.returned >= 0
    assert found.open >= 0
    assert sum(found.carried.values()) == found.fractions << 32
    closed = found.closed(99.0, KEY)
    assert (closed.missing, closed.fractions) == (0, 0)
    assert sum(closed.pay().values()) == sum(found.pay().values()) + found.fractions


@each_scheme
def test_a_unit_that_is_lost_would_be_seen(scheme: Scheme) -> None:
    found = scheme.replay(example_log(1))

    assert replace(found, payments=found.payments[1:]).missing == found.payments[0].units
    assert replace(found, returned=found.returned + 1).missing == -1


@each_scheme
@settings(max_examples=40)
@given(log=logs(), seed=st.randoms(use_true_random=False))
def test_the_order_of_a_log_does_not_matter(scheme: Scheme, log: ShareLog, seed) -> None:
    shares, jobs = list(log.shares), list(log.jobs.values())
    seed.shuffle(shares)
    seed.shuffle(jobs)
    again, first = scheme.replay(share_log(shares, jobs)), scheme.replay(log)

    assert again.pay() == first.pay()
    assert again.carried == first.carried
    assert (again.returned, again.open) == (first.returned, first.open)


# ── proportional ─────────────────────────────────────────────────────────────

VECTOR = {"a": 1_000_000, "b": 20_000, "c": 5_000, "d": 10, "e": 1}


def test_proportional_divides_a_finished_job_as_the_published_vector() -> None:
    """open-ethereum-pool's: 5,000,000,000 units over 1,025,011 of work."""
    shares = [ShareRecord(1.0, name, "1", work, 0, True) for name, work in VECTOR.items()]
    log = share_log(shares, [JobRecord("1", sum(VECTOR.values()), 5_000_000_000, 2.0)])
    found = Proportional(key=KEY).replay(log)

    assert found.closed(3.0, KEY).pay() == {
        "a": 4_877_996_431,
        "b": 97_559_929,
        "c": 24_389_982,
        "d": 48_780,
        "e": 4_878,
    }
    assert found.returned == 0


@given(log=logs(whole_price=True))
def test_at_a_whole_price_a_unit_of_verified_work_has_it_and_nothing_is_carried(
    log: ShareLog,
) -> None:
    found = Proportional().replay(log)
    paid: dict[str, int] = defaultdict(int)
    for share in log.shares:
        paid[share.account] += share.units if share.cleared else 0

    assert found.fractions == 0
    assert {name: units for name, units in found.pay().items() if units} == {
        name: units for name, units in paid.items() if units
    }


def test_what_nobody_did_goes_back_to_the_customer() -> None:
    """And does not overpay those who stayed."""
    shares = [
        ShareRecord(1.0, "alice", "1", 40, 120, True),
        ShareRecord(2.0, "bob", "1", 60, 180, False),
    ]
    log = share_log(shares, [JobRecord("1", 100, 300, 3.0)])
    found = Proportional().replay(log)

    assert {name: units for name, units in found.pay().items() if units} == {"alice": 120}
    assert found.returned == 180


def test_a_running_job_keeps_its_bounty_and_pays_what_is_cleared() -> None:
    shares = [ShareRecord(1.0, "alice", "1", 40, 120, True)]
    found = Proportional().replay(share_log(shares, [JobRecord("1", 100, 300, None)]))

    assert (found.pay(), found.open, found.returned) == ({"alice": 120}, 180, 0)


# ── pplns ────────────────────────────────────────────────────────────────────


def test_the_share_on_the_boundary_counts_in_part() -> None:
    newest_first = [("carol", 30), ("bob", 50), ("alice", 70), ("dave", 10)]

    assert pplns_weights(newest_first, 100) == {"carol": 30, "bob": 50, "alice": 20}
    assert pplns_weights(newest_first, 80) == {"carol": 30, "bob": 50}
    assert pplns_weights(newest_first, 1) == {"carol": 1}


def test_a_window_that_is_not_full_counts_the_work_that_there_is() -> None:
    assert pplns_weights([("bob", 50), ("alice", 70)], 1_000) == {"bob": 50, "alice": 70}
    assert pplns_weights([], 1_000) == {}


@given(
    work=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=30),
    window=st.integers(1, 500),
)
def test_a_window_holds_what_it_has_room_for(work: list[tuple[str, int]], window: int) -> None:
    weights = pplns_weights(work, window)

    assert sum(weights.values()) == min(window, sum(done for _, done in work))


def test_no_more_is_read_than_the_window_needs() -> None:
    def newest_first():
        yield "alice", 60
        yield "bob", 60
        raise AssertionError("read on")

    assert pplns_weights(newest_first(), 100) == {"alice": 60, "bob": 40}


@pytest.mark.parametrize(
    ("work", "window", "said"),
    [([("a", 1)], 0, "window must be at least 1"), ([("a", -1)], 5, "work of a is negative")],
)
def test_a_window_that_makes_no_sense_is_refused(work, window: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        pplns_weights(work, window)


def test_pplns_pays_a_round_to_the_last_units_of_work() -> None:
    shares = [
        ShareRecord(1.0, "alice", "1", 100, 300, True),
        ShareRecord(5.0, "bob", "1", 100, 300, False),
        ShareRecord(12.0, "carol", "1", 60, 180, True),
    ]
    log = share_log(shares, [JobRecord("1", 200, 600, 13.0)])
    found = Pplns(window=100, round_seconds=10).replay(log)

    # The first round is Alice's alone; of the second's window 60 are Carol's and 40 hers.
    assert found.pay() == {"alice": 300 + 72, "carol": 108}
    assert [payment.at for payment in found.payments] == [10.0, 20.0, 20.0]
    assert found.returned == 600 - 480


@settings(max_examples=60)
@given(
    rounds=st.lists(
        st.lists(
            st.tuples(st.sampled_from("abc"), st.integers(1, 20)), min_size=1, max_size=5
        ).filter(lambda one: sum(work for _, work in one) <= 60),
        min_size=1,
        max_size=12,
    ),
    me=st.integers(0, 30),
)
def test_with_a_full_window_no_unit_of_work_is_worth_more_than_its_price_and_a_round_of_it(
    rounds: list[list[tuple[str, int]]], me: int
) -> None:
    """Its pay is its price within (work of the busiest round) / window, whenever it was done."""
    window, price = 120, 1_000
    filling = [[("old", 60)], [("old", 60)]]
    flat = [(number, one) for number, shares in enumerate(rounds, 2) for one in shares]
    marked = me % len(flat)
    busiest = 60
    shares = [
        ShareRecord(10.0 * n + 1, who, "1", work, price * work, True)
        for n, one in enumerate(filling)
        for who, work in one
    ]
    shares += [
        ShareRecord(
            10.0 * n + 1 + at / 100, "me" if at == marked else who, "1", work, price * work, True
        )
        for at, (n, (who, work)) in enumerate(flat)
    ]
    shares += [
        ShareRecord(10.0 * (n + 2 + len(rounds)) + 1, "late", "1", 60, price * 60, True)
        for n in range(4)
    ]
    total = sum(share.work for share in shares)
    log = share_log(shares, [JobRecord("1", total, price * total, None)])
    units = Pplns(window=window, round_seconds=10).replay(log).pay()["me"]
    fair = flat[marked][1][1] * price

    assert abs(units - fair) <= Fraction(busiest, window) * fair + 1


# ── pps ──────────────────────────────────────────────────────────────────────


def test_pps_pays_at_acceptance_and_the_reserve_carries_what_is_rejected() -> None:
    shares = [
        ShareRecord(1.0, "alice", "1", 40, 120, True),
        ShareRecord(2.0, "bob", "1", 60, 180, False),
    ]
    log = share_log(shares, [JobRecord("1", 100, 300, 3.0)])
    found = Pps(income_ppm=30_000).replay(log)

    assert found.pay() == {"alice": 120, "bob": 180}
    assert [payment.at for payment in found.payments] == [1.0, 2.0]
    assert (found.returned, found.income, found.reserve) == (180, 9, 9 - 180)


@pytest.mark.parametrize("scheme", [Pplns(window=10), Pps()], ids=lambda scheme: scheme.name)
def test_pay_beyond_a_bounty_is_refused(scheme: Scheme) -> None:
    shares = [ShareRecord(1.0, "alice", "7", 10, 31, True)]
    log = share_log(shares, [JobRecord("7", 10, 30, 2.0)])

    with pytest.raises(ValueError, match=r"job 7: its cleared shares have 31 units.*bounty of 30"):
        scheme.replay(log)


# ── logs ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("shares", "jobs", "said"),
    [
        ([ShareRecord(1.0, "a", "2", 1, 1, True)], [], "job 2 has shares and no line"),
        ([], [JobRecord("1", 1, 1, None), JobRecord("1", 1, 1, None)], "job 1 is told twice"),
        (
            [ShareRecord(1.0, "a", "1", 2, 1, True)],
            [JobRecord("1", 1, 1, None)],
            "job 1: shares with work 2 were cleared, and its work is 1",
        ),
    ],
)
def test_a_log_whose_shares_do_not_fit_its_jobs_is_refused(shares, jobs, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        share_log(shares, jobs)


def test_an_example_is_made_from_its_seed_alone() -> None:
    log = example_log(7)

    assert log == example_log(7)
    assert log != example_log(8)
    assert unknown_length_log(7, rounds=5) == unknown_length_log(7, rounds=5)
    assert any(job.ended is None for job in log.jobs.values())
    assert any(not share.cleared for share in log.shares)
    assert Proportional().replay(log).returned > 0


def test_an_empty_log_pays_nobody() -> None:
    for scheme in SCHEMES:
        assert scheme.replay(share_log([], [])) == Outcome(0, (), 0, 0)
