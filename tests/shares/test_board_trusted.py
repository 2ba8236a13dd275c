"""Jobs for rigs on the operator's list: nobody else sees a row of them."""

from __future__ import annotations

import pytest
from driver import House, PlayedRig

from shares.board import Policy
from shares.board import effects as fx

LISTED = Policy(
    probation_shares=0,
    min_difficulty=100,
    initial_difficulty=1_000,
    check_floor_ppm=200_000,
    trusted=frozenset({"anna", "ben.good"}),
)


def _house() -> House:
    house = House(LISTED)
    for account, rig in (("anna", "r"), ("ben", "good"), ("ben", "other"), ("cleo", "r")):
        house.established(account, rig)
    return house


def _seen(house: House, job: int) -> set[tuple[str, str]]:
    """Rigs that were ever given rows of a job, for whatever reason."""
    return {
        (share.issued.account, share.issued.rig)
        for share in house.shares.values()
        if any(segment.job == job for segment in share.issued.segments)
    }


def _rigs(house: House) -> list[PlayedRig]:
    names = (("anna", "r"), ("ben", "good"), ("ben", "other"), ("cleo", "r"))
    return [house.connect(account, rig) for account, rig in names]


def test_only_rigs_on_the_list_get_rows_or_checks() -> None:
    """By account or by rig; the others work on the next job, of the same customer or another."""
    house = _house()
    rigs = _rigs(house)
    house.open_job(job=1, rows=300, trusted=True)
    house.open_job(job=2, rows=300)
    house.open_job(job=3, rows=300, account="another")
    house.work(*rigs)

    house.assert_complete(1)
    house.assert_complete(2)
    house.assert_complete(3)
    assert _seen(house, 1) <= {("anna", "r"), ("ben", "good")}
    assert ("cleo", "r") in _seen(house, 2) | _seen(house, 3)
    assert any(drawn.job == 1 and drawn.by == "rig" for drawn in house.drawn.values())


def test_rigs_that_are_not_on_the_list_do_not_hedge_its_tail() -> None:
    house = _house()
    house.open_job(rows=10, trusted=True)
    anna = house.connect("anna")
    assert anna.leases
    cleo = house.connect("cleo")
    good = house.connect("ben", "good")
    for _ in range(10):
        house.tick(5)

    assert not cleo.leases
    assert good.leases, "who is on the list does"


def test_a_job_for_the_list_waits_when_nobody_of_it_is_there() -> None:
    house = _house()
    house.open_job(rows=10, trusted=True)
    cleo = house.connect("cleo")
    house.tick(60)
    assert not cleo.leases

    anna = house.connect("anna")
    house.work(anna)
    house.assert_complete()


def test_an_account_alone_on_the_list_may_hold_all_of_a_job() -> None:
    """That others are idle who may not have a row of it limits nobody."""
    house = House(LISTED)
    house.established("anna")
    house.established("cleo")
    house.open_job(rows=20, trusted=True)
    house.connect("cleo")
    anna = house.connect("anna", credit=8)

    assert sum(len(lease.keys) for lease in anna.leases.values()) == 20


def test_a_restart_keeps_the_list_s_jobs_to_the_list() -> None:
    house = _house()
    house.open_job(rows=10, trusted=True)
    house.restart()
    cleo = house.connect("cleo")
    house.tick()

    assert not cleo.leases


@pytest.mark.parametrize("direct", [False, True])
def test_without_a_wish_the_list_means_nothing(direct: bool, of) -> None:
    house = _house()
    house.open_job(rows=10, direct=direct)
    house.connect("cleo")

    assert any(of([effect], fx.LeaseIssued) for turn in house.log for effect in turn)
