"""Appeals: the referee runs the rows of a rejected share once more."""

from __future__ import annotations

from collections import defaultdict

import structlog
import trio

from pool.comparisons import Comparisons
from pool.computed import Computed
from pool.core import Core
from pool.referee import Referee
from pool.store.appeals import OpenAppeal, Relief, end_appeal, open_appeals, relief
from shares.board.effects import RefereeWanted
from shares.board.events import AppealWon, RigRecord
from shares.nearness import Nearness
from shares.trust.record import Record

_log = structlog.get_logger("pool.appeals")

LOOK_SECONDS = 5.0
_DURABLE_SECONDS = 0.1  # between two looks whether a decision is
PATIENCE_SECONDS = 300.0  # for one appeal; then the others have their turn


class Appeals:
    """Decides what waits, one after the other; what a crash interrupts is decided anew."""

    def __init__(self, core: Core, referee: Referee, comparisons: Comparisons) -> None:
        """``referee`` computes; the board behind ``core`` lifts what followed from an error."""
        self._comparisons = comparisons
        self._core = core
        self._referee = referee
        self._granted: set[int] = set()  # told to the board, perhaps not yet durable

    async def run(self) -> None:
        """Look for appeals until cancelled."""
        while True:
            for appeal in await self._core.in_thread(self._waiting):
                if appeal.lease not in self._granted:
                    with trio.move_on_after(PATIENCE_SECONDS) as scope:
                        await self._decide(appeal)
                    if scope.cancelled_caught:
                        _log.warning("an appeal waits for the referee", lease=appeal.lease)
            await trio.sleep(LOOK_SECONDS)

    def _waiting(self) -> list[OpenAppeal]:
        with self._core.store.database.read() as connection:
            return open_appeals(connection)

    async def _decide(self, appeal: OpenAppeal) -> None:
        blocks: dict[tuple[int, int], dict[int, bytes]] = defaultdict(dict)
        for row in appeal.refuted:
            blocks[row.job, row.block][row.row] = row.given
        now = self._core.clock.now()
        if not await self._core.in_thread(self._are_there, list(blocks)):
            _log.warning("the rows of an appeal are gone", lease=appeal.lease)
            await self._core.in_thread(self._end, appeal.lease, "gone", now)
            return
        right = True
        for (job, block), given in blocks.items():
            order = RefereeWanted(
                appeal.model, appeal.operation, job, block, tuple(sorted(given)), urgent=False
            )
            if right:
                found = await self._referee.compute(order)
                right = await self._core.in_thread(self._alike, order, appeal.lease, given, found)
        now = self._core.clock.now()
        _log.info(
            "appeal decided",
            lease=appeal.lease,
            account=appeal.account,
            rig=appeal.rig,
            outcome="overturned" if right else "upheld",
        )
        if right:
            # The pool's own processor erred. An operator wants to know: it will err again.
            _log.error("the referee was wrong", lease=appeal.lease, rows=len(appeal.refuted))
            self._granted.add(appeal.lease)
            relief = await self._core.in_thread(self._relief, appeal)
            self._core.handle(
                AppealWon(
                    at=now,
                    account=appeal.account,
                    rig=appeal.rig,
                    lease=appeal.lease,
                    rows=tuple((r.job, r.block, r.row, r.given) for r in appeal.refuted),
                    units=relief.units,
                    before=_facts(relief.before),
                    after=_facts(relief.after),
                )
            )
            # The next appeal is about what remains after this one.
            while not await self._core.in_thread(  # noqa: ASYNC110 - the database has no events
                self._is_decided, appeal.lease
            ):
                await trio.sleep(_DURABLE_SECONDS)
        else:
            await self._core.in_thread(self._end, appeal.lease, "upheld", now)

    def _alike(
        self, order: RefereeWanted, lease: int, given: dict[int, bytes], found: dict[int, Computed]
    ) -> bool:
        """Whether the referee gives now what the rig gave."""
        return all(
            self._comparisons.says(order, row, found[row], lease, digest) is Nearness.ALIKE
            for row, digest in given.items()
        )

    def _is_decided(self, lease: int) -> bool:
        with self._core.store.database.read() as connection:
            return all(appeal.lease != lease for appeal in open_appeals(connection))

    def _relief(self, appeal: OpenAppeal) -> Relief:
        with self._core.store.database.read() as connection:
            ban_seconds = self._core.board.policy.ban_seconds
            return relief(connection, appeal.account, appeal.rig, appeal.lease, ban_seconds)

    def _are_there(self, blocks: list[tuple[int, int]]) -> bool:
        """Whether the rows are: those of direct requests are removed after a while."""
        return all(self._core.store.has_block(*place) for place in blocks)

    def _end(self, lease: int, outcome: str, at: float) -> None:
        with self._core.store.database.write() as connection:
            end_appeal(connection, lease, outcome, at)


def _facts(records: dict[str, Record]) -> tuple[RigRecord, ...]:
    return tuple(
        RigRecord(rig, one.isolated, one.offences, one.banned_until) for rig, one in records.items()
    )
