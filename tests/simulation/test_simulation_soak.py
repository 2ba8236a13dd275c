"""Very many rows while everything that can happen to lines, machines and the pool does happen."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import pytest
import trio
from audit import check_money, check_results, lost_units
from sqlalchemy import func, select
from trouble import every_trouble
from world import SimJob, World, simulate

from pool.store import schema

RIGS = 12
JOB_ROWS = 10_000
AT_ONCE = 3  # batches under way


@dataclass(frozen=True, slots=True)
class Toll:
    """What a run came to."""

    rows: int
    seconds: float  # virtual
    troubles: Counter[str]
    liars_rejected: int


async def soak(world: World, rows: int, liars: int) -> Toll:
    """Batches one after the other, and now and then an interactive request, for so many rows."""
    world.check_invariants = False
    troubles: Counter[str] = Counter()
    world.customer("carol", 100_000_000)
    for number in range(RIGS):
        speed = 20.0 * 10 ** (number / (RIGS - 1))
        world.add_rig(f"m{number:02}", "rig", speed, latency=0.01 * 50 ** (number % 3 / 2))
    for number in range(liars):
        world.add_rig(f"liar{number}", "rig", 60.0, falsehood=0.05)
    await world.start_rigs()
    over = trio.Event()
    jobs: list[SimJob] = []
    async with trio.open_nursery() as nursery:
        for rig in list(world.rigs.values()):
            random = Random(f"{world.seed} trouble {rig.user}")
            nursery.start_soon(every_trouble, rig, random, 40.0, troubles)
        nursery.start_soon(_deaths, world, troubles, over)
        nursery.start_soon(_requests, world, jobs, over)
        under_way: list[SimJob] = []
        begun = 0
        while begun < rows or under_way:
            while begun < rows and len(under_way) < AT_ONCE:
                count = min(JOB_ROWS, rows - begun)
                begun += count
                under_way.append(await _open(world, count))
                jobs.append(under_way[-1])
            await trio.sleep(1.0)
            under_way = [job for job in under_way if not job.over.is_set()]
        over.set()
        await world.running.wait()
        nursery.cancel_scope.cancel()
    for job in jobs:
        await job.over.wait()
    await world.settle()

    assert all(job.state == "completed" for job in jobs)
    for job in jobs:
        check_results(world, job)
    check_money(world, *jobs)
    _nobody_honest_lost(world)
    assert not world.violations, "a session failed"
    with world.store.database.read() as connection:
        rejected = schema.lease.c.verdict == "rejected"
        count = connection.scalar(select(func.count()).select_from(schema.lease).where(rejected))
    return Toll(sum(len(job.rows) for job in jobs), world.now, troubles, int(count or 0))


def _nobody_honest_lost(world: World) -> None:
    """No unit, no rejected share, no wrong row, no ban."""
    assert all(account.startswith("liar") for account in lost_units(world))
    lease, trust = schema.lease.c, schema.trust.c
    with world.store.database.read() as connection:
        rejected = connection.scalars(select(lease.account).where(lease.verdict == "rejected"))
        banned = connection.scalars(
            select(trust.account).where((trust.banned_until > 0) | (trust.isolated > 0))
        )
        assert all(account.startswith("liar") for account in (*rejected, *banned))


async def _open(world: World, rows: int, *, direct: bool = False) -> SimJob:
    await world.running.wait()
    return await world.open_job("carol", rows, direct=direct)


async def _requests(world: World, jobs: list[SimJob], over: trio.Event) -> None:
    random = Random(f"{world.seed} requests")
    while not over.is_set():
        await trio.sleep(random.uniform(2, 20))
        await world.running.wait()
        if not over.is_set():
            jobs.append(await _open(world, random.randint(1, 20), direct=True))


async def _deaths(world: World, troubles: Counter[str], over: trio.Event) -> None:
    random = Random(f"{world.seed} deaths")
    while await world.die_at_commit(random.randint(200, 1_500), unless=over):
        troubles["the pool was killed"] += 1
        await trio.sleep(random.choice((0.5, 3.0, 30.0)))
        await world.start_pool()


@pytest.mark.parametrize("liars", [0, 2])
def test_many_rows_and_every_trouble_cost_no_honest_rig_anything(
    liars: int, tmp_path: Path
) -> None:
    """Each row is done once and right, and every unit is where it belongs."""
    toll = simulate(11 + liars, tmp_path, partial(soak, rows=10_000, liars=liars))

    assert toll.rows >= 10_000
    assert bool(toll.liars_rejected) is bool(liars)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("liars", [0, 2])
def test_a_million_rows_and_every_trouble_cost_no_honest_rig_anything(
    liars: int, tmp_path: Path
) -> None:
    """The long form; what it prints is in docs/VALIDATION.md."""
    began = time.perf_counter()
    run = partial(soak, rows=1_000_000, liars=liars)
    toll = simulate(21 + liars, tmp_path, run, limit=100_000.0)

    assert toll.rows >= 1_000_000
    print(f"\n{toll.rows:,} rows, {liars} liars, {toll.seconds:,.0f} virtual seconds", end=", ")
    print(f"{time.perf_counter() - began:,.0f} real")
    for name, times in sorted(toll.troubles.items()):
        print(f"  {name}: {times}")
    print(f"  rejected shares, all of liars: {toll.liars_rejected}")
