"""Jobs whose customer bought assurance: drawn, checked by rigs, paid from what it cost."""

from __future__ import annotations

import numpy as np
from driver import KEY, House

from shares.board import Policy, checks
from shares.board import effects as fx
from shares.trust.sampling import CHECK, draw, least_of

ESTABLISHED = Policy(probation_shares=0, min_difficulty=100, initial_difficulty=2_000)
PPM = 1_000_000


def _house(policy: Policy = ESTABLISHED, **options: int) -> House:
    house = House(policy, **options)
    for account in ("anna", "ben", "cleo"):
        house.established(account)
    return house


def test_rows_of_an_assured_job_are_drawn_with_its_chance_at_least(of) -> None:
    """About a quarter of 2,000 rows, where established rigs are sampled at 1 %."""
    house = _house()
    anna, ben = house.connect("anna"), house.connect("ben")
    house.open_job(rows=2_000, assurance_ppm=250_000)
    house.work(anna, ben)

    house.assert_complete()
    assert abs(sum(drawn.by == "rig" for drawn in house.drawn.values()) - 500) < 80


def test_a_part_stores_the_least_chance_of_its_rows(of) -> None:
    """The draw is made again from the record, the rows' work and the epoch's key alone."""
    house = _house(Policy(probation_shares=0, min_difficulty=100, initial_difficulty=20_000))
    house.open_job(job=1, rows=30, work=100)
    house.open_job(job=2, rows=40, work=100, assurance_ppm=600_000, account="other")
    house.open_job(job=3, rows=30, work=100, account="third")
    anna = house.connect("anna")
    lease = next(iter(anna.leases.values()))
    jobs = np.array([job for job, _, _ in lease.keys])
    (part,) = of(house.submit(anna), fx.PartAccepted)
    works = np.full(part.rows, 100, np.int64)
    again = draw(
        KEY,
        CHECK,
        part.lease,
        0,
        part.digest,
        works,
        part.check_rate_ppm,
        part.row_work,
        None,
        least_of(part.least, part.rows),
    )

    assert set(jobs.tolist()) == {1, 2, 3}
    assert (least_of(part.least, part.rows) == np.where(jobs == 2, 600_000, 0)).all()
    assert part.check_rows == again
    assert {jobs[row] for row in again} >= {2}


def test_an_ordinary_part_stores_no_least_chance(of) -> None:
    house = _house()
    house.open_job(rows=20)
    anna = house.connect("anna")
    (part,) = of(house.submit(anna), fx.PartAccepted)

    assert part.least == ()


def test_full_has_every_row_computed_by_another_account_from_its_own_levy() -> None:
    """No row for the referee but its own sample, nothing from the reserve, nothing left undone."""
    house = _house(reserve=10**6)
    rigs = [house.connect(name) for name in ("anna", "ben", "cleo")]
    house.open_job(rows=600, assurance_ppm=PPM)
    house.work(*rigs)

    house.assert_complete()
    by_rigs = [d for d in house.drawn.values() if d.by == "rig"]
    referee = {(d.job, d.block, d.row) for d in house.drawn.values() if d.by == "referee"}
    assert len({(d.job, d.block, d.row) for d in by_rigs} | referee) == 600
    assert set(house.referee_rows) == referee
    assert len(referee) < 20
    for drawn in by_rigs:
        checker = house.ended[drawn.check].checker
        assert checker
        assert checker.split(".")[0] != house.shares[drawn.lease].issued.account
    assert house.reserve_left() == 10**6


def test_checks_that_were_paid_for_wait_for_rigs_and_not_for_ever() -> None:
    """A busy checker: after 20 s the referee has nothing to do, after ten minutes all of it."""
    house = _house(
        Policy(
            probation_shares=0,
            min_difficulty=100,
            initial_difficulty=2_000,
            check_patience_seconds=20.0,
            assured_patience_seconds=600.0,
            lease_min_seconds=10_000.0,
        )
    )
    ben = house.connect("ben", credit=1)
    house.open_job(job=1, rows=20, account="other")
    anna = house.connect("anna", credit=1)
    assert ben.leases
    house.cancel(1)
    house.open_job(job=2, rows=20, assurance_ppm=PPM)
    while not any(key[0] == 2 for lease in anna.leases.values() for key in lease.keys):
        house.submit(anna)
    house.submit(anna)
    waiting = list(house.board._state.checks.values())
    assert waiting

    house.tick(60)
    assert not any(check.referred for check in waiting if check.by == "rig")
    house.tick(600)
    assert house.ended.keys() >= {check.check for check in waiting if not check.lessee}


def test_the_referee_costs_no_more_of_an_assured_job_than_of_any() -> None:
    """With nobody else to check, it computes every row, for its part of the ordinary levy."""
    house = _house()
    anna = house.connect("anna")
    house.open_job(rows=200, work=100, assurance_ppm=PPM)
    house.work(anna)

    house.assert_complete()
    assert len(set(house.referee_rows)) == 200
    cap = 200 * 100 * 30_000 // PPM * ESTABLISHED.referee_cap_ppm // PPM
    assert sum(paid.amount for paid in house.referee_paid) == cap


def test_assurance_survives_a_restart() -> None:
    house = _house()
    anna, ben = house.connect("anna"), house.connect("ben")
    house.open_job(rows=400, blocks=4, assurance_ppm=PPM)
    house.at += 1
    house.submit(anna)
    house.restart()
    anna, ben = house.connect("anna"), house.connect("ben")
    house.work(anna, ben)

    house.assert_complete()
    assert len({(d.block, d.row) for d in house.drawn.values()}) == 400


def test_false_rows_of_a_full_job_are_never_delivered() -> None:
    """An old rig with much to lose makes up every hundredth row."""
    house = _house()
    anna, ben, cleo = (house.connect(name) for name in ("anna", "ben", "cleo"))
    anna.lies = lambda key: key[2] % 100 == 7
    house.open_job(rows=1_000, assurance_ppm=PPM)
    house.work(anna, ben, cleo)

    house.assert_complete()
    assert "banned" in anna.reasons


def test_what_assurance_bought_is_kept_for_checks() -> None:
    """Losers of a hedge are paid from what the checks of the whole job are not expected to need."""
    house = _house()
    house.open_job(job=1, rows=100, work=100, assurance_ppm=500_000)
    house.open_job(job=2, rows=100, work=100)
    jobs = house.board._state.jobs

    assert checks.promised(jobs[1]) == 5_000
    assert jobs[1].check_left - checks.promised(jobs[1]) == 300
    assert checks.promised(jobs[2]) == 0

    anna = house.connect("anna", credit=2)
    house.connect("ben", credit=1)
    house.submit(anna)
    due = [check for check in house.board._state.checks.values() if not check.lessee]
    left = (jobs[1].work - jobs[1].accepted_work) // 2
    assert due
    assert checks.promised(jobs[1]) == left + 100 * sum(check.key[0] == 1 for check in due)
