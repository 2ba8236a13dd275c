"""Rigs by state and how closely they are checked, looked at now and then, for metrics."""

from __future__ import annotations

import heapq
import math
from contextlib import aclosing
from dataclasses import dataclass, field

import trio

from pool.core import Core
from pool.court import Court
from pool.rigwalk import walk_rigs

LOOK_SECONDS = 5.0


@dataclass(slots=True)
class RigWatch:
    """What was found at the last look.

    ``chances``: of an ordinary row to be computed again, (mean, least) over the connected rigs;
    None without any. ``fastest``: the ``top`` rigs by rate, (ACCOUNT.RIG, work a second).
    """

    core: Core
    court: Court
    top: int = 0
    sessions: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("working", "idle", "referee"), 0)
    )
    chances: tuple[float, float] | None = None
    fastest: list[tuple[str, float]] = field(default_factory=list)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await trio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Walk over all rigs once."""
        counts = {"working": 0, "idle": 0, "referee": self.court.present}
        total, least, rates = 0.0, 1.0, []
        async with aclosing(walk_rigs(self.core.board)) as walk:
            async for view, trust in walk:
                counts["working" if view.leases else "idle"] += 1
                chance = row_chance(trust.check_rate_ppm, trust.referee_rate_ppm)
                total, least = total + chance, min(least, chance)
                if self.top:
                    rates.append((view.rate or 0.0, f"{view.account}.{view.rig}"))
        rigs = counts["working"] + counts["idle"]
        self.sessions = counts
        self.chances = (total / rigs, least) if rigs else None
        self.fastest = [(name, rate) for rate, name in heapq.nlargest(self.top, rates)]


def row_chance(check_ppm: int, referee_ppm: int) -> float:
    """The chance that a row is drawn by either of two independent draws."""
    return 1.0 - (1.0 - check_ppm / 1e6) * (1.0 - referee_ppm / 1e6)


def rows_until_drawn(chance: float, surety: float) -> float:
    """Rows until at least one of them is drawn with the probability ``surety``.

    Each is drawn by itself: ``ceil(ln(1 - surety) / ln(1 - chance))``.
    """
    if chance >= 1.0:
        return 1.0
    return math.inf if chance <= 0.0 else math.ceil(math.log1p(-surety) / math.log1p(-chance))
