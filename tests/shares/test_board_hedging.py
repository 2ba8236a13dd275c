"""The tail: rows that a slow rig holds are leased once more to a faster one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from driver import HeldLease, House, PlayedRig

from shares.blocks import Kind
from shares.board import Policy
from shares.board import effects as fx
from shares.board import events as ev

POLICY = Policy(probation_shares=0, min_difficulty=100, initial_difficulty=1_000, check_floor_ppm=1)


def _tail(policy: Policy = POLICY, **how: Any) -> tuple[House, PlayedRig, PlayedRig, int]:
    """Slow holds the last share; Fast, ten times as fast, has nothing to do."""
    house = House(policy)
    house.established("slow")
    house.established("fast")
    slow = house.connect("slow", credit=1)
    fast = house.connect("fast", credit=2)
    house.open_job(rows=60, **how)
    while True:
        house.at += 1
        while fast.leases and _kinds(fast) == {Kind.ROW}:
            house.submit(fast)
        if fast.leases and Kind.HEDGE in _kinds(fast):
            break
        house.tick(0)
        assert house.at < 1_100, "no hedge came"
    return house, slow, fast, next(iter(slow.leases))


def _kinds(rig: PlayedRig) -> set[Kind]:
    return {s.kind for lease in rig.leases.values() for s in lease.segments}


def _of(held: HeldLease) -> set[Kind]:
    return {segment.kind for segment in held.segments}


def test_the_tail_is_leased_twice() -> None:
    """The hedge holds rows that the slow rig still owes, and no others."""
    _house, slow, fast, lease = _tail()
    hedge = next(iter(fast.leases.values()))

    assert set(hedge.keys) <= set(slow.leases[lease].keys)


def test_the_faster_result_wins_and_the_slower_lease_is_cancelled(of) -> None:
    house, slow, fast, lease = _tail()
    effects = house.submit(fast)

    assert sum(c.amount for c in of(effects, fx.CreditEarned) if c.kind == "row") > 0
    cancelled = [e for log in house.log for e in of(log, fx.Cancel)]
    assert ("superseded", lease) in {(e.reason, e.lease) for e in cancelled}
    assert house.shares[lease].state == "cancelled"
    house.work(slow, fast)
    house.assert_complete()


def test_the_slower_result_may_still_win(of) -> None:
    house, slow, fast, lease = _tail()
    house.submit(slow, lease)

    assert not fast.leases
    house.work(slow, fast)
    house.assert_complete()


def test_an_honest_loser_in_time_is_paid_as_a_checker(of) -> None:
    """Its result was on the way when the cancel came: compared, equal, paid from the budget."""
    house, slow, fast, lease = _tail(check_budget=10**6)
    house.submit(fast)
    slow.leases[lease] = slow.dropped.pop(lease)
    effects = house.submit(slow, lease)

    (credit,) = [c for c in of(effects, fx.CreditEarned) if c.account == "slow"]
    assert (credit.kind, credit.source) == ("hedge", "check")
    house.work(slow, fast)
    house.assert_complete()


@pytest.mark.parametrize("budget", [0])
def test_a_loser_without_a_budget_is_not_paid(of, budget: int) -> None:
    house, slow, fast, lease = _tail(check_budget=budget)
    house.submit(fast)
    slow.leases[lease] = slow.dropped.pop(lease)

    assert not of(house.submit(slow, lease), fx.CreditEarned)


def test_a_loser_of_the_same_account_is_not_paid(of) -> None:
    house = House(POLICY)
    house.established("anna", "slow")
    house.established("anna", "fast")
    slow = house.connect("anna", "slow", credit=1)
    fast = house.connect("anna", "fast", credit=2)
    house.open_job(rows=60, check_budget=10**6)
    lease = next(iter(slow.leases))
    for _ in range(60):
        house.at += 1
        while fast.leases:
            house.submit(fast)
        house.tick(0)
        if lease in slow.dropped:
            break
    slow.leases = {lease: slow.dropped.pop(lease)}

    assert not of(house.submit(slow, lease), fx.CreditEarned)


def test_a_fast_fake_does_not_win_unseen(of) -> None:
    """The hedge's false rows are differed from by the honest loser: the referee decides."""
    house, slow, fast, lease = _tail(check_budget=10**6)
    fast.lies = lambda key: True
    house.submit(fast)
    slow.leases[lease] = slow.dropped.pop(lease)
    house.submit(slow, lease)

    assert fast.reasons == ["banned"]
    house.work(slow, house.connect("zoe"))
    house.assert_complete()


def test_a_false_loser_is_found_too() -> None:
    house, slow, fast, lease = _tail(check_budget=10**6)
    house.submit(fast)
    slow.leases[lease] = slow.dropped.pop(lease)
    slow.lies = lambda key: True
    house.submit(slow, lease)

    assert slow.reasons == ["banned"]
    house.work(fast)
    house.assert_complete()


def test_a_job_waits_for_the_referees_word_on_a_loser(of) -> None:
    """The winner is cleared; the block stays until the loser's drawn rows are decided."""
    house, slow, fast, lease = _tail(check_budget=10**6)
    house.trust["slow", "r"] = replace(house.trust["slow", "r"], held=1)
    house.restart()
    house.connect("slow", credit=1)
    house.connect("fast", credit=2)
    for number in list(slow.dropped):
        slow.leases[number] = slow.dropped.pop(number)
    house.referee = False
    house.submit(fast, next(iter(fast.leases)))
    if lease in slow.dropped:
        slow.leases[lease] = slow.dropped.pop(lease)
    effects = house.submit(slow, lease)
    assert len(of(effects, fx.PartAccepted)[0].referee_rows) > 0
    for _ in range(20):
        house.tick(1)
        for rig in (fast, slow):
            while rig.leases:
                house.submit(rig)
    progress = house.board.job(1)
    assert progress is not None, "the job is not closed before the referee has spoken"

    house.referee = True
    house.answer()
    house.work(slow, fast)
    house.assert_complete()


def test_rows_of_a_rejected_hedge_stay_with_the_rig_that_holds_them() -> None:
    """A false part of the hedge is thrown out; the slow rig goes on and finishes the rows."""
    house, slow, fast, lease = _tail()
    house.trust["fast", "r"] = replace(house.trust["fast", "r"], held=1)
    house.restart()
    house.connect("slow", credit=1)
    house.connect("fast", credit=2)
    fast.lies = lambda key: True
    hedge = next(number for number, held in fast.leases.items() if Kind.HEDGE in _of(held))
    house.handle(ev.LeasingPaused(at=house.at, paused=True))
    house.submit(fast, hedge, rows=1)
    assert house.shares[hedge].verdict == "rejected"
    assert house.board.totals().open_work == 0
    house.handle(ev.LeasingPaused(at=house.at, paused=False))
    house.submit(slow, lease)

    house.work(slow, house.connect("zoe"))
    house.assert_complete()


def test_a_row_is_never_held_by_three() -> None:
    """A third rig finds nothing to hedge (the invariants would say so)."""
    house, _slow, _fast, _lease = _tail()
    house.established("third")
    rigs = [house.connect(name, credit=4) for name in ("slow", "fast", "third")]
    house.tick(1)
    house.tick(1)

    house.work(*rigs)
    house.assert_complete()


def test_a_rig_that_would_be_later_gets_nothing() -> None:
    """No second lease when the first is expected to end sooner."""
    house = House(POLICY)
    house.established("anna")
    house.established("ben")
    anna = house.connect("anna", credit=1)
    house.open_job(rows=10)
    house.connect("ben", credit=1)
    house.tick(1)

    assert len(house.shares) == 1
    assert anna.leases


# ── no share clears while a row of it may be contradicted ─────────────────────


def _won_early(policy: Policy = POLICY, **how: int) -> tuple[House, PlayedRig, PlayedRig, int, int]:
    """Fast did three rows of its hedge and gave the rest back; Slow still has all of them.

    Nothing more is leased. Returns Slow's lease and Fast's.
    """
    house, slow, fast, lease = _tail(policy, **how)
    hedge = next(number for number, held in fast.leases.items() if Kind.HEDGE in _of(held))
    house.handle(ev.LeasingPaused(at=house.at, paused=True))
    return house, slow, fast, lease, hedge


def _do_three(house: House, fast: PlayedRig, hedge: int) -> None:
    house.submit(fast, hedge, rows=3)
    assert fast.session is not None
    house.handle(
        ev.LeaseReleased(at=house.at, session=fast.session, request=1, lease=hedge, reason="x")
    )
    assert not [drawn for drawn in house.drawn.values() if drawn.lease == hedge]


def test_a_false_row_is_not_cleared_before_the_honest_lease_has_spoken() -> None:
    """No row of it was drawn, its window is long over: the slow rig's result still convicts."""
    house, slow, fast, lease, hedge = _won_early()
    fast.lies = lambda key: True
    _do_three(house, fast, hedge)
    for _ in range(15):
        house.tick(1)
    assert house.shares[lease].state == "open"
    assert house.shares[hedge].verdict == "accepted"
    house.submit(slow, lease)

    assert house.shares[hedge].verdict == "rejected"
    assert fast.reasons == ["banned"]
    house.handle(ev.LeasingPaused(at=house.at, paused=False))
    house.work(slow, house.connect("zoe"))
    house.assert_complete()


@pytest.mark.parametrize("how", ["delivers", "leaves", "is silent", "releases"])
def test_an_honest_share_clears_as_soon_as_the_other_lease_is_over(how: str) -> None:
    """At the next tick: its pay waits no longer than the lease that might contradict it."""
    house, slow, fast, lease, hedge = _won_early()
    _do_three(house, fast, hedge)
    for _ in range(12):
        house.tick(1)
    assert house.shares[hedge].verdict == "accepted"
    if how == "delivers":
        house.submit(slow, lease)
    elif how == "leaves":
        house.disconnect(slow)
    elif how == "releases":
        assert slow.session is not None
        house.handle(
            ev.LeaseReleased(at=house.at, session=slow.session, request=1, lease=lease, reason="x")
        )
    deadline = house.board._state.leases[lease].latest if how == "is silent" else house.at + 15
    while house.shares[lease].state == "open":
        assert house.at <= deadline
        house.tick(1)
    house.tick(1)

    assert house.shares[hedge].verdict == "cleared"


def test_what_was_on_its_way_when_a_lease_was_called_off_is_waited_for() -> None:
    """The fake has won all rows and no window to wait for; the loser's result is in flight."""
    house, slow, fast, lease, hedge = _won_early(replace(POLICY, clearing_seconds=0.0))
    fast.lies = lambda key: True
    house.submit(fast, hedge)
    assert house.shares[lease].state == "cancelled"
    house.tick(3)
    assert house.shares[hedge].verdict == "accepted"
    slow.leases[lease] = slow.dropped.pop(lease)
    house.submit(slow, lease)

    assert house.shares[hedge].verdict == "rejected"
    assert fast.reasons == ["banned"]


def test_a_lease_that_was_called_off_is_waited_for_a_few_seconds_only() -> None:
    house, _slow, fast, lease, hedge = _won_early(replace(POLICY, clearing_seconds=0.0))
    house.submit(fast, hedge)
    assert house.shares[lease].state == "cancelled"
    house.tick(4.9)
    assert house.shares[hedge].verdict == "accepted"
    house.tick(0.2)

    assert house.shares[hedge].verdict == "cleared"


def test_nothing_is_on_its_way_from_a_rig_that_is_gone() -> None:
    house, slow, fast, _lease, hedge = _won_early(replace(POLICY, clearing_seconds=0.0))
    house.disconnect(slow)
    house.submit(fast, hedge)

    assert house.shares[hedge].verdict == "cleared"


def test_a_direct_answer_leaves_at_once_and_who_falsified_it_is_convicted_later() -> None:
    """Its false rows were cleared and paid; the slow rig's result proves them."""
    house, slow, fast, lease, hedge = _won_early(direct=True)
    fast.lies = lambda key: True
    _do_three(house, fast, hedge)
    assert house.shares[hedge].verdict == "cleared"
    held = house.trust["fast", "r"].held
    house.submit(slow, lease)

    assert fast.reasons == ["banned"]
    assert [forfeit.units for forfeit in house.forfeits] == [held]
    assert "wrong_row_cleared" in {note.what for note in house.notes}
    house.restart()
    assert house.trust["fast", "r"].offences == 1, "once"
