"""The ledger of a running pool, recomputed: from nothing at the start, then whatever is new."""

from __future__ import annotations

import structlog
import trio

from pool.core import Core
from pool.store.ledger import LedgerError, ledger_totals
from pool.store.ledgeraudit import LedgerAudit
from pool.store.payouts import OPEN, payouts_by_state

_log = structlog.get_logger("pool.ledgerwatch")

LOOK_SECONDS = 10.0


class LedgerWatch:
    """Counts what must always be 0. A ledger that is wrong is told of and not repaired."""

    def __init__(self, core: Core) -> None:
        """Reads the store behind ``core``."""
        self._core = core
        self._audit = LedgerAudit()
        self.violations = 0
        self.units: dict[str, int] = {}  # by kind of place, at the last look
        self.payouts: dict[str, tuple[int, int]] = {}  # {open state: (payouts, units)}

    @property
    def entries(self) -> int:
        """How many were found right."""
        return self._audit.seq

    async def run(self) -> None:
        """Look until cancelled."""
        while not self.violations:
            await self._core.in_thread(self.look)
            await trio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Recompute what was posted since the last look."""
        try:
            with self._core.store.database.read() as connection:
                self._audit.follow(connection)
                self.units = ledger_totals(connection)
                self.payouts = payouts_by_state(connection, OPEN)
        except LedgerError as error:
            self.violations += 1
            _log.error(
                "the ledger is not right",
                error=str(error),
                remedy="stop the pool, keep its folder, and run inferpool ledger verify",
            )
