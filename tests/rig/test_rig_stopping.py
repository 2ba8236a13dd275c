"""Stopping: the share in work is finished if it can be, the others are handed back."""

from __future__ import annotations

import trio
from scripted_pool import digests_of, rows_of

from stratum import messages as wire


async def test_draining_finishes_the_share_in_work_and_hands_back_the_rest(
    pool, start_rig, steps, autojump_clock
) -> None:
    """No share that was not begun is computed; none that comes later is taken."""
    steps.seconds = 1.0
    rig = start_rig(part_rows=1, drain=20.0)
    session = await pool.session()
    for lease in (1, 2, 3):
        session.give(lease, rows_of(8))
    await pool.until(lambda: len(pool.rows(1)) == 2)

    rig.stop()
    await trio.sleep(1.5)
    session.give(4, rows_of(8))
    await pool.until(lambda: session.over)

    assert pool.rows(1) == digests_of(rows_of(8))
    assert {(r.lease, r.reason) for r in session.of(wire.Release)} == {
        (2, "stopping"),
        (3, "stopping"),
        (4, "stopping"),
    }
    assert pool.results.keys() == {1}


async def test_a_share_that_takes_too_long_is_handed_back_in_time(
    pool, start_rig, steps, autojump_clock
) -> None:
    """What was computed of it counts; the rest is another rig's."""
    steps.seconds = 1.0
    rig = start_rig(part_rows=1, drain=5.0)
    session = await pool.session()
    session.give(1, rows_of(1000))
    await pool.until(lambda: len(pool.rows(1)) == 2)

    began = trio.current_time()
    rig.stop()
    await pool.until(lambda: session.over)

    assert 5.0 <= trio.current_time() - began <= 6.0
    assert len(pool.rows(1)) >= 6
    assert [(r.lease, r.reason) for r in session.of(wire.Release)] == [(1, "stopping")]


async def test_an_idle_rig_stops_at_once(pool, start_rig, autojump_clock) -> None:
    """Connected or not, with nothing in hand there is nothing to wait for."""
    rig = start_rig()
    session = await pool.session()
    began = trio.current_time()
    rig.stop()
    await pool.until(lambda: session.over)
    assert trio.current_time() - began < 1.0


async def test_a_rig_without_a_pool_stops_at_once(pool, start_rig, autojump_clock, nursery) -> None:
    """The wait for the next try is not sat out."""
    pool.down = True
    rig = start_rig()
    await pool.until(lambda: len(pool.dials) == 9)
    dials = len(pool.dials)

    rig.stop()
    await trio.sleep(1000)

    assert len(pool.dials) == dials


async def test_parts_that_wait_for_a_lost_pool_are_delivered_while_draining(
    pool, start_rig, steps, autojump_clock
) -> None:
    """A rig that is told to stop during an outage uses its time to hand in what it has."""
    steps.seconds = 1.0
    rig = start_rig(part_rows=1, drain=60.0)
    session = await pool.session()
    session.give(1, rows_of(4))
    await pool.until(lambda: len(pool.rows(1)) == 1)
    pool.down = True
    await session.cut()
    rig.stop()
    await trio.sleep(6)
    pool.down = False
    again = await pool.session(1)
    await pool.until(lambda: again.over)

    assert pool.rows(1) == digests_of(rows_of(4))


async def test_a_pool_that_does_not_answer_a_release_does_not_hold_the_rig(
    pool, start_rig, steps, autojump_clock
) -> None:
    """Three seconds, then it leaves."""
    steps.seconds = 100.0
    rig = start_rig(drain=1.0)
    session = await pool.session()
    session.give(1, rows_of(4))
    await trio.sleep(1)
    pool.mute = True
    began = trio.current_time()

    rig.stop()
    await pool.until(lambda: session.over)

    assert trio.current_time() - began <= 5.0
