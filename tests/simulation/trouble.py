"""What a machine in the field goes through."""

from __future__ import annotations

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
