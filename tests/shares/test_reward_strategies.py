"""Hoppers, splitters and withholders gain nothing here; the lab finds a gain where there is one."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from shares.money.examplelog import example_log, unknown_length_log
from shares.money.lab import (
    Settings,
    classic_experiment,
    experiment,
    position_worth,
    round_work,
    schemes_for,
)
from shares.money.schemes import Classic, Pplns, Pps, Proportional, Scheme
from shares.money.sharelog import JobRecord, ShareLog, ShareRecord, share_log
from shares.money.strategies import Gain, by_job, by_round, gain, hopper, splitter, withholder

ACCOUNTS = ["miner01", "miner06", "miner12"]
FIXED: list[Scheme] = [Proportional(), Pps(30_000)]
each_fixed = pytest.mark.parametrize("scheme", FIXED, ids=lambda scheme: scheme.name)
each_seed = pytest.mark.parametrize("seed", [1, 2])


def steady_log(rounds: int, *, shares: int = 12, warm: int = 20) -> ShareLog:
    """Each round has 120 units of work, a share every 5 minutes; ``me`` has each fourth.

    ``old`` fills the window first, and works on when the others have stopped.
    """
    made = []
    for number in range(rounds + 2 * warm):
        for place in range(shares):
            busy = warm <= number < warm + rounds
            account = ("old", "me", "ann", "bob")[(place + number) % 4] if busy else "old"
            made.append(ShareRecord(3600.0 * number + 300 * place + 1, account, "1", 10, 30, True))
    work = 10 * len(made)
    return share_log(made, [JobRecord("1", work, 3 * work, None)])


# ── a fixed price ────────────────────────────────────────────────────────────


@each_fixed
@each_seed
@pytest.mark.parametrize("account", ACCOUNTS)
@pytest.mark.parametrize("part", [0.1, 0.435, 0.9])
def test_a_hopper_gains_nothing_at_a_fixed_price(
    scheme: Scheme, seed: int, account: str, part: float
) -> None:
    """Whichever part of a job or an hour it works in."""
    log = example_log(seed)
    for position in (by_job(log), by_round(3600)):
        for start, stop in ((0.0, part), (1 - part, math.inf)):
            found = gain(
                scheme, log, account, hopper(log, account, position, start=start, stop=stop)
            )
            assert found.gained == 0


@each_fixed
@each_seed
@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_splitter_gains_nothing_at_a_fixed_price(scheme: Scheme, seed: int, account: str) -> None:
    log = example_log(seed)
    for pieces in (2, 10, 100):
        assert gain(scheme, log, account, splitter(log, account, pieces)).gained == 0


def test_a_splitter_gains_a_unit_at_most_where_the_price_is_not_whole() -> None:
    """Over all jobs together, into however many accounts."""
    shares, jobs = [], []
    for number in range(200):
        name = str(number)
        for place in range(24):
            account = "me" if place % 2 else "other"
            shares.append(ShareRecord(number + place / 100, account, name, 1 + place % 5, 0, True))
        work = sum(share.work for share in shares if share.job == name)
        jobs.append(JobRecord(name, work, 2 * work + number % work, number + 1.0))
    log = share_log(shares, jobs)
    for pieces in (2, 7, 50):
        found = gain(Proportional(), log, "me", splitter(log, "me", pieces))
        assert -pieces <= found.gained <= 1


@pytest.mark.parametrize("late", [None, 0.0, 600.0, 7200.0])
@each_seed
def test_a_withholder_gains_nothing_under_any_of_the_pools_schemes(
    late: float | None, seed: int
) -> None:
    """What comes late is worth its price at most, what never comes nothing."""
    log = example_log(seed)
    for scheme in FIXED:
        for every in (1, 5):
            found = gain(scheme, log, "miner06", withholder(log, "miner06", every=every, late=late))
            assert found.gained <= 0
            if late is None:
                assert found.gained < 0
            if late == 0:
                assert found.gained == 0


# ── pplns ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("start", "stop"), [(0.0, 0.435), (0.0, 0.1), (0.5, 1.0), (0.9, 1.0)])
def test_a_hopper_of_a_steady_pplns_pool_gains_nothing(start: float, stop: float) -> None:
    """A window of whole rounds pays each unit of work equally often, whenever it was done."""
    log = steady_log(40)
    scheme = Pplns(window=10 * 120)
    found = gain(scheme, log, "me", hopper(log, "me", by_round(3600), start=start, stop=stop))

    assert abs(found.gained) <= 1
    assert found.elsewhere > 0


@pytest.mark.parametrize("window", [1_250, 1_333, 2_399])
@pytest.mark.parametrize(("start", "stop"), [(0.0, 0.435), (0.9, 1.0)])
def test_a_hopper_of_any_pplns_pool_gains_at_most_what_a_round_is_of_the_window(
    window: int, start: float, stop: float
) -> None:
    log = steady_log(40)
    scheme = Pplns(window=window)
    found = gain(scheme, log, "me", hopper(log, "me", by_round(3600), start=start, stop=stop))
    worth = position_worth(log, scheme)

    assert worth == 120 / window
    # Honest pay is within the same bound of the price, so the two differ by twice that at most.
    assert abs(found.relative) <= (1 + worth) / (1 - worth) - 1


def test_a_window_shorter_than_a_round_pays_those_who_come_late_and_the_lab_shows_it() -> None:
    log = steady_log(40)
    scheme = Pplns(window=12)
    late = gain(scheme, log, "me", hopper(log, "me", by_round(3600), start=0.9, stop=1.0))

    assert late.relative > 0.5
    assert position_worth(log, scheme) == 10


@pytest.mark.parametrize("pieces", [2, 10, 100])
@each_seed
def test_a_splitter_gains_a_unit_at_most_under_pplns(pieces: int, seed: int) -> None:
    log = example_log(seed)
    scheme = Pplns(window=100_000)
    for account in ACCOUNTS:
        found = gain(scheme, log, account, splitter(log, account, pieces))
        assert -pieces <= found.gained <= 1


@pytest.mark.parametrize("late", [None, 600.0, 7200.0])
def test_a_withholder_of_a_steady_pplns_pool_gains_no_more_than_a_position_is_worth(
    late: float | None,
) -> None:
    """What comes late takes work from one round to another, and both pots with it."""
    log = steady_log(40)
    scheme = Pplns(window=1_200)
    found = gain(scheme, log, "me", withholder(log, "me", every=5, late=late))

    assert found.relative <= 0.002 < position_worth(log, scheme)
    if late is None:
        assert found.relative < -0.1


# ── the contrast ─────────────────────────────────────────────────────────────


def test_the_classic_hopper_gains_28_percent_and_the_lab_finds_it() -> None:
    """Rosenfeld (2011): it leaves at 0.435 of the expected round; 1 + x·exp(-x) of fair pay."""
    log = unknown_length_log(1)
    found = gain(Classic(), log, "miner02", hopper(log, "miner02", by_job(log), stop=0.435))

    assert found.relative == pytest.approx(0.435 * math.exp(-0.435), abs=0.025)


def test_who_comes_late_to_a_classic_round_loses() -> None:
    log = unknown_length_log(2, rounds=500)
    found = gain(
        Classic(), log, "miner02", hopper(log, "miner02", by_job(log), start=0.435, stop=math.inf)
    )

    assert found.relative < -0.15


def test_the_same_rounds_at_a_fixed_price_give_a_hopper_nothing() -> None:
    """It is the unknown length that is worth something, and here every length is paid for."""
    log = unknown_length_log(1, rounds=200)
    paid = [JobRecord(j.job, j.work, 1_000 * j.work, j.ended) for j in log.jobs.values()]
    known = share_log(log.shares, paid)
    deviation = hopper(known, "miner02", by_job(known), stop=0.435)

    assert gain(Proportional(), known, "miner02", deviation).gained == 0


# ── what a deviation is ──────────────────────────────────────────────────────


def test_rows_that_a_hopper_leaves_are_computed_by_somebody_else() -> None:
    log = example_log(1)
    left = hopper(log, "miner06", by_job(log), stop=0.4)

    assert sum(share.work for share in left.log.shares) == sum(s.work for s in log.shares)
    assert left.elsewhere
    assert (
        left.log.work_by_account()["miner06"] + sum(s.work for s in left.elsewhere)
        == (log.work_by_account()["miner06"])
    )


def test_a_hopper_goes_by_verified_work_beside_that_of_an_average_job() -> None:
    """Jobs of 10 and 30: 20 on average. A rejected share brings a job no nearer to its end."""
    shares = [
        ShareRecord(1.0, "a", "1", 10, 0, True),
        ShareRecord(2.0, "a", "2", 8, 0, True),
        ShareRecord(3.0, "b", "2", 5, 0, False),
        ShareRecord(4.0, "a", "2", 22, 0, True),
    ]
    log = share_log(shares, [JobRecord("1", 10, 0, 1.0), JobRecord("2", 30, 0, 4.0)])
    position = by_job(log)

    assert [position(share) for share in log.shares] == [0.0, 0.0, 0.4, 0.4]
    assert by_round(60)(ShareRecord(90.0, "a", "1", 1, 0, True)) == 0.5


def test_a_splitter_takes_names_that_nobody_has() -> None:
    shares = [
        ShareRecord(1.0, "me", "1", 5, 5, True),
        ShareRecord(2.0, "me~1", "1", 5, 5, True),
    ]
    log = share_log(shares, [JobRecord("1", 10, 10, 4.0)])

    assert gain(Proportional(), log, "me", splitter(log, "me", 2)).units == 5


def test_a_share_that_comes_after_its_job_is_worth_nothing() -> None:
    shares = [
        ShareRecord(1.0, "me", "1", 5, 5, True),
        ShareRecord(2.0, "you", "1", 5, 5, True),
    ]
    log = share_log(shares, [JobRecord("1", 10, 10, 4.0)])

    in_time = gain(Proportional(), log, "me", withholder(log, "me", every=1, late=3.0))
    too_late = gain(Proportional(), log, "me", withholder(log, "me", every=1, late=3.5))
    assert (in_time.units, too_late.units) == (5, 0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda log: splitter(log, "miner01", 1), "pieces must be at least 2"),
        (lambda log: withholder(log, "miner01", every=0), "every must be at least 1"),
        (lambda log: withholder(log, "miner01", every=1, late=-1.0), "late must be a number"),
        (lambda log: withholder(log, "miner01", every=1, late=math.inf), "late must be a number"),
        (
            lambda log: gain(Pps(), log, "x", splitter(log, "x", 2)),
            "account x has no shares in this log",
        ),
    ],
)
def test_strategies_that_make_no_sense_are_refused(make, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(example_log(1))


def test_pay_of_nothing_is_no_gain() -> None:
    assert Gain(0, 0, Fraction()).relative == 0


# ── the whole experiment ─────────────────────────────────────────────────────


def test_an_experiment_tells_pay_variance_and_gains_of_every_scheme() -> None:
    log = example_log(1)
    settings = Settings()
    report = experiment(log, settings, schemes_for(log, settings))
    proportional, pplns, pps = report.results

    assert report.account == "miner07"
    assert [len(result.trials) for result in report.results] == [5, 5, 5]
    assert all(result.outcome.missing == 0 for result in report.results)
    for result in report.results:
        assert sum(one.units for one in result.accounts) == sum(result.outcome.pay().values())
    # A fixed price paid at once does not vary; a window does.
    assert pps.variance == 0
    assert proportional.variance is not None
    assert pplns.variance is not None
    assert proportional.variance < pplns.variance
    assert isinstance(pplns.scheme, Pplns)
    assert pplns.scheme.window == 20 * round_work(log, 3600).mean


def test_variance_is_of_pay_for_a_unit_of_work_in_equal_spans() -> None:
    """Worked by hand: 3 units, then 0 and again 3 for each unit of work in three spans."""
    shares = [
        ShareRecord(0.0, "me", "1", 10, 30, True),
        ShareRecord(20.0, "me", "1", 10, 30, False),  # a span holds its end
        ShareRecord(30.0, "me", "1", 20, 60, True),
    ]
    log = share_log(shares, [JobRecord("1", 30, 90, 30.0)])
    report = experiment(log, Settings(spans=3), [Proportional()])

    assert report.results[0].accounts[0].variance == pytest.approx(2.0)
    assert report.results[0].accounts[0].per_unit == 90 / 40


def test_closing_pays_out_what_is_carried() -> None:
    log = example_log(1)
    scheme = Pplns(window=50_000)
    open_one = experiment(log, Settings(), [scheme]).results[0].outcome
    closed = experiment(log, Settings(), [scheme], close=True).results[0].outcome

    assert open_one.fractions > 0
    assert closed.fractions == closed.missing == 0


def test_a_log_without_shares_has_no_strategies_and_no_risk() -> None:
    log = share_log([], [JobRecord("1", 5, 5, None)])
    report = experiment(log, Settings(), schemes_for(log, Settings()))

    assert (report.account, report.risk) == (None, None)
    assert [result.trials for result in report.results] == [[], [], []]


def test_the_contrast_is_the_classic_scheme_alone() -> None:
    report = classic_experiment(unknown_length_log(1, rounds=50), Settings())

    assert [result.scheme.name for result in report.results] == ["classic"]
    assert report.results[0].trials[0].gain.relative > 0.1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(part=1.0), "part must be between 0 and 1"),
        (Settings(round_seconds=0), "round must be at least 1 second"),
        (Settings(spans=0), "spans must be at least 1"),
        (Settings(account="nobody"), "account nobody has no shares"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: Settings, said: str) -> None:
    log = example_log(1)
    with pytest.raises(ValueError, match=said):
        experiment(log, settings, schemes_for(log, settings))
