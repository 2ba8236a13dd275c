"""Kinds of devices in quarantine, and what the operator decided on those who were excused."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
import trio

from pool.core import Core
from pool.gateway import Gateway
from pool.store.quarantines import Excuse, open_excuses, quarantined_kinds
from shares.board.effects import KindAccused, Record
from shares.board.events import ExcuseEnded

_log = structlog.get_logger("pool.quarantines")


class Quarantines:
    """Tells the board and the rigs what the store says of them."""

    def __init__(self, core: Core, gateway: Gateway) -> None:
        self._core = core
        self._gateway = gateway
        self._told: set[int] = set()  # excused shares whose decision the board knows
        self._accused = trio.Event()

    async def look(self) -> None:
        """What a command, or the board, put into quarantine, or lifted, holds from now on."""
        kinds, excuses = await self._core.in_thread(self._read)
        self._gateway.quarantine(kinds)
        open_ones = {excuse.lease for excuse in excuses}
        self._told &= open_ones
        for excuse in excuses:
            if excuse.decision is None or excuse.lease in self._told:
                continue
            self._told.add(excuse.lease)
            guilty = excuse.decision == "guilty"
            _log.info("excuse decided", lease=excuse.lease, rig=excuse.rig, guilty=guilty)
            self._core.handle(
                ExcuseEnded(
                    at=self._core.clock.now(),
                    account=excuse.account,
                    rig=excuse.rig,
                    lease=excuse.lease,
                    rows=excuse.rows,
                    price=excuse.price,
                    guilty=guilty,
                )
            )

    def _read(self) -> tuple[frozenset[tuple[str, str]], list[Excuse]]:
        with self._core.store.database.read() as connection:
            return quarantined_kinds(connection), open_excuses(connection)

    def committed(self, records: Iterable[Record]) -> None:
        """The board may have accused a kind."""
        if any(isinstance(record, KindAccused) for record in records):
            self._accused.set()

    async def run(self) -> None:
        """Look when the board accused a kind, until cancelled."""
        while True:
            await self._accused.wait()
            self._accused = trio.Event()
            await self.look()
