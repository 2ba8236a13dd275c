"""Levels of the log that change while the pool runs."""

from __future__ import annotations

import logging
import math

import structlog
import trio

from pool.clock import Clock
from pool.store import Store
from pool.store.loglevels import LogLevel, levels_in_force, log_levels
from stratum.logs import Sinks

_log = structlog.get_logger("pool.loglevels")


class LogLevels:
    """Puts into force what ``inferpool log-level`` has written, and ends what was for a time."""

    def __init__(self, store: Store, clock: Clock, sinks: Sinks, configured: str) -> None:
        """``configured``: the level in the settings."""
        self._store = store
        self._clock = clock
        self._sinks = sinks
        self._configured = configured
        self._in_force = {"": configured}
        self._changed = trio.Event()

    def look(self) -> None:
        """Somebody has written to the store."""
        self._changed.set()

    async def run(self) -> None:
        """Keep the levels as the store says, until cancelled."""
        while True:
            self._changed = trio.Event()
            changed = await trio.to_thread.run_sync(self._read)
            self._put(levels_in_force(self._configured, changed))
            ends = min((one.until for one in changed.values() if one.until), default=math.inf)
            with trio.move_on_after(max(0.0, ends - self._clock.now())):
                await self._changed.wait()

    def _read(self) -> dict[str, LogLevel]:
        with self._store.database.read() as connection:
            return log_levels(connection, self._clock.now())

    def _put(self, levels: dict[str, str]) -> None:
        if levels == self._in_force:
            return
        told = _log.is_enabled_for(logging.INFO)
        if told:  # the new levels may hide it
            _tell(levels)
        self._sinks.set_levels(levels)
        self._in_force = levels
        if not told:
            _tell(levels)


def _tell(levels: dict[str, str]) -> None:
    _log.info("log levels", levels={name or "all": level for name, level in levels.items()})
