"""Shares take the target time, whatever the rig's speed."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import mean, median

from world import World, settings, simulate

from shares.board.effects import LeaseIssued

RIGS = 16
TARGET = settings().shares.target_seconds
SETTLED = 50.0  # seconds from the start of the job


async def share_seconds(world: World) -> dict[str, list[float]]:
    """{rig: how long each share keeps it busy}, of shares cut once vardiff had its time."""
    world.check_invariants = False  # the board's own tests look at them
    world.customer("carol")
    world.add_rigs(RIGS)
    await world.start_rigs()
    job = await world.open_job("carol", round(world.speed * 140))
    await job.over.wait()
    # Near the end shares are smaller on purpose: the guided cut takes over.
    until = job.opened + 0.75 * job.computing_seconds
    seconds = defaultdict(list)
    for _, record in world.records:
        if isinstance(record, LeaseIssued):
            user = f"{record.account}.{record.rig}"
            if record.issued - world.epoch - job.opened > SETTLED and record.issued < (
                world.epoch + until
            ):
                seconds[user].append(record.work / world.rigs[user].speed)
    return seconds


def test_vardiff_settles_at_the_target_for_every_speed(tmp_path: Path) -> None:
    """From 1 to 100 rows a second."""
    seconds = simulate(3, tmp_path, share_seconds)

    assert len(seconds) == RIGS
    for user, found in seconds.items():
        assert TARGET / 2 <= median(found) <= TARGET * 1.5, (user, found)
        assert TARGET / 2 <= mean(found) <= TARGET * 1.5, (user, found)
