"""Rigs that vanish, come back, crash, leave and lie: every row right, every honest unit kept."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import trio
from audit import check_money, check_results, lost_units
from sqlalchemy import select
from trouble import trouble
from world import World, simulate

from pool.store import schema
from shares.board.effects import HeldForfeited, LeaseEnded, ShareJudged

HONEST, LIARS = 14, 3
ROWS = 5_000


async def a_job_among_troubled_rigs(world: World) -> None:
    world.customer("carol")
    world.add_rigs(HONEST, 1.0, 40.0)
    liars = [
        world.add_rig(f"liar{n}", "rig", world.random.uniform(2, 20), falsehood=0.2)
        for n in range(LIARS)
    ]
    await world.start_rigs()
    async with trio.open_nursery() as nursery:
        for rig in world.rigs.values():
            nursery.start_soon(trouble, rig, Random(f"{world.seed} trouble {rig.user}"))
        jobs = [await world.open_job("carol", ROWS) for _ in range(2)]
        for job in jobs:
            await job.over.wait()
        nursery.cancel_scope.cancel()
    await world.settle()

    for job in jobs:
        assert job.state == "completed"
        check_results(world, job)
    check_money(world, *jobs)
    names = {rig.account for rig in liars}
    assert set(lost_units(world)) <= names, "an honest rig lost pay"
    judged = {r.lease: r for _, r in world.records if isinstance(r, ShareJudged)}
    forfeits = {r.account for _, r in world.records if isinstance(r, HeldForfeited)}
    with world.store.database.read() as connection:
        for row in connection.execute(select(schema.lease.c.id, schema.lease.c.account)):
            assert row.id in judged or row.account in names, "a share was never judged"
            if row.id in judged and judged[row.id].state == "rejected":
                assert row.account in names, "an honest share was rejected"
        trust = connection.execute(select(schema.trust)).all()
    assert forfeits <= names
    assert {row.account for row in trust if row.banned_until > 0} == names
    assert not world.violations, "a session failed"
    ends = {(r.state, r.fault) for _, r in world.records if isinstance(r, LeaseEnded)}
    assert {("expired", "network"), ("released", "none"), ("released", "network")} <= ends
    assert sum(rig.sessions for rig in world.rigs.values()) > 3 * len(world.rigs)


@pytest.mark.parametrize("seed", [1])
def test_nothing_is_lost_among_troubled_and_lying_rigs(seed: int, tmp_path: Path) -> None:
    """Rows are cleared once and right, liars are banned, the ledger adds up."""
    simulate(seed, tmp_path, a_job_among_troubled_rigs)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 120))
def test_nothing_is_lost_whatever_the_seed(seed: int, tmp_path: Path) -> None:
    """The long form."""
    simulate(seed, tmp_path, a_job_among_troubled_rigs)
