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
    world.check_invariants = False  # the board's own tests look at them
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
    for second in (25, 40, 55):
        while world.now - job.opened < second:
            await world.next_commit()
        for rig in world.rigs.values():  # back at once, with all that was not acknowledged
            rig.unplug()
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
    assert MARK < seen.most <= MARK + RIGS * max(seen.largest.values())


async def hanging_disk(world: World) -> list[str]:
    """Returns how leases ended."""
    world.check_invariants = False  # the board's own tests look at them
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


async def a_burst(world: World) -> tuple[int, int]:
    """Returns the most bytes that waited, and the bytes of the largest message."""
    most = largest = 0

    def look(event: Event) -> None:
        nonlocal most, largest
        assert world.pool is not None
        most = max(most, world.pool.core.committer.waiting_bytes)
        if isinstance(event, PartSubmitted):
            largest = max(largest, event.size)

    world.customer("carol")
    rig = world.add_rig("anna", "rig", 300.0, part_seconds=0.5)
    await world.start_rigs()
    job = await world.open_job("carol", 12_000)
    await world.sleep_until(15.0)
    world.on_event = look
    rig.unplug()
    world.refuse = True
    await world.sleep_until(25.0)
    world.refuse = False  # back with ten seconds of results, many to one read
    world.commit_seconds = lambda _: 2.0
    await world.sleep_until(35.0)
    world.commit_seconds = lambda _: 0.05
    await job.over.wait()
    return most, largest


def test_a_burst_stops_at_the_mark_too(tmp_path: Path) -> None:
    """A rig that sends all at once what was not acknowledged is read message by message."""
    config = msgspec.structs.replace(settings(), commit_high_water_bytes=MARK)

    most, largest = simulate(7, tmp_path, a_burst, config=config)

    assert MARK < most <= MARK + largest
