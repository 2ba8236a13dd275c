"""What a machine in the field goes through."""

from __future__ import annotations

from collections import Counter
from random import Random

import trio
from simrig import SimRig


async def trouble(rig: SimRig, random: Random, every: float = 15.0) -> None:
    """Unplug, crash or leave at random, and come back, for ever; ``every`` seconds on average."""
    while True:
        await trio.sleep(random.expovariate(1 / every))
        what = random.choice(("unplugged", "unplugged", "crash", "leave"))
        if what == "unplugged":
            rig.unplug()
        elif what == "crash" and rig.running:
            rig.crash()
            await trio.sleep(random.uniform(0.1, 30))
            rig.start()
        elif rig.running:
            await rig.leave()
            await trio.sleep(random.uniform(0.1, 10))
            rig.start()


async def every_trouble(rig: SimRig, random: Random, every: float, seen: Counter[str]) -> None:
    """All that a line, a machine or its owner does, one after the other, for ever.

    ``every`` seconds on average; ``seen`` counts them by name.
    """
    while True:
        await trio.sleep(random.expovariate(1 / every))
        what = random.choice(
            ("cut", "stall", "dead line", "torn frame", "crash", "restart", "second process")
        )
        if not rig.running or (not rig.lines and what in ("stall", "dead line", "torn frame")):
            continue
        seen[what] += 1
        if what == "cut":
            rig.unplug()
        elif what == "stall":
            rig.lines[-1].stall(random.uniform(1, 60))
        elif what == "dead line":
            rig.lines[-1].swallow()
        elif what == "torn frame":
            rig.lines[-1].tear(random.randint(0, 2_000))
        elif what == "crash":
            rig.crash()
            await trio.sleep(random.uniform(0.1, 30))
            rig.start()
        elif what == "restart":
            await rig.leave()
            await trio.sleep(random.uniform(0.1, 10))
            rig.start()
        else:  # started twice under one name
            twin = rig.twin()
            twin.start()
            await trio.sleep(random.uniform(1, 20))
            twin.crash()
