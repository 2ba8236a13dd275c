"""The pool dies at any committed point and starts again: nothing is lost or paid twice."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import trio
from audit import check_money, check_results, lost_units
from world import World, simulate

ROWS = 6_000
RIGS = 12


async def a_job_through_restarts(world: World) -> None:
    random = Random(f"{world.seed} deaths")
    world.customer("carol")
    world.add_rigs(RIGS, 2.0, 60.0)
    liar = world.add_rig("liar", "rig", 20.0, falsehood=0.2)
    await world.start_rigs()
    job = await world.open_job("carol", ROWS)
    while await world.die_at_commit(random.randint(1, 80), unless=job.over):
        await trio.sleep(random.choice((0.5, 5.0, 40.0)))  # some outages outlast the grace
        await world.start_pool()
    await job.over.wait()
    await world.settle()

    assert world.boots > 2
    assert job.state == "completed"
    check_results(world, job)
    check_money(world, job)
    assert set(lost_units(world)) <= {liar.account}, "an honest rig lost pay"
    assert not world.violations, "a session failed"


@pytest.mark.parametrize("seed", [1, 2])
def test_the_pool_dies_and_the_job_goes_on(seed: int, tmp_path: Path) -> None:
    """Killed right after a commit, before anybody heard of it; rigs come back by themselves."""
    simulate(seed, tmp_path, a_job_through_restarts)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 130))
def test_the_pool_may_die_anywhere(seed: int, tmp_path: Path) -> None:
    """The long form."""
    simulate(seed, tmp_path, a_job_through_restarts)
