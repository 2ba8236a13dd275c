"""The end of a job: shares shrink, slow rigs are hedged, and all rigs finish together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from world import World, settings, simulate

from shares.blocks import Kind
from shares.board import hedging
from shares.board.effects import LeaseIssued, PartAccepted

SECONDS = 40.0  # of work for all rigs together
SLOWEST = 0.15  # rows a second: its first share alone takes as long as the whole job

# The slowest rigs are on probation to the end; here they do not come after the others.
CONFIG = settings(trust={"admission_ppm": 1_000_000})

# What the start (small shares while nobody is known), the checks of new rigs and the tail may
# cost above the ideal: all work divided by all speed.
BOUND = 6.0
# How long before the end a rig may have had its last result accepted.
TOGETHER = 2.0


@dataclass(slots=True)
class Tail:
    ideal: float
    taken: float
    hedged: int  # rows leased twice
    idle: dict[str, float]  # {rig: seconds from its last accepted part to the last of all}


async def a_job_with_one_very_slow_rig(world: World) -> Tail:
    world.check_invariants = False  # the board's own tests look at them
    world.customer("carol")
    world.add_rigs(16)
    slow = world.add_rig("slow", "rig", SLOWEST)
    await world.start_rigs()
    rows = round(SECONDS * world.speed)
    job = await world.open_job("carol", rows)
    await job.over.wait()
    owners, hedged, last = {}, 0, dict.fromkeys(world.rigs, job.opened)
    for moment, record in world.records:
        if isinstance(record, LeaseIssued):
            owners[record.lease] = f"{record.account}.{record.rig}"
            hedged += sum(s.rows for s in record.segments if s.kind is Kind.HEDGE)
        if isinstance(record, PartAccepted):
            last[owners[record.lease]] = moment
    assert job.accepted is not None
    return Tail(
        ideal=rows / world.speed,
        taken=job.computing_seconds,
        hedged=hedged,
        idle={user: job.accepted - at for user, at in last.items() if user != slow.user},
    )


def test_a_very_slow_rig_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """Its rows are leased to a faster rig as well."""
    tail = simulate(4, tmp_path, a_job_with_one_very_slow_rig, config=CONFIG)

    assert tail.hedged > 0
    assert tail.taken <= tail.ideal + BOUND
    assert max(tail.idle.values()) <= TOGETHER


def test_without_hedges_the_end_waits_for_the_slowest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the hedges are worth: the same seed without them is far above the bound."""
    monkeypatch.setattr(hedging, "hedge", lambda *_: False)

    tail = simulate(4, tmp_path, a_job_with_one_very_slow_rig, config=CONFIG)

    assert tail.hedged == 0
    assert tail.taken > tail.ideal + 2 * BOUND
