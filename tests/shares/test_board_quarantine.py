"""A kind of device in quarantine gets nothing of a model: no shares, hedges or checks."""

from __future__ import annotations

import pytest
from driver import MODEL, House, PlayedRig

from shares.board import Policy
from shares.board import effects as fx
from shares.board import events as ev

POLICY = Policy(min_difficulty=100, initial_difficulty=1_000)
BAD, GOOD = "NVIDIA Bad", "NVIDIA Good"
KEPT = frozenset({(MODEL, BAD)})


def _house() -> House:
    house = House(POLICY)
    house.established("anna")
    house.established("ben")
    house.open_job(rows=2_000, check_budget=10**9, assurance_ppm=1_000_000)
    return house


def _quarantine(house: House, kinds: frozenset[tuple[str, str]]) -> list[fx.Effect]:
    return house.handle(ev.KindsQuarantined(at=house.at, kinds=kinds))


def _work_on(house: House, *rigs: PlayedRig) -> None:
    for _ in range(20):
        for rig in rigs:
            if rig.leases:
                house.submit(rig)
        house.tick(1.0)


def test_shares_in_hand_are_called_off_and_none_follow_until_it_is_lifted() -> None:
    """Of this kind only; what was accepted before is paid, and nobody is charged."""
    house = _house()
    bad, good = house.connect("anna", kinds=(GOOD, BAD)), house.connect("ben", kinds=(GOOD,))
    house.submit(bad)
    assert bad.leases
    assert good.leases
    effects = _quarantine(house, KEPT)

    assert not bad.leases
    assert {e.fault for e in effects if isinstance(e, fx.LeaseEnded)} == {"none"}
    assert {e.reason for e in effects if isinstance(e, fx.Cancel)} == {"quarantined"}
    _work_on(house, good)
    assert not bad.leases
    assert bad.session is not None
    assert house.trust["anna", "r"].rejected_shares == house.trust["anna", "r"].offences == 0
    house.open_job(2, rows=2_000)
    assert not bad.leases
    _quarantine(house, frozenset())
    house.open_job(3, rows=2_000)
    assert bad.leases


def test_another_model_is_not_kept_from_the_kind() -> None:
    """A fault is of a kind with a model."""
    house = _house()
    rig = house.connect("anna", kinds=(BAD,))
    _quarantine(house, frozenset({("another", BAD)}))

    assert rig.leases


def test_leases_that_a_rig_comes_back_to_are_called_off_too() -> None:
    """After a restart the quarantine is known before its rigs are."""
    house = _house()
    rig = house.connect("anna", kinds=(BAD,))
    assert rig.leases
    house.restart()
    _quarantine(house, KEPT)
    rig = house.connect("anna", kinds=(BAD,))

    assert not rig.leases


@pytest.mark.parametrize(("kinds", "by_rigs"), [(frozenset(), True), (KEPT, False)])
def test_it_checks_nobody(kinds: frozenset[tuple[str, str]], by_rigs: bool) -> None:
    """Or its fault would accuse honest rigs: the referee computes what it would have checked."""
    house = _house()
    house.connect("anna", kinds=(BAD,))
    _quarantine(house, kinds)
    effects = house.submit(house.connect("ben", kinds=(GOOD,)))  # every row is to be checked
    (part,) = [e for e in effects if isinstance(e, fx.PartAccepted)]
    referred = sum(len(e.rows) for e in effects if isinstance(e, fx.RefereeWanted))

    assert (referred < part.rows) is by_rigs


def test_checks_that_wait_for_others_are_not_given_to_it() -> None:
    """Carl may check Ben, so his rows wait for him; Anna, who is idle, does not get them."""
    house = _house()
    house.established("carl")
    anna = house.connect("anna", kinds=(BAD,))
    _quarantine(house, KEPT)
    house.connect("carl", kinds=(GOOD,))
    house.submit(house.connect("ben", kinds=(GOOD,)))
    house.tick(1.0)

    assert not anna.leases
