"""A disk that cannot keep up: the pool stops leasing, then reading, and loses nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from audit import check_money, check_results, lost_units
from world import World, settings, simulate

from shares.board.effects import LeaseEnded
from shares.board.events import Event, LeasingPaused, PartSubmitted

RIGS = 20
MARK = 16_384  # bytes; a message here has up to 8 KiB


@dataclass(slots=True)
class Waiting:
    most: int = 0
    pauses: int = 0
    resumes: int = 0
    closed: int = 0  # events that met a pool that had stopped reading
    largest: dict[int, int] = field(default_factory=dict)  # {session: bytes of its largest part}
    expired: int = 0


async def slow_disk(world: World) -> Waiting:
    seen = Waiting()

    def look(event: Event) -> None:
        assert world.pool is not None
        core = world.pool.core
        seen.most = max(seen.most, core.committer.waiting_bytes)
        seen.closed += not core.room.is_set()
        if isinstance(event, PartSubmitted):
            seen.largest[event.session] = max(seen.largest.get(event.session, 0), event.size)
        if isinstance(event, LeasingPaused):
            seen.pauses += event.paused
            seen.resumes += not event.paused

    world.customer("carol")
    world.add_rigs(RIGS, 50.0, 100.0)
    await world.start_rigs()
    world.on_event = look
    # The first seconds are quick, so that shares and parts have grown when the disk gets slow.
    job = await world.open_job("carol", 40_000)
    while world.now - job.opened < 10:
        await world.next_commit()
    world.commit_seconds = lambda group: 4.0 if group.payloads else 0.5
    while world.now - job.opened < 60:
        await world.next_commit()
    world.commit_seconds = lambda _: 0.05
    await job.over.wait()
    await world.settle()
    check_results(world, job)
    check_money(world, job)
    assert not lost_units(world)
    seen.expired = sum(
        isinstance(record, LeaseEnded) and record.state == "expired" for _, record in world.records
    )
    return seen


def test_the_high_water_mark_holds(tmp_path: Path) -> None:
    """Waiting bytes stay below the mark and one message of each session."""
    config = msgspec.structs.replace(settings(), commit_high_water_bytes=MARK)

    seen = simulate(5, tmp_path, slow_disk, config=config)

    assert seen.pauses > 1
    assert seen.resumes == seen.pauses
    assert seen.expired == 0, "the pool's own stall counted against a rig"
    assert seen.closed > 0, "the disk was not slow enough to reach the mark"
    assert MARK < seen.most <= MARK + sum(seen.largest.values())


async def hanging_disk(world: World) -> list[str]:
    """Returns how leases ended."""
    world.customer("carol")
    world.add_rigs(RIGS, 50.0, 100.0)
    await world.start_rigs()
    job = await world.open_job("carol", 30_000)
    while world.now - job.opened < 8:
        await world.next_commit()
    world.commit_seconds = lambda _: 100.0  # longer than any deadline
    await world.next_commit()
    world.commit_seconds = lambda _: 0.05
    await job.over.wait()
    await world.settle()
    check_results(world, job)
    check_money(world, job)
    return [record.state for _, record in world.records if isinstance(record, LeaseEnded)]


def test_a_disk_that_hangs_costs_no_rig_its_shares(tmp_path: Path) -> None:
    """Nothing expires: deadlines wait with the pool."""
    config = msgspec.structs.replace(settings(), commit_high_water_bytes=MARK)

    ended = simulate(6, tmp_path, hanging_disk, config=config)

    assert "expired" not in ended
    assert ended.count("done") > RIGS
