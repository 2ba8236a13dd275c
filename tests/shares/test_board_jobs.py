"""Jobs on the board: blocks asked for, fair turns, cancelled, closed."""

from __future__ import annotations

import numpy as np
import pytest
from driver import MODEL, House, PlayedRig

from shares.board import Board, Policy
from shares.board import effects as fx
from shares.board import events as ev
from shares.board.snapshot import Snapshot

PROVED = Policy(probation_shares=0, initial_difficulty=1_000, min_difficulty=100)


def _work_of(house: House, account: str) -> int:
    """Work leased for one customer."""
    return sum(
        int(house.jobs[s.job].blocks[s.block][1][s.start : s.stop].sum())
        for share in house.shares.values()
        for s in share.issued.segments
        if house.jobs[s.job].opened.account == account
    )


def test_one_honest_rig_completes_a_job() -> None:
    """Every row once, every block cleared and dropped, then the job."""
    house = House()
    house.open_job(rows=300, blocks=3)
    house.work(house.connect("anna"))

    house.assert_complete()
    flat = [effect for effects in house.log for effect in effects]
    cleared = [e.block for e in flat if isinstance(e, fx.BlockCleared)]
    dropped = [e.block for e in flat if isinstance(e, fx.BlockDropped)]
    assert sorted(cleared) == sorted(dropped) == [0, 1, 2]
    assert [e.state for e in flat if isinstance(e, fx.JobClosed)] == ["completed"]


def test_the_first_two_blocks_are_asked_for_at_once(of) -> None:
    house = House()
    house.open_job(rows=100, blocks=10)

    assert [e.block for e in of(house.log[-3], fx.BlockWanted)] == [0, 1]


def test_a_big_job_is_never_held_whole() -> None:
    """Blocks come as rows are leased; a few are in memory at any time."""
    house = House(Policy(initial_difficulty=1_000, min_difficulty=100, max_open_blocks=4))
    house.open_job(rows=2_000, blocks=50)
    rig = house.connect("anna")
    most = 0
    for _ in range(2_000):
        house.at += 10
        if rig.leases:
            house.submit(rig)
        house.tick(0)
        most = max(most, house.board.totals().blocks)
        if house.jobs[1].closed:
            break

    house.assert_complete()
    assert 2 <= most <= 10


def test_a_fast_rig_has_more_blocks_ahead_of_it() -> None:
    """Open work for two windows of all rigs, within the limit on blocks in memory."""
    house = House(Policy(probation_shares=0, initial_difficulty=1_000, min_difficulty=100))
    house.open_job(rows=4_000, blocks=400)
    rig = house.connect("anna", credit=2)
    for _ in range(4):
        house.at += 1
        house.submit(rig)

    assert house.board.totals().open_work == sum(
        int(works.sum()) for _, works in house.jobs[1].blocks
    ) - sum(share.issued.work for share in house.shares.values())
    ahead = [block for block in house.board._state.jobs[1].opened.values() if block.open_rows]
    assert len(ahead) == house.policy.max_open_blocks


def test_a_customers_later_jobs_wait_with_their_blocks() -> None:
    """Ten jobs of one customer do not sit in memory: the first two do."""
    house = House()
    for number in range(1, 11):
        house.open_job(number, rows=10, blocks=5)

    assert house.board.totals().blocks == 4


def test_opening_a_job_twice_is_refused_before_anything_changes() -> None:
    house = House()
    house.open_job()
    with pytest.raises(ValueError, match="open already"):
        house.board.handle(house.jobs[1].opened)

    house.board.check_invariants()


def test_a_block_of_no_job_is_dropped(of) -> None:
    house = House()
    effects = house.handle(
        ev.BlockOpened(
            at=house.at,
            job=9,
            block=0,
            lengths=np.ones(1, np.int32),
            works=np.ones(1, np.int64),
        )
    )

    assert of(effects, fx.BlockDropped) == [fx.BlockDropped(9, 0)]


def test_the_board_is_started_once_and_before_use() -> None:
    board = Board(Policy(), Snapshot(boot=1, reserve=0), 0.0)
    with pytest.raises(ValueError, match="not started"):
        board.handle(ev.Tick(at=0.0))
    board.start(0.0)
    with pytest.raises(ValueError, match="started before"):
        board.start(0.0)


# ── turns ────────────────────────────────────────────────────────────────────


def test_customers_are_served_in_turns_by_work() -> None:
    """A customer with ten times the rows gets no more than another while both wait."""
    house = House(PROVED)
    rig = house.connect("anna", model=None)
    house.open_job(1, rows=5_000, account="big")
    house.open_job(2, rows=500, account="small")
    assert rig.session is not None
    house.handle(ev.ModelStaged(at=house.at, session=rig.session, model=MODEL))
    for _ in range(10):
        house.at += 10
        house.submit(rig)

    assert abs(_work_of(house, "big") - _work_of(house, "small")) <= 2 * rig.difficulty


def test_a_newcomer_starts_level_and_not_at_zero() -> None:
    """Who served itself before does not have to wait for a newcomer to catch up."""
    house = House(PROVED)
    rig = house.connect("anna")
    house.open_job(1, rows=3_000, account="early")
    for _ in range(20):
        house.at += 10
        house.submit(rig)
    before = _work_of(house, "early")
    house.open_job(2, rows=3_000, account="late")
    for _ in range(20):
        house.at += 10
        house.submit(rig)

    early, late = _work_of(house, "early") - before, _work_of(house, "late")
    assert late > 0
    assert 0.5 < early / late < 2


def test_one_customers_jobs_go_in_the_order_of_creation() -> None:
    house = House(PROVED)
    house.open_job(1, rows=50)
    house.open_job(2, rows=50)
    rig = house.connect("anna")
    first = next(iter(rig.leases.values()))

    assert {job for job, _, _ in first.keys} == {1}


def test_a_rig_gets_only_models_it_has_staged() -> None:
    house = House()
    house.open_job(1, rows=10)
    rig = house.connect("anna", model="f" * 64)

    assert not rig.leases


def test_an_unstaged_model_hands_its_shares_back(of) -> None:
    house = House()
    house.open_job(1, rows=10)
    rig = house.connect("anna")
    assert rig.session is not None
    effects = house.handle(ev.ModelUnstaged(at=house.at, session=rig.session, model=MODEL))

    assert [e.state for e in of(effects, fx.LeaseEnded)] == ["released"]
    assert not rig.leases


# ── the end ──────────────────────────────────────────────────────────────────


def _held(rig: PlayedRig) -> int:
    return next(iter(rig.leases))


def test_cancelling_an_idle_job_closes_it_at_once(of) -> None:
    house = House()
    house.open_job(rows=100, blocks=4)
    effects = house.cancel(1, "expired")

    assert of(effects, fx.JobClosed) == [fx.JobClosed(1, "expired", house.at)]
    assert len(of(effects, fx.BlockDropped)) == 2
    assert not house.board.jobs()


def test_a_cancelled_job_still_pays_what_is_in_flight(of) -> None:
    """The leased part arrives within its deadline: paid, cleared; then the job closes."""
    house = House()
    rig = house.connect("anna")
    house.open_job(rows=1_000)
    lease = _held(rig)
    effects = house.cancel(1)
    assert not of(effects, fx.JobClosed)
    assert not of(effects, fx.Cancel)

    house.submit(rig, lease)
    house.tick(15)

    share = house.shares[lease]
    assert share.verdict == "cleared"
    assert sum(credit.amount for credit in share.credits) == share.issued.work
    assert house.jobs[1].closed == "cancelled"
    assert not rig.leases, "a cancelled job is not leased any more"


def test_a_cancelled_job_does_not_pay_what_comes_too_late() -> None:
    house = House()
    rig = house.connect("anna")
    house.open_job(rows=1_000)
    lease = _held(rig)
    held = rig.leases[lease]
    house.cancel(1)
    house.tick(1_000)

    assert house.jobs[1].closed == "cancelled"
    effects = house.raw_submit(rig, lease, part=0, first_row=0, rows=len(held.keys), final=True)
    assert any(isinstance(e, fx.Refused) and e.code == 21 for e in effects)
    assert house.shares[lease].verdict == "void"


def test_a_job_cancelled_before_its_block_came_drops_the_block(of) -> None:
    house = House()
    event = ev.JobOpened(
        at=house.at,
        job=5,
        account="c",
        model=MODEL,
        operation="embed",
        direct=False,
        blocks=1,
        rows=1,
        work=1,
        price=1,
        check_budget=0,
        row_bytes=4,
    )
    wanted = of(house.board.handle(event), fx.BlockWanted)
    assert [w.block for w in wanted] == [0]
    house.board.handle(ev.JobCancelled(at=house.at, job=5))
    effects = house.board.handle(
        ev.BlockOpened(
            at=house.at, job=5, block=0, lengths=np.ones(1, np.int32), works=np.ones(1, np.int64)
        )
    )

    assert effects == [fx.BlockDropped(5, 0)]


def test_progress_counts_work_and_says_when_it_ends() -> None:
    house = House(PROVED)
    house.open_job(rows=100)
    rig = house.connect("anna")
    before = house.board.jobs()[1]
    assert (before.rows, before.accepted_rows, before.eta) == (100, 0, None)
    for _ in range(3):
        house.at += 1
        house.submit(rig)

    after = house.board.jobs()[1]
    assert 0 < after.accepted_rows < 100
    assert after.accepted_work == after.accepted_rows * 100
    assert after.rate > 0
    assert after.eta == pytest.approx((after.work - after.accepted_work) / after.rate)
