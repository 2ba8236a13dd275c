"""The pool's clock: seconds since the epoch that never run backwards within a run."""

from __future__ import annotations

import time

import trio


class Clock:
    """Wall time at the start, then trio's clock: the virtual one in a simulation."""

    def __init__(self, start: float | None = None) -> None:
        """Take ``start`` (default: now) as the present. Must be called inside ``trio.run``."""
        self._clock = trio.lowlevel.current_clock()
        self._offset = (time.time() if start is None else start) - self._clock.current_time()

    def now(self) -> float:
        """Seconds since the epoch. May be asked from any thread."""
        return self._clock.current_time() + self._offset
