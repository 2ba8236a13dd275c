"""Which hardware does this work best: work per second as the pool sees it, per joule as rigs say.

Only shares that were cleared count, of rigs with one kind of device. A share keeps its rig busy
from the later of its lease and the rig's last part to each of its own parts. Energy comes with
results (``mining.submit``), is what the rig says, and is cut to what its devices could have drawn.
Nobody's pay depends on any of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import trio

from pool.core import Core
from pool.store.hardware import Done, add_done
from shares.board.effects import LeaseEnded, LeaseIssued, PartAccepted, Record, ShareJudged

FLUSH_SECONDS = 60.0
MOST_WATTS = 2_000.0
"""Of one device: what is said above it is cut."""
_LONGEST = 64  # characters of a kind


@dataclass(slots=True)
class Meter:
    """What one connection said of its devices. ``kind`` is empty where they are several."""

    kind: str = ""
    devices: int = 0
    last: float = 0.0  # when it connected, or its last part came
    joules: float = 0.0  # that it has told so far


@dataclass(slots=True)
class _Share:
    model: str
    since: float  # when it was leased, or its last part came
    kind: str = ""
    done: Done = field(default_factory=Done)


def meter_of(kinds: Iterable[str], now: float) -> Meter:
    """For a connection with these devices."""
    names = [" ".join(kind.split())[:_LONGEST] for kind in kinds]
    alike = len(set(names)) == 1 and names[0] != ""
    return Meter(names[0] if alike else "", len(names), now)


class Hardware:
    """Counts by kind of device and model, and adds it to the store now and then."""

    def __init__(self, core: Core) -> None:
        """``submitted`` comes before the part's record is ``committed``."""
        self._core = core
        self._shares: dict[int, _Share] = {}  # {lease: it}
        self._done: dict[tuple[str, str], Done] = defaultdict(Done)  # {(kind, model): not stored}

    def submitted(self, meter: Meter, lease: int, joules: float) -> None:
        """A part of a share comes. ``joules``: what the rig has used since it connected.

        Of the energy since its last part a share has the part of the time in which it was at work.
        """
        share, now = self._shares.get(lease), self._core.clock.now()
        passed, drawn = max(0.0, now - meter.last), max(0.0, joules - meter.joules)
        meter.joules, last, meter.last = max(meter.joules, joules), meter.last, now
        if share is None or not meter.kind:
            return
        seconds = max(0.0, now - max(last, share.since))
        share.kind, share.since = meter.kind, now
        share.done.seconds += seconds * meter.devices
        if passed:
            drawn = min(drawn, MOST_WATTS * meter.devices * passed)
            share.done.joules += drawn * min(1.0, seconds / passed)

    def committed(self, records: Iterable[Record]) -> None:
        """Follow shares to their verdict."""
        for record in records:
            match record:
                case LeaseIssued():
                    self._shares[record.lease] = _Share(record.model, record.issued)
                case PartAccepted():
                    share = self._shares.get(record.lease)
                    if share is not None:
                        share.done.rows += record.rows
                        share.done.work += sum(work * rows for work, rows in record.works)
                case ShareJudged():
                    self._judged(record)
                case LeaseEnded():
                    share = self._shares.get(record.lease)
                    if share is not None and not share.done.rows:
                        del self._shares[record.lease]  # it gets no verdict

    def _judged(self, record: ShareJudged) -> None:
        share = self._shares.pop(record.lease, None)
        if share is not None and share.kind and record.state == "cleared":
            if share.done.joules:
                share.done.joules_work = share.done.work
            self._done[share.kind, share.model].add(share.done)

    async def run(self) -> None:
        """Store what was counted, every minute and at the end."""
        try:
            while True:
                await trio.sleep(FLUSH_SECONDS)
                await self.flush()
        finally:
            with trio.CancelScope(shield=True):
                await self.flush()

    async def flush(self) -> None:
        """Store what was counted since."""
        if not self._done:
            return
        done, self._done = dict(self._done), defaultdict(Done)
        await self._core.in_thread(add_done, self._core.store.database, done)
