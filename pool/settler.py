"""The settling task: soon after verdicts, and now and then, credits become ledger entries."""

from __future__ import annotations

import structlog
import trio

from pool.config import Config
from pool.core import Core
from pool.settlement import Settled, settle, settlement_policy
from pool.store.advances import Advance, advance_wanted, post_advance
from shares.board.events import HoldReleased, ReserveChanged

_log = structlog.get_logger("pool.settler")

_IDLE_SECONDS = 30.0  # holds end without anything happening


class Settler:
    """Runs ``settle`` when woken, at most once in ``settle_seconds``; tells the board the rest."""

    def __init__(self, core: Core, config: Config) -> None:
        """Settle for ``core`` by the rules in ``config``."""
        self._core = core
        self._policy = settlement_policy(config)
        self._seconds = config.money.settle_seconds
        self._wanted = trio.Event()
        self.last: Settled | None = None

    def wake(self) -> None:
        """There is something to settle."""
        self._wanted.set()

    async def run(self) -> None:
        """Settle until cancelled."""
        while True:
            with trio.move_on_after(_IDLE_SECONDS):
                await self._wanted.wait()
            self._wanted = trio.Event()
            await self.settle()
            await trio.sleep(self._seconds)

    async def settle(self) -> Settled:
        """Settle now."""
        core = self._core
        done = await core.in_thread(settle, core.store.database, self._policy, core.clock.now())
        if done.unpaid:
            # The board issues no credit without the units for it: this is a fault of ours.
            _log.error("credits without units", credits=done.unpaid[:20])
        if done.reserve_change:
            core.handle(ReserveChanged(at=core.clock.now(), units=done.reserve_change))
        for release in done.released:
            core.handle(
                HoldReleased(
                    at=core.clock.now(),
                    account=release.account,
                    rig=release.rig,
                    units=release.units,
                )
            )
        if self._policy.scheme == "pps":
            await self._advance()
        self.last = done
        return done

    async def _advance(self) -> None:
        """Pay accepted shares out of the reserve.

        The board, which spends from the reserve too, gives the units up before they are posted.
        """
        core, release = self._core, self._policy.release

        def want(most: int) -> Advance:
            with core.store.database.read() as connection:
                return advance_wanted(connection, release, most)

        wanted = await core.in_thread(want, core.board.totals().reserve)
        wanted = wanted.within(core.board.totals().reserve)
        if wanted.units:
            core.handle(ReserveChanged(at=core.clock.now(), units=-wanted.units))
        await core.in_thread(post_advance, core.store.database, wanted, core.clock.now())
