"""Many new names beside established rigs that could do all the work there is."""

from __future__ import annotations

from pathlib import Path

import trio
from world import World, settings, simulate

from shares.board.effects import LeaseIssued

SYBILS = 12


async def _beside_old_rigs(world: World) -> tuple[float, bool]:
    """Jobs that take half of what four old rigs can do: which part of the rows went to the new
    ones, and whether one of these is established after a while."""
    world.check_invariants = False
    world.customer("carol")
    for number in range(4):
        world.add_rig(f"old{number}", "rig", 100.0)
    await world.start_rigs()
    first = await world.open_job("carol", 4_000)
    await first.over.wait()
    for number in range(SYBILS):
        world.add_rig(f"new{number}", "rig", 50.0).start()
    await trio.sleep(3)
    since = world.now
    for _ in range(4):
        await world.open_job("carol", 1_000)
        await trio.sleep(5)
    leased = [
        (record.account.startswith("new"), record.rows)
        for moment, record in world.records
        if isinstance(record, LeaseIssued) and moment >= since
    ]
    everything = sum(rows for _, rows in leased)
    return sum(rows for new, rows in leased if new) / everything, any(new for new, _ in leased)


def test_new_names_get_little_of_what_old_rigs_could_do(tmp_path: Path) -> None:
    """They have one share between them at a time; without the limit it is half of the work."""
    config = {"shares": {"initial_difficulty": 50}}
    part, some = simulate(3, tmp_path, _beside_old_rigs, config=settings(**config))

    assert some
    assert part < 0.1


def test_without_the_limit_they_get_most_of_it(tmp_path: Path) -> None:
    config = {"shares": {"initial_difficulty": 50}, "trust": {"admission_ppm": 1_000_000}}
    part, _ = simulate(3, tmp_path, _beside_old_rigs, config=settings(**config))

    assert part > 0.4
