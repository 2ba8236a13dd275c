"""Closed accounts: before a hold is released, the referee computes all that it covers again."""

from __future__ import annotations

import math
from collections import defaultdict

import structlog
import trio

from pool.comparisons import Comparisons
from pool.core import Core
from pool.referee import Referee
from pool.store.closedholds import ClosedHold, HoldRow, holds_to_check, mark_clean, rows_of_hold
from shares.board.effects import RefereeWanted
from shares.board.events import HoldRefuted
from shares.nearness import Nearness

_log = structlog.get_logger("pool.closedholds")

LOOK_SECONDS = 60.0
PATIENCE_SECONDS = 1_800.0  # for one hold; then the others have their turn


class ClosedHolds:
    """Checks one hold after the other, when the referee has nothing urgent to do."""

    def __init__(
        self,
        core: Core,
        referee: Referee,
        comparisons: Comparisons,
        hold_seconds: float,
        price: int,
    ) -> None:
        """``hold_seconds``: how long after its closing an account's holds are looked at.

        ``price``: units a unit of work, by which a fine goes.
        """
        self._core = core
        self._referee = referee
        self._comparisons = comparisons
        self._hold_seconds = hold_seconds
        self._price = price
        # When the board was told of wrong rows: what follows must be posted before the next look.
        self._told: dict[tuple[str, str], float] = {}

    async def run(self) -> None:
        """Look for closed accounts until cancelled. What a restart interrupts begins anew."""
        while True:
            for hold in await self._core.in_thread(self._waiting):
                account, rig = hold.account, hold.rig
                told = self._told.get((account, rig), -math.inf)
                if self._core.clock.now() - told > LOOK_SECONDS:
                    with trio.move_on_after(PATIENCE_SECONDS) as scope:
                        await self._check(account, rig, hold.closed)
                    if scope.cancelled_caught:
                        _log.warning("a hold waits for the referee", account=account, rig=rig)
            await trio.sleep(LOOK_SECONDS)

    def _waiting(self) -> list[ClosedHold]:
        with self._core.store.database.read() as connection:
            return holds_to_check(connection, self._hold_seconds, self._core.clock.now())

    async def _check(self, account: str, rig: str, closed: float) -> None:
        def covered() -> tuple[list[HoldRow], bool]:
            store = self._core.store
            with store.database.read() as connection:
                return rows_of_hold(connection, store.has_block, account, rig)

        wrong: list[tuple[HoldRow, bytes]] = []
        checked = 0
        by_block: dict[tuple[str, str, int, int], list[HoldRow]] = defaultdict(list)
        covers, gone = await self._core.in_thread(covered)
        now = self._core.clock.now()
        if gone and now < closed + 2 * self._hold_seconds:
            return  # what cannot be computed again stays held for a second time
        for row in covers:
            by_block[row.model, row.operation, row.job, row.block].append(row)
        for (model, operation, job, block), rows in by_block.items():
            numbers = tuple(sorted({row.row for row in rows}))
            order = RefereeWanted(model, operation, job, block, numbers, urgent=False)
            found = await self._wrong(order, rows)
            if found:
                # Nobody can appeal for a closed account: only what is wrong twice counts.
                found = await self._wrong(order, rows)
            checked += len(numbers)
            wrong += found
        now = self._core.clock.now()
        _log.info("hold checked", account=account, rig=rig, rows=checked, wrong=len(wrong))
        if wrong:
            self._told[account, rig] = now
            facts = tuple(
                (row.lease, row.job, row.block, row.row, row.digest, expected)
                for row, expected in wrong
            )
            self._core.handle(
                HoldRefuted(at=now, account=account, rig=rig, rows=facts, price=self._price)
            )
        else:
            await self._core.in_thread(self._mark_clean, account, rig, checked, now)

    async def _wrong(
        self, order: RefereeWanted, rows: list[HoldRow]
    ) -> list[tuple[HoldRow, bytes]]:
        """Those that are far from what the referee computes, with its digests."""
        computed = await self._referee.compute(order)

        def compare() -> list[tuple[HoldRow, bytes]]:
            says = self._comparisons.says
            return [
                (row, truth.digests)
                for row, truth in ((row, computed[row.row]) for row in rows)
                if says(order, row.row, truth, row.lease, row.digest) is Nearness.FAR
            ]

        return await self._core.in_thread(compare)

    def _mark_clean(self, account: str, rig: str, rows: int, at: float) -> None:
        with self._core.store.database.write() as connection:
            mark_clean(connection, account, rig, rows, at)
