"""One attack on a pool with honest rigs: who takes part, for how much work, from which seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio
from attackrig import AttackRig, Book, Strategy, add
from damage import DEPOSIT, Outcome, measure
from world import World, settings, simulate

Recruit = Callable[[World, Book, float], list[AttackRig]]
"""Makes the attacker's machines, of that speed in rows a second, and says which are his.

Those that are not ``late`` are switched on at the beginning.
"""

PATIENCE = 900.0  # virtual seconds after which a job counts as never finished


@dataclass(frozen=True, slots=True)
class Attack:
    """A line of the matrix."""

    name: str
    recruit: Recruit
    rows: int = 1_200  # of the job, in the short form
    honest: int = 4
    loud: bool = False  # all its accounts are banned, whatever the seed
    luck: float = 0.0  # most profit in units of one run of the short form, uncaught as it may be
    gain: float = 0.0  # most profit in units of a run of the full form, on average
    speed: float = 8.0  # rows a second of one attacker; honest ones have 4 to 16
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    customer: bool = False  # the job's customer is the attacker's partner
    blameless: bool = False  # none of its accounts is to be rejected or banned
    victims: bool = False  # its accounts mean no harm: what they lose is honest units lost

    def longer(self, times: int) -> Attack:
        """The same with a bigger job."""
        return replace(self, rows=self.rows * times)


def run(attack: Attack, seed: int, folder: Path) -> Outcome:
    """Simulate it; the same seed gives the same outcome."""

    async def scenario(world: World) -> Outcome:
        world.check_invariants = False  # the simulation's own tests look at them
        book = Book()
        world.customer("carol", DEPOSIT)
        honest = Strategy()
        for number in range(attack.honest):
            add(world, book, f"m{number}", 4.0 * 4 ** (number / 3), honest)
        rigs = attack.recruit(world, book, attack.speed)
        for rig in list(world.rigs.values()):
            assert isinstance(rig, AttackRig)
            if not rig.late:
                rig.start()
        await trio.sleep(2.0)
        book.rows = attack.rows
        job = await world.open_job("carol", attack.rows)
        with trio.move_on_after(PATIENCE):
            await job.over.wait()
        with trio.move_on_after(60.0):
            await world.settle()
        assert world.pool is not None
        await world.pool.settler.settle()
        return measure(world, job, rigs, partner=attack.customer, victims=attack.victims)

    return simulate(seed, folder, scenario, config=settings(**attack.settings))
