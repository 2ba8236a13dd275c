"""A referee that is a rig of the operator's: it judges as the pool's own engine does."""

from __future__ import annotations

from pathlib import Path

import trio
from audit import check_money, check_results, lost_units
from simrig import SimRig
from sqlalchemy import select
from world import World, settings, simulate

from pool.court import FIRST_LEASE
from pool.store import schema
from shares.board.effects import CheckEnded, RowRefuted

COURT = settings(referee={"rigs": ["house.judge"], "models": ["blake2b"]})


def _people(world: World) -> SimRig:
    """Two honest rigs, a liar, and the judge; returns the judge."""
    world.check_invariants = True
    world.customer("carol")
    world.add_rigs(2, 10.0, 20.0)
    world.add_rig("liar", "rig", 15.0, falsehood=0.2)
    return world.add_rig("house", "judge", 200.0)


async def _start(world: World) -> None:
    """Those of the board's, and the judge."""
    for rig in world.rigs.values():
        rig.start()
    await trio.sleep(2.0)


def _banned(world: World) -> set[str]:
    with world.store.database.read() as connection:
        return set(
            connection.scalars(
                select(schema.trust.c.account).where(schema.trust.c.banned_until > 0)
            )
        )


async def _a_day_in_court(world: World) -> None:
    judge = _people(world)

    async def nobody(*_: object) -> bytes:
        raise AssertionError("the pool's own engine was asked")

    assert world.pool is not None
    world.pool.referee._compute = nobody
    await _start(world)
    job = await world.open_job("carol", 1_500)
    await job.over.wait()
    await world.settle()

    check_results(world, job)
    check_money(world, job)
    assert _banned(world) == {"liar"}
    assert set(lost_units(world)) <= {"liar"}
    assert any(isinstance(record, RowRefuted) for _, record in world.records)
    # The judge is no rig of the board's: no shares, no pay, no checks.
    assert judge.rows > 0
    with world.store.database.read() as connection:
        workers = set(connection.scalars(select(schema.lease.c.account)))
        largest = max(connection.scalars(select(schema.lease.c.id)))
    assert workers == {"m00", "m01", "liar"}
    assert largest < FIRST_LEASE
    ended = [record for _, record in world.records if isinstance(record, CheckEnded)]
    assert not any(record.checker.startswith("house") for record in ended)


def test_a_named_rig_convicts_the_liar_and_is_no_rig_of_the_board(tmp_path: Path) -> None:
    simulate(3, tmp_path, _a_day_in_court, config=COURT)


async def _a_judge_who_comes_and_goes(world: World) -> None:
    judge = _people(world)
    for rig in world.rigs.values():
        if rig is not judge:
            rig.start()
    job = await world.open_job("carol", 1_500)
    await trio.sleep(30)
    assert world.pool is not None
    assert world.pool.referee.waiting_rows > 0, "nobody is there who may judge"
    assert not _banned(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_restless, judge)
        await job.over.wait()
        nursery.cancel_scope.cancel()
    if not judge.running:
        judge.start()
    await world.settle()

    check_results(world, job)
    check_money(world, job)
    assert _banned(world) == {"liar"}
    assert set(lost_units(world)) <= {"liar"}


async def _restless(judge: SimRig) -> None:
    while True:
        judge.start()
        await trio.sleep(1.3)
        judge.unplug()
        await trio.sleep(0.7)
        judge.crash()
        await trio.sleep(2.0)


def test_what_a_judge_leaves_undone_is_asked_again(tmp_path: Path) -> None:
    """It is away at first, cut off and switched off in the middle: nothing is lost or decided."""
    simulate(4, tmp_path, _a_judge_who_comes_and_goes, config=COURT)
