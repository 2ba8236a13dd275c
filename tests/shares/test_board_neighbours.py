"""A rig was banned: those of its network block are checked more for a time, and never banned."""

from __future__ import annotations

import pytest
from driver import House, PlayedRig

from shares.board import Policy
from shares.board import effects as fx
from shares.trust.sampling import HELD, NEIGHBOUR, PROBATION

POLICY = Policy(min_difficulty=100, initial_difficulty=1_000, neighbour_seconds=1_000.0)
BLOCK, ELSEWHERE = "192.0.2.0/24", "198.51.100.0/24"


def _banned_in(house: House, group: str) -> None:
    """Carl, of this block, is caught with many false rows."""
    carl = house.connect("carl", group=group)
    carl.lies = lambda key: True
    while carl.session is not None:
        if carl.leases:
            house.submit(carl)
        house.tick(1.0)
    assert house.trust["carl", "r"].offences == 1


def _sampled(house: House, rig: PlayedRig) -> tuple[str, int]:
    """Why, and with which chance, its next part is drawn from."""
    for _ in range(100):
        if rig.leases:
            break
        house.tick(1.0)
    effects = house.submit(rig)
    (part,) = [effect for effect in effects if isinstance(effect, fx.PartAccepted)]
    return part.why, part.check_rate_ppm


def _house() -> House:
    house = House(POLICY)
    house.established("anna")
    house.open_job(rows=2_000)
    return house


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (BLOCK, (NEIGHBOUR, POLICY.neighbour_floor_ppm)),
        (ELSEWHERE, (HELD, POLICY.check_floor_ppm)),
        ("", (HELD, POLICY.check_floor_ppm)),
    ],
)
def test_neighbours_of_a_banned_rig_are_checked_more(group: str, expected: tuple[str, int]) -> None:
    """Of its block only, for a time, and through a restart; nobody else is banned."""
    house = _house()
    anna = house.connect("anna", group=group, credit=1)
    assert _sampled(house, anna) == (HELD, POLICY.check_floor_ppm)
    _banned_in(house, BLOCK)
    assert _sampled(house, anna) == expected
    house.restart()
    anna = house.connect("anna", group=group, credit=1)
    assert _sampled(house, anna) == expected
    house.tick(POLICY.neighbour_seconds)
    assert _sampled(house, anna) == (HELD, POLICY.check_floor_ppm)
    assert house.trust["anna", "r"].banned_until == 0.0


def test_rigs_of_this_machine_have_no_neighbours() -> None:
    """Loopback is no block."""
    house = _house()
    _banned_in(house, "")
    anna = house.connect("anna", credit=1)

    assert _sampled(house, anna) == (HELD, POLICY.check_floor_ppm)
    assert not house.blocks


def test_newcomers_with_bad_neighbours_have_one_share_at_a_time() -> None:
    """Names of one network cost its owner nothing."""
    house = _house()
    _banned_in(house, BLOCK)
    near = house.connect("ben", group=BLOCK)
    far = house.connect("dora", group=ELSEWHERE)
    for rig in (near, far):
        assert _sampled(house, rig)[0] == PROBATION
    house.tick(1.0)

    assert len(near.leases) <= 1
    of_ben = [share for share in house.shares.values() if share.issued.account == "ben"]
    assert sum(share.verdict in ("open", "accepted") for share in of_ben) == 1
