"""Several pools: failing over to the next, returning to the first, keeping leases apart."""

from __future__ import annotations

import pytest
import trio
from scripted_pool import ADDRESS, ScriptedPool, digests_of, rows_of

from gpu_worker.config import PoolAddress
from stratum import messages as wire
from stratum.client import RigConnection

SECOND = PoolAddress("spare.example", 3333)


@pytest.fixture
async def spare(nursery: trio.Nursery) -> ScriptedPool:
    return ScriptedPool(nursery, SECOND)


@pytest.fixture
def both(pool: ScriptedPool, spare: ScriptedPool):
    async def connector(address: PoolAddress) -> RigConnection:
        return await (pool if address == ADDRESS else spare).connector(address)

    return {"connector": connector, "pools": (ADDRESS, SECOND)}


async def test_the_first_pool_is_used_while_it_answers(
    pool, spare, both, start_rig, autojump_clock
) -> None:
    """The second is not even dialled."""
    start_rig(**both)
    await pool.session()
    await trio.sleep(1000)

    assert spare.dials == []


async def test_the_second_pool_takes_over_and_the_first_is_returned_to(
    pool, spare, both, start_rig, autojump_clock
) -> None:
    """Three failures lead to the second; there the first is looked for, and returned to."""
    pool.down = True
    start_rig(**both)
    session = await spare.session()
    session.give(1, rows_of(2))
    await spare.until(lambda: len(spare.rows(1)) == 2)
    assert len(pool.dials) == 3

    pool.down = False
    returned = await pool.session(1)  # session 0 is the look that the rig had first
    returned.give(2, rows_of(2))
    await pool.until(lambda: len(pool.rows(2)) == 2)

    assert session.over
    assert pool.sessions[0].of(wire.ModelReady) == []


async def test_returning_to_the_first_pool_costs_the_second_no_share(
    pool, spare, both, start_rig, steps, autojump_clock
) -> None:
    """The share in work is finished, those not begun are handed back."""
    pool.down = True
    start_rig(**both, part_rows=1, drain=200.0)
    session = await spare.session()
    steps.seconds = 1.0
    session.give(1, rows_of(100))
    session.give(2, rows_of(100))
    pool.down = False
    await pool.session(1)

    assert spare.rows(1) == digests_of(rows_of(100))
    assert [(r.lease, r.reason) for r in session.of(wire.Release)] == [(2, "stopping")]


async def test_leases_of_one_pool_are_never_sent_to_another(
    pool, spare, both, start_rig, steps, autojump_clock
) -> None:
    """The first pool's parts wait for the first pool, though the second has the same lease."""
    steps.seconds = 1.0
    start_rig(**both, part_rows=1)
    session = await pool.session()
    session.give(7, rows_of(6))
    await pool.until(lambda: len(session.of(wire.Submit)) == 2)
    pool.down = True
    await session.cut()

    other = await spare.session()
    await trio.sleep(10)
    assert other.of(wire.Submit) == []
    different = rows_of(3, tokens=5)
    other.give(7, different)
    await spare.until(lambda: len(spare.rows(7)) == 3)
    assert spare.rows(7) == digests_of(different)

    pool.down = False
    await pool.until(lambda: len(pool.rows(7)) == 6)
    assert pool.rows(7) == digests_of(rows_of(6))


async def test_a_pool_that_denies_the_rig_gives_way_to_the_next(
    pool, spare, both, start_rig, autojump_clock
) -> None:
    """The second works on; the first is asked again slowly, without leaving the second."""
    pool.deny = "unknown_account"
    start_rig(**both)
    session = await spare.session()
    await trio.sleep(600)

    assert not session.over
    assert 2 <= len(pool.dials) <= 25
