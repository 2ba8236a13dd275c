"""All at once: rigs in trouble, liars, a pool that dies, several customers, a cancelled job."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import trio
from audit import check_money, check_results, lost_units
from trouble import trouble
from world import World, simulate

HONEST, LIARS = 10, 2


async def storm(world: World) -> None:
    random = Random(f"{world.seed} storm")
    for customer in ("carol", "dave"):
        world.customer(customer)
    world.add_rigs(HONEST, 2.0, 60.0)
    for n in range(LIARS):
        world.add_rig(f"liar{n}", "rig", random.uniform(2, 30), falsehood=0.2)
    await world.start_rigs()
    done = trio.Event()
    async with trio.open_nursery() as nursery:
        jobs = [
            await world.open_job(random.choice(("carol", "dave")), random.randint(500, 2_500))
            for _ in range(3)
        ]
        jobs.append(await world.open_job("dave", 3, direct=True))
        dropped = await world.open_job("carol", 2_000)
        for rig in world.rigs.values():
            nursery.start_soon(trouble, rig, Random(f"{world.seed} trouble {rig.user}"), 20.0)
        nursery.start_soon(_deaths, world, random, done)
        await trio.sleep(random.uniform(0, 30))
        await world.cancel(dropped)
        for job in (*jobs, dropped):
            await job.over.wait()
        done.set()
        await world.running.wait()
        nursery.cancel_scope.cancel()
    await world.settle()

    assert all(job.state == "completed" for job in jobs)
    assert dropped.state in ("cancelled", "completed")
    for job in jobs:
        check_results(world, job)
    check_money(world, *jobs)
    check_money(world, dropped, whole=dropped.state == "completed")
    assert all(account.startswith("liar") for account in lost_units(world))
    assert not world.violations, "a session failed"


async def _deaths(world: World, random: Random, done: trio.Event) -> None:
    while await world.die_at_commit(random.randint(1, 120), unless=done):
        await trio.sleep(random.choice((0.5, 3.0, 30.0)))
        await world.start_pool()


@pytest.mark.parametrize("seed", [1])
def test_a_storm_loses_nothing(seed: int, tmp_path: Path) -> None:
    """Rows are cleared once and right, honest pay is kept, every unit is where it belongs."""
    simulate(seed, tmp_path, storm)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(200, 240))
def test_no_storm_loses_anything(seed: int, tmp_path: Path) -> None:
    """The long form."""
    simulate(seed, tmp_path, storm)
