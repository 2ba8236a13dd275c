"""Customers share the rigs evenly, and a direct request does not wait behind a batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from world import World, simulate

from shares.blocks import Kind
from shares.board.effects import LeaseIssued

RIGS = 16


def leases_of_rows(world: World) -> Iterator[tuple[float, int, int]]:
    """(moment, job, rows) of every range of rows leased for the first time."""
    for moment, record in world.records:
        if isinstance(record, LeaseIssued):
            for segment in record.segments:
                if segment.kind is Kind.ROW:
                    yield moment, segment.job, segment.rows


@dataclass(slots=True)
class Leased:
    rows: list[int]  # for carol's job, her second, and dave's, while dave's had rows to lease
    first_ends: float  # the last rows of carol's first job are leased
    second_begins: float  # the first rows of her second one are


async def two_customers(world: World) -> Leased:
    world.check_invariants = False  # the board's own tests look at them
    world.customer("carol")
    world.customer("dave")
    world.add_rigs(RIGS, 2.0, 60.0)
    await world.start_rigs()
    mine = await world.open_job("carol", round(40 * world.speed))
    also_mine = await world.open_job("carol", round(40 * world.speed))
    await world.sleep_until(10.0)
    theirs = await world.open_job("dave", round(25 * world.speed))
    since = world.now
    for job in (mine, also_mine, theirs):
        await job.over.wait()
    until = max(moment for moment, job, _ in leases_of_rows(world) if job == theirs.job)
    rows = [
        sum(
            rows
            for moment, of, rows in leases_of_rows(world)
            if of == job.job and since <= moment < until
        )
        for job in (mine, also_mine, theirs)
    ]
    return Leased(
        rows,
        max(moment for moment, of, _ in leases_of_rows(world) if of == mine.job),
        min(moment for moment, of, _ in leases_of_rows(world) if of == also_mine.job),
    )


def test_customers_share_evenly_however_many_jobs_they_have(tmp_path: Path) -> None:
    """Who came later and has one job gets as much as who came first with two, oldest first."""
    leased = simulate(8, tmp_path, two_customers)
    first, second, others = leased.rows

    assert others > 0
    assert 0.8 <= (first + second) / others <= 1.25
    assert leased.second_begins >= leased.first_ends, "a customer's older job goes first"


async def a_direct_request_beside_a_batch(world: World) -> tuple[float, float]:
    """Seconds until the direct request was leased and until it was answered."""
    world.customer("carol")
    world.customer("dave")
    world.add_rigs(RIGS, 2.0, 60.0)
    await world.start_rigs()
    batch = await world.open_job("carol", round(80 * world.speed))
    await world.sleep_until(40.0)
    direct = await world.open_job("dave", 5, direct=True)
    await direct.over.wait()
    leased = min(
        moment
        for moment, record in world.records
        if isinstance(record, LeaseIssued) and record.segments[0].job == direct.job
    )
    assert batch.closed is None
    return leased - direct.opened, direct.seconds


def test_a_direct_request_is_leased_at_once(tmp_path: Path) -> None:
    """One credit of every rig is kept free for it."""
    leased, answered = simulate(9, tmp_path, a_direct_request_beside_a_batch)

    assert leased < 0.5
    assert answered < 30.0
