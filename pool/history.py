"""The pool over time, for the pages' charts: one moment every few seconds, kept for a month."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from pool.core import Core
from pool.store.history import Moment, add_moment
from shares.board.effects import CreditEarned, Record, ShareJudged

EVERY_SECONDS = 15.0


class History:
    """Counts what is accepted and judged, and stores it with the board's rates."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._next = Moment(0.0)

    def committed(self, records: Iterable[Record]) -> None:
        """Count what became durable."""
        for record in records:
            match record:
                case CreditEarned():
                    self._next.accepted_work += record.work
                case ShareJudged():
                    self._next.shares_cleared += record.state == "cleared"
                    self._next.shares_rejected += record.state == "rejected"
                case _:
                    pass

    async def run(self) -> None:
        """Store a moment at the start, every ``EVERY_SECONDS`` and at the end."""
        try:
            while True:
                await self.store()
                await trio.sleep(EVERY_SECONDS)
        finally:
            with trio.CancelScope(shield=True):
                await self.store()

    async def store(self) -> None:
        """Keep how it is now, and what was counted since the moment before."""
        moment, self._next = self._next, Moment(0.0)
        totals = self._core.board.totals()
        moment.at = self._core.clock.now()
        moment.rate, moment.rigs = totals.rate, totals.rigs
        moment.jobs, moment.open_work = totals.jobs, totals.open_work
        await self._core.in_thread(add_moment, self._core.store.database, moment)
