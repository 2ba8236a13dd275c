"""A pool that is killed goes on where it was; the same events give the same effects."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from driver import House, PlayedRig, true_digest

from shares.blocks import Kind
from shares.board import Board, Policy
from shares.board import effects as fx
from shares.board import events as ev
from shares.board.snapshot import Snapshot

SMALL = Policy(min_difficulty=100, initial_difficulty=2_000)
HERE = Path(__file__).parent


def _tail_of(effects, kind):
    return [effect for effect in effects if isinstance(effect, kind)]


def test_ids_after_a_restart_are_new() -> None:
    """Leases begin at boot << 32."""
    house = House(SMALL)
    house.open_job(rows=1_000)
    house.submit(house.connect("anna"))
    before = max(house.shares)
    house.restart()
    house.connect("ben")

    assert (before >> 32, max(house.shares) >> 32) == (1, 2)
    assert min(lease for lease in house.shares if lease > before) == (2 << 32) + 1


def test_a_rig_may_finish_its_share_after_a_restart_of_the_pool() -> None:
    """Its accepted part stays accepted, the next one follows it, with a fresh deadline."""
    house = House(SMALL)
    house.open_job(rows=1_000)
    rig = house.connect("anna")
    lease = next(iter(rig.leases))
    house.submit(rig, lease, rows=7)
    house.restart(500)
    house.connect("anna")
    again = house.raw_submit(rig, lease, part=0, first_row=0, rows=7, final=False)
    assert [e.reason for e in _tail_of(again, fx.Refused)] == ["duplicate_part"]

    house.submit(rig, lease)
    assert house.shares[lease].verdict == "cleared"
    assert [part.part for part in house.shares[lease].parts] == [0, 1]


def test_rigs_that_do_not_come_back_lose_their_shares_after_the_grace() -> None:
    house = House(SMALL)
    house.open_job(rows=100)
    rig = house.connect("anna")
    lease = next(iter(rig.leases))
    house.restart(500)
    house.tick(59)
    assert house.shares[lease].state == "open"
    house.tick(2)

    assert (house.shares[lease].state, house.shares[lease].fault) == ("expired", "network")


def test_the_referee_is_asked_again_for_what_it_owed() -> None:
    house = House(SMALL, referee=False)
    house.open_job(rows=1_000)
    rig = house.connect("anna")
    house.submit(rig)
    owed = {(w.job, w.block, row) for w in house.asked for row in w.rows}
    assert owed
    house.restart()

    assert {(w.job, w.block, row) for w in house.asked for row in w.rows} == owed


def _checking() -> tuple[House, PlayedRig, PlayedRig]:
    """Two established rigs whose rows are all drawn for each other; the referee is slow."""
    policy = Policy(
        probation_shares=0, min_difficulty=100, initial_difficulty=2_000, check_floor_ppm=10**6
    )
    house = House(policy, referee=False)
    house.established("anna", held=10**12)
    house.established("ben", held=10**12)
    anna, ben = house.connect("anna", credit=2), house.connect("ben", credit=2)
    house.open_job(rows=400, check_budget=10**6)
    return house, anna, ben


def test_a_dispute_survives_a_restart() -> None:
    """The checker's differing part was accepted; after the restart the referee still decides."""
    house, anna, ben = _checking()
    of_anna = set(next(iter(anna.leases.values())).keys)
    ben.lies = lambda key: key in of_anna
    for _ in range(3):
        house.at += 1
        for rig in (anna, ben):
            if rig.leases:
                house.submit(rig)
    disputed = [note for note in house.notes if note.what == "mismatch"]
    assert len(disputed) > 1
    house.restart()
    house.referee = True
    house.answer()

    assert house.trust["ben", "r"].offences == 1
    assert house.trust["anna", "r"].offences == 0
    house.work(house.connect("anna"), house.connect("zoe"))
    house.assert_complete()


def test_a_checker_is_paid_for_what_it_held_when_the_pool_was_killed() -> None:
    """Its check rows keep their units set aside over the restart."""
    house, anna, ben = _checking()
    house.at += 1
    house.submit(anna)
    house.at += 1
    house.submit(ben)
    lease = next(
        number
        for number, held in ben.leases.items()
        if any(segment.kind is Kind.CHECK for segment in held.segments)
    )
    left = house.board.jobs()[1].check_left
    house.restart(1)
    assert house.board.jobs()[1].check_left == left
    house.connect("ben")
    effects = house.submit(ben, lease)

    checks = [c for c in _tail_of(effects, fx.CreditEarned) if c.kind == "check"]
    assert sum(c.work for c in checks) == 100 * sum(
        segment.rows
        for segment in house.shares[lease].issued.segments
        if segment.kind is Kind.CHECK
    )


def test_a_wrong_row_is_found_although_the_pool_was_killed_before_the_answer() -> None:
    house = House(SMALL, referee=False)
    house.open_job(rows=100)
    rig = house.connect("carl")
    house.submit(rig, wrong={1, 2})
    house.restart()
    house.referee = True
    house.answer()

    assert house.trust["carl", "r"].offences == 1


def test_budgets_and_progress_survive() -> None:
    house = House(SMALL, reserve=700)
    house.open_job(rows=400, blocks=8, check_budget=3_000)
    rig = house.connect("anna")
    for _ in range(4):
        house.at += 1
        house.submit(rig)
    before, totals = house.board.jobs()[1], house.board.totals()
    house.restart()
    after, again = house.board.jobs()[1], house.board.totals()

    for name in ("accepted_rows", "accepted_work", "cleared_rows", "cleared_work", "check_left"):
        assert getattr(after, name) == getattr(before, name), name
    assert again.reserve == totals.reserve
    assert again.open_work == totals.open_work


def test_a_check_whose_share_is_over_is_void() -> None:
    from shares.board.snapshot import StoredCheck

    orphan = StoredCheck(check=5, by="rig", lease=1, part=0, job=1, block=0, row=0, at=0.0)
    board = Board(Policy(), Snapshot(boot=2, reserve=0, checks=(orphan,)), 10.0)

    assert board.start(10.0) == [fx.CheckEnded(5, "void", "", 10.0)]


def test_a_cancelled_job_is_closed_after_a_restart() -> None:
    house = House(SMALL)
    house.open_job(rows=100)
    house.connect("anna")
    house.cancel(1)
    assert not house.jobs[1].closed
    house.restart()
    house.tick(61)

    assert house.jobs[1].closed == "cancelled"


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_a_pool_killed_again_and_again_ends_the_same(every: int) -> None:
    """Three rigs, a cheat among them; the pool dies after every few events; the end is whole."""
    house = House(SMALL)
    house.open_job(rows=400, blocks=4)
    names = ("anna", "ben", "carl")
    rigs = {name: house.connect(name) for name in names}
    rigs["carl"].lies = lambda key: key[2] % 5 == 0
    for turn in range(2_000):
        house.at += 1
        for rig in rigs.values():
            if rig.session is not None and rig.leases:
                house.submit(rig, rows=1 + turn % 13)
        house.tick(0)
        if house.jobs[1].closed:
            break
        if turn % every == every - 1:
            house.restart(0.5)
            for name in names:
                house.connect(name)

    house.assert_complete()
    assert {key: house.final_rows(1)[key] for key in list(house.final_rows(1))[:3]} == {
        key: true_digest(1, *key) for key in list(house.final_rows(1))[:3]
    }


# ── a rig that was wrong once ─────────────────────────────────────────────────

LOW = Policy(
    probation_shares=0,
    min_difficulty=100,
    initial_difficulty=2_000,
    check_floor_ppm=1,
    window_seconds=100,
)


def _found(*others: int) -> tuple[House, PlayedRig, int]:
    """Anna was wrong in a row that was drawn, and in these: the referee has told of that one."""
    for row in range(20):
        house = House(LOW, referee=False)
        house.established("anna", held=1_000)
        rig = house.connect("anna", credit=10)
        house.open_job(rows=2_000)
        lease = next(iter(rig.leases))
        house.submit(rig, lease, wrong={row, *others})
        if (1, 0, row) in house.referee_rows and row not in others:
            break
    else:
        raise AssertionError("no wrong row is drawn")
    house.asked.clear()
    house.handle(
        ev.RefereeAnswered(at=house.at, job=1, block=0, rows=(row,), digests=true_digest(1, 0, row))
    )
    assert (house.shares[lease].verdict, house.shares[lease].recount) == ("rejected", row)
    assert house.trust["anna", "r"].offences == 0
    return house, rig, lease


def test_a_recount_goes_on_after_a_restart_and_finds_the_other_row() -> None:
    house, _, lease = _found(19)
    house.restart()
    house.referee = True
    house.answer()

    assert house.trust["anna", "r"].offences == 1
    assert house.shares[lease].recount is None


def test_a_recount_does_not_count_the_row_that_was_found_again() -> None:
    """The restart makes no offence of a bit flip."""
    house, _, lease = _found()
    house.restart()
    before = len(house.referee_rows)
    house.referee = True
    house.answer()
    house.restart()

    assert (house.trust["anna", "r"].isolated, house.trust["anna", "r"].offences) == (1, 0)
    assert house.shares[lease].recount is None
    assert len(house.referee_rows) == before, "what was counted is not counted again"


def test_a_recount_of_a_job_that_is_over_ends() -> None:
    house, rig, lease = _found()
    house.cancel(1)
    house.disconnect(rig)
    house.tick(20)
    house.tick(100)
    assert house.jobs[1].closed

    assert house.shares[lease].recount is None


def test_a_suspects_open_shares_are_still_checked_in_full_after_a_restart() -> None:
    house, rig, _ = _found()
    held = list(rig.leases)
    assert held
    house.restart()
    house.connect("anna", credit=10)
    effects = house.submit(rig, held[-1])

    (part,) = _tail_of(effects, fx.PartAccepted)
    assert part.check_rate_ppm == 1_000_000
    fresh = next(lease for lease in rig.leases if lease not in held)
    (part,) = _tail_of(house.submit(rig, fresh), fx.PartAccepted)
    assert part.check_rate_ppm < 1_000_000, "what was leased later is sampled"


def _story() -> list[str]:
    """A story with a cheat, hedges and departures, as text."""
    house = House(SMALL, checked=False)
    house.open_job(1, rows=300, blocks=3)
    house.open_job(2, rows=100, account="other")
    rigs = [house.connect(name, rig) for name in "abcd" for rig in ("x", "y")]
    rigs[2].lies = lambda key: key[2] % 5 == 0
    for turn in range(40):
        house.at += 0.7
        for number, rig in enumerate(rigs):
            if rig.session is not None and rig.leases and turn % (1 + number % 3) == 0:
                house.submit(rig, rows=3 + number)
        if turn == 12 and rigs[0].session is not None:
            house.disconnect(rigs[0])
        house.tick(0)
    return [repr(effects) for effects in house.log]


def test_the_same_events_give_the_same_effects_in_any_process() -> None:
    """Whatever the seed of Python's string hashes."""
    code = "import test_board_restart, hashlib; " + (
        "print(hashlib.sha256('\\n'.join(test_board_restart._story()).encode()).hexdigest())"
    )
    seen = set()
    for seed in ("1", "2"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        seen.add(done.stdout)

    assert len(seen) == 1


def test_events_replayed_on_a_new_board_give_the_same_effects() -> None:
    house = House(SMALL, checked=False)
    house.open_job(1, rows=200, blocks=2)
    house.work(house.connect("anna"), house.connect("ben"))
    board = Board(SMALL, Snapshot(boot=1, reserve=0), 1000.0)
    board.start(1000.0)

    assert [board.handle(event) for event in house.events] == house.log


def test_an_event_never_runs_time_backwards() -> None:
    house = House(SMALL)
    house.open_job(rows=10)
    house.tick(100)
    effects = house.handle(ev.SessionOpened(at=0.0, session=77, account="late", rig="r", credit=1))

    assert _tail_of(effects, fx.SetDifficulty)
    house.board.check_invariants()
