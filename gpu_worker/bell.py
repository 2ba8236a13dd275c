"""A bell: wakes one waiting task when there may be something to do."""

from __future__ import annotations

import trio


class Bell:
    """``ring`` may be called any number of times; ``wait`` returns once for all of them."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        """Wake the waiting task, or let its next wait return at once."""
        self._event.set()

    async def wait(self) -> None:
        """Return once the bell was rung since the last wait."""
        await self._event.wait()
        self._event = trio.Event()
