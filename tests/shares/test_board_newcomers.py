"""Rigs on probation together: admitted to little while established ones wait for work."""

from __future__ import annotations

from dataclasses import replace

from driver import MODEL, House, PlayedRig

from shares.board import Policy
from shares.board.events import LeaseReleased

POLICY = Policy(min_difficulty=100, initial_difficulty=1_000, check_floor_ppm=10_000)
ROOM = 100_000  # suggested difficulty of rigs that could do it all


def _newcomers(house: House, count: int) -> list[PlayedRig]:
    return [house.connect(f"new{number}") for number in range(count)]


def _work_of(*rigs: PlayedRig) -> int:
    """Work in their hands; a row is 100."""
    return 100 * sum(len(lease.keys) for rig in rigs for lease in rig.leases.values())


def test_sybils_starve_where_an_established_rig_waits_for_work() -> None:
    """Ten of them share a place or two; with no limit each gets a share of what there is."""
    held = {}
    for limit in (POLICY.admission_ppm, 1_000_000):
        house = House(replace(POLICY, admission_ppm=limit))
        house.established("anna")
        anna = house.connect("anna", suggested=ROOM, credit=64)
        sybils = _newcomers(house, 10)
        house.open_job(rows=100)
        held[limit] = sum(bool(rig.leases) for rig in sybils)
        assert _work_of(anna, *sybils) == 10_000, "nothing lies idle for them"

    assert held == {POLICY.admission_ppm: 1, 1_000_000: 10}


def test_sybils_that_wait_hold_no_established_rig_to_a_quarter_of_a_job() -> None:
    """They come after it; it takes what is there at once."""
    house = House(POLICY)
    house.established("anna")
    anna = house.connect("anna", suggested=ROOM, credit=64)
    sybils = _newcomers(house, 10)
    house.open_job(rows=400)

    assert _work_of(anna, *sybils) == 40_000
    assert _work_of(anna) > 39_000


def test_who_holds_as_many_small_shares_as_it_may_is_hungry_still() -> None:
    """Its credit keeps it from more for a moment: that is no time for newcomers."""
    house = House(POLICY)
    house.established("anna")
    anna = house.connect("anna", suggested=ROOM, credit=2)
    sybils = _newcomers(house, 10)
    house.open_job(rows=400)

    assert len(anna.leases) == 1
    assert _work_of(anna) < 20_000
    assert sum(bool(rig.leases) for rig in sybils) < 4


def test_an_established_rig_that_rests_keeps_nobody_waiting() -> None:
    """It dropped what it had, and gets nothing for a while."""
    house = House(POLICY)
    house.established("anna")
    anna = house.connect("anna", suggested=ROOM, credit=2)
    house.open_job(rows=400)
    assert anna.session is not None
    for request in range(1, 6):
        while anna.leases:
            lease = anna.leases.popitem()[0]
            house.handle(
                LeaseReleased(
                    at=house.at, session=anna.session, request=request, lease=lease, reason="x"
                )
            )
        house.tick(2.0**request if request < 5 else 0.0)
    newcomers = _newcomers(house, 10)
    house.tick(0.1)

    assert not anna.leases
    assert all(rig.leases for rig in newcomers)


def test_a_slow_established_rig_keeps_no_fast_newcomers_waiting() -> None:
    """What it could do within a share's time is little of what there is."""
    house = House(POLICY)
    house.established("anna")
    house.connect("anna", suggested=100, credit=64)
    newcomers = _newcomers(house, 10)
    house.open_job(rows=400)

    assert all(rig.leases for rig in newcomers)


def test_a_new_pool_starts_at_full_speed() -> None:
    house = House(POLICY)
    rigs = _newcomers(house, 10)
    house.open_job(rows=400)

    assert all(rig.leases for rig in rigs)


def test_newcomers_are_welcome_where_established_rigs_have_all_they_can_do() -> None:
    """In the very turn in which the last of these was served."""
    house = House(POLICY)
    house.established("anna")
    rigs = _newcomers(house, 10)
    house.connect("anna", credit=3)
    house.open_job(rows=400)

    assert all(rig.leases for rig in rigs)


def test_newcomers_share_a_hundredth_of_a_large_pool() -> None:
    """As many shares as that takes, and not one more."""
    house = House(replace(POLICY, window_seconds=1_000.0, admission_ppm=50_000), checked=False)
    house.established("anna")
    house.established("ben")
    anna = house.connect("anna", suggested=ROOM, credit=64)
    house.open_job(rows=1_200)
    assert _work_of(anna) == 120_000
    ben = house.connect("ben", suggested=ROOM, credit=64)
    rigs = _newcomers(house, 20)
    house.open_job(job=2, rows=600, account="another")
    everything = _work_of(anna, ben, *rigs)

    assert ben.leases
    shares = [_work_of(rig) for rig in rigs if rig.leases]
    assert len(shares) > 1
    assert sum(shares) - shares[-1] < everything * 5 // 100


def test_an_honest_newcomer_is_soon_established_beside_hungry_rigs() -> None:
    """It always has one share, whatever else there is to do them."""
    house = House(POLICY)
    for account in ("anna", "ben"):
        house.established(account)
    old = [house.connect(account, suggested=ROOM) for account in ("anna", "ben")]
    newcomer = house.connect("new")
    rounds = 0
    while not house.board._state.rig(("new", "r")).standing.established(POLICY, MODEL):
        rounds += 1
        assert rounds < 40
        house.open_job(job=rounds, rows=40)
        house.work(newcomer, *old)


def test_rigs_on_the_operator_s_list_are_no_strangers() -> None:
    house = House(replace(POLICY, trusted=frozenset({"new0", "new1"})))
    house.established("anna")
    house.connect("anna", suggested=ROOM, credit=64)
    rigs = _newcomers(house, 10)
    house.open_job(rows=100)

    assert [bool(rig.leases) for rig in rigs[:2]] == [True, True]
    assert sum(bool(rig.leases) for rig in rigs[2:]) < 2


def test_who_is_established_with_another_model_keeps_nobody_waiting() -> None:
    house = House(POLICY)
    house.established("anna")
    house.connect("anna", suggested=ROOM)
    rigs = [house.connect(f"new{number}", model="other") for number in range(4)]
    house.open_job(rows=400, model="other")

    assert all(rig.leases for rig in rigs)
