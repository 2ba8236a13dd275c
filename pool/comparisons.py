"""How near two results of a row are, of models whose honest results are not the same bits.

The board knows digests only. Where two of them differ in such a model it asks here: the results
are read from the result log once they are durable, those of the referee are kept in memory for as
long as the board has their block.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import structlog
import trio

from gpu_worker.engine import distance
from pool.computed import Computed
from pool.core import Core
from pool.models import Models
from pool.store import StoreError
from pool.store.results import result_of
from shares.board.effects import ComparisonWanted, RefereeWanted
from shares.board.events import ResultsCompared
from shares.nearness import Nearness, nearness
from shares.results import RowResult
from stratum.manifest import Manifest

_log = structlog.get_logger("pool.comparisons")

_AGAIN_SECONDS = 1.0
_MOST_SECONDS = 60.0  # between two attempts at what fails again and again
_AT_ONCE = 256  # comparisons of one turn in a thread
_RECORDS = 8  # of parts, kept while a turn lasts

# What a share (its lease) gave of a row (job, block, row) of a model.
Results = Callable[[Manifest, int, tuple[int, int, int]], RowResult]


class Comparisons:
    """Answers ``ComparisonWanted``; decides for those who have the referee run again."""

    def __init__(self, core: Core, models: Models) -> None:
        """Orders come from ``core``, and answers go to it."""
        self._core = core
        self._models = models
        # {(job, block): {row: what the referee gave}}
        self._words: dict[tuple[int, int], dict[int, Computed]] = defaultdict(dict)
        self._send: trio.MemorySendChannel[ComparisonWanted]
        self._orders: trio.MemoryReceiveChannel[ComparisonWanted]
        self._send, self._orders = trio.open_memory_channel[ComparisonWanted](math.inf)

    def want(self, order: ComparisonWanted) -> None:
        """Compare soon."""
        self._send.send_nowait(order)

    def keep(self, order: RefereeWanted, rows: Iterable[int], computed: Computed) -> None:
        """The referee computed rows for the board, which may ask how near others are to them."""
        if computed.results and self._core.board.awaits(order.job, order.block, rows):
            words = self._words[order.job, order.block]
            words.update({row: computed[position] for position, row in enumerate(rows)})

    def forget(self, job: int, block: int) -> None:
        """The board asks nothing more of a block."""
        self._words.pop((job, block), None)

    async def run(self) -> None:
        """Compare until cancelled."""
        async with trio.open_nursery() as nursery:
            async for order in self._orders:
                orders = [order]
                while len(orders) < _AT_ONCE:
                    try:
                        orders.append(self._orders.receive_nowait())
                    except trio.WouldBlock:
                        break
                await self._core.committer.durable()
                failed = await self._answer(orders)
                if failed:
                    nursery.start_soon(self._again, failed)

    async def _again(self, orders: list[ComparisonWanted]) -> None:
        """What could not be read is the pool's fault and nobody's loss: later again."""
        seconds = _AGAIN_SECONDS
        while orders:
            await trio.sleep(seconds)
            seconds = min(_MOST_SECONDS, 2 * seconds)
            orders = await self._answer(orders)

    async def _answer(self, orders: list[ComparisonWanted]) -> list[ComparisonWanted]:
        """Compare, and tell the board; returns those that failed."""
        words = [self._words.get((one.job, one.block), {}).get(one.row) for one in orders]
        found = await self._core.in_thread(self._compare, orders, words)
        both = list(zip(orders, found, strict=True))
        answers = tuple((order, verdict) for order, verdict in both if verdict is not None)
        if answers:
            self._core.handle(ResultsCompared(at=self._core.clock.now(), found=answers))
        holds = self._core.board.holds
        return [one for one, verdict in both if verdict is None and holds(one.job, one.block)]

    def _compare(
        self, orders: list[ComparisonWanted], words: list[Computed | None]
    ) -> list[Nearness | None]:
        """``None`` for what could not be compared."""
        found: list[Nearness | None] = []
        with self._results() as results:
            for order, word in zip(orders, words, strict=True):
                manifest = self._models.by_digest(order.model).manifest
                key = (order.job, order.block, order.row)
                first, second = order.leases
                try:
                    one = results(manifest, first, key)
                    other = results(manifest, second, key) if second else _said(order, word)
                except (StoreError, OSError) as error:
                    _log.error("results cannot be compared", job=order.job, error=str(error))
                    found.append(None)
                    continue
                found.append(compare(manifest, order.operation, one, other, referee=not second))
        return found

    @contextmanager
    def _results(self) -> Iterator[Results]:
        """What shares gave; a part's record is read once for all of its rows."""
        store = self._core.store
        read = lru_cache(maxsize=_RECORDS)(store.log.read)
        with store.database.read() as connection:
            yield lambda manifest, lease, key: result_of(
                connection, read, lease, key, manifest.row_bytes
            )

    # ── for those who have the referee run again ─────────────────────────────

    def says(
        self,
        order: RefereeWanted,
        row: int,
        computed: Computed,
        lease: int,
        given: bytes,
    ) -> Nearness:
        """What a row that the referee computed says of what a share gave of it, a digest.

        Reads the result log where the digests differ and need not be equal. Raises ``StoreError``.
        """
        manifest = self._models.by_digest(order.model).manifest
        if computed.digests == given:
            return Nearness.ALIKE
        if manifest.exact:
            return Nearness.FAR
        with self._results() as results:
            theirs = results(manifest, lease, (order.job, order.block, row))
        return compare(manifest, order.operation, theirs, computed.results[0], referee=True)


def _said(order: ComparisonWanted, word: Computed | None) -> RowResult:
    """The referee's result."""
    if word is None or word.digests != order.digests[1]:
        raise StoreError("the referee has taken its word back, or the block is closed")
    return word.results[0]


def compare(
    manifest: Manifest, operation: str, one: RowResult, other: RowResult, *, referee: bool
) -> Nearness:
    """How near two results of a row are; ``referee``: the second is the referee's.

    Rows that both failed are alike, a failed one and one with a result are as far as can be.
    """
    if one.failed or other.failed:
        apart = 0.0 if one.failed == other.failed else math.inf
    else:
        values = [np.frombuffer(row.data, manifest.dtype)[np.newaxis] for row in (one, other)]
        apart = float(distance(values[0], values[1], operation)[0])
    return nearness(apart, manifest.tolerance, referee=referee)
