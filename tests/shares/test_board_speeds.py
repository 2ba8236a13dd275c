"""Rigs of very different speeds on one job: difficulty settles, and they finish together."""

from __future__ import annotations

from driver import House, PlayedRig

from shares.blocks import Kind
from shares.board import Policy

SPEEDS = [100 * 1.27**step for step in range(20)]  # work a second: 1 to 94 times the slowest


def _run(house: House, rigs: dict[str, tuple[PlayedRig, float]], until: float) -> dict[str, float]:
    """Let every rig compute its shares one after the other; returns when each last was busy."""
    ends: dict[str, float] = {}  # when the share in each rig's hands is finished
    last: dict[str, float] = {}
    clock = house.at
    while house.at < until and not all(job.closed for job in house.jobs.values()):
        for name, (rig, speed) in rigs.items():
            if not rig.leases:
                ends.pop(name, None)
            elif name not in ends:
                work = len(next(iter(rig.leases.values())).keys) * 100
                ends[name] = house.at + work / speed
        name = min(ends, key=lambda name: ends[name], default="")
        if name and ends[name] < clock + 1:
            house.at = max(house.at, ends.pop(name))
            house.submit(rigs[name][0])
            last[name] = house.at
        else:
            clock += 1
            house.at = max(house.at, clock)
            house.tick(0)
    return last


def test_rigs_of_all_speeds_finish_together() -> None:
    """Twenty rigs from 100 to 9,400 work a second, ten minutes of work, an unproved board."""
    house = House(
        Policy(min_difficulty=100, initial_difficulty=1_000, clearing_seconds=2), checked=False
    )
    rigs = {
        f"rig{number}": (house.connect(f"account{number % 7}", f"rig{number}"), speed)
        for number, speed in enumerate(SPEEDS)
    }
    rows = int(sum(SPEEDS) * 600 / 100)
    begun = house.at
    house.open_job(rows=rows, blocks=40, check_budget=rows * 3)
    middle = _run(house, rigs, until=begun + 300)
    views = {view.rig: view for view in house.board.sessions().values()}
    seconds = {name: views[name].difficulty / speed for name, (_, speed) in rigs.items()}
    last = {**middle, **_run(house, rigs, until=begun + 3_000)}
    hedged = sum(share.issued.segments[0].kind is Kind.HEDGE for share in house.shares.values())
    took = max(last.values()) - begun

    house.assert_complete()
    assert all(7 <= share <= 13.1 for share in seconds.values()), seconds
    for name, (_, speed) in rigs.items():
        rate = views[name].rate
        assert rate is not None
        assert abs(rate / speed - 1) < 0.05
    assert took < 600 * 1.08, "checks, probation and the tail cost little"
    assert max(last.values()) - min(last.values()) < 15, "nobody works on alone"
    assert hedged > 0
