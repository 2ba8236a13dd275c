"""Group commit: what must be durable, and the messages that wait for it.

Records and payloads gather in a group while the group before them is being written. A message
leaves when everything that was asked for before it is durable, in the order it was asked for.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from pool.store import Group, Store, commit_group
from shares.board.effects import Message, PartAccepted, Record


@dataclass(slots=True)
class CommitStatistics:
    """What the committer has done since the start."""

    groups: int = 0
    records: int = 0
    payload_bytes: int = 0
    last_seconds: float = 0.0


@dataclass(slots=True)
class _Waiting:
    sequence: int
    message: Message


@dataclass(slots=True)
class Committer:
    """Writes groups one after the other; ``release`` gets each message when its time has come.

    ``committed`` is told the records of each durable group. A failed write raises out of ``run``:
    the process ends and recovers.
    """

    store: Store
    release: Callable[[Message], None]
    committed: Callable[[list[Record]], None]
    inline: bool = False  # write in the loop's own thread: for simulations on a virtual clock
    delay: Callable[[Group], float] = lambda _: 0.0  # seconds that an inline write takes
    statistics: CommitStatistics = field(default_factory=CommitStatistics)
    observe: Callable[[float, int], None] | None = None  # (seconds, records) of each group
    _payloads: dict[int, bytes] = field(default_factory=dict)  # {handle: bytes}
    _next_payload: int = 1
    _records: list[Record] = field(default_factory=list)  # of the group that is gathering
    _named: dict[int, bytes] = field(default_factory=dict)  # {handle: bytes} of its parts
    _sequence: int = 1  # of the group that is gathering
    _durable: int = 0  # of the last group written
    _messages: deque[_Waiting] = field(default_factory=deque)
    _work: trio.Event = field(default_factory=trio.Event)
    _idle: trio.Event = field(default_factory=trio.Event)
    _written: trio.Event = field(default_factory=trio.Event)  # one more group is durable
    waiting_bytes: int = 0
    # A thread of its own: however many requests read the database, commits do not wait for them.
    _thread: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))
    writing_since: float = math.inf  # by trio's clock; infinite while nothing is being written

    def hold(self, payload: bytes) -> int:
        """Keep a part's bytes until the board says what becomes of them; returns a handle."""
        handle = self._next_payload
        self._next_payload += 1
        self._payloads[handle] = payload
        self.waiting_bytes += len(payload)
        return handle

    def drop(self, handle: int) -> None:
        """Forget a part's bytes."""
        self.waiting_bytes -= len(self._payloads.pop(handle))

    def record(self, record: Record) -> None:
        """Add to the group that is gathering."""
        if isinstance(record, PartAccepted):
            self._named[record.payload] = self._payloads.pop(record.payload)
        self._records.append(record)
        self._work.set()

    def send(self, message: Message) -> None:
        """Release ``message`` once what was recorded before it is durable."""
        # The group that is gathering, if it holds anything; else the one being written, if any.
        sequence = self._sequence if self._records else self._sequence - 1
        if sequence <= self._durable and not self._messages:
            self.release(message)
        else:
            self._messages.append(_Waiting(sequence, message))

    @property
    def settled(self) -> bool:
        """Nothing waits to be written."""
        return not self._records and self._durable == self._sequence - 1

    async def durable(self) -> None:
        """Wait until what was recorded so far is durable."""
        sequence = self._sequence if self._records else self._sequence - 1
        while self._durable < sequence:
            await self._written.wait()

    async def flushed(self) -> None:
        """Wait until nothing waits to be written."""
        while not self.settled:
            await self._idle.wait()

    async def run(self) -> None:
        """Write groups until cancelled (a write under way is finished first)."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            group = Group(self._records, self._named)
            self._records, self._named = [], {}
            sequence, self._sequence = self._sequence, self._sequence + 1
            size = sum(len(payload) for payload in group.payloads.values())
            started = time.perf_counter()
            self.writing_since = trio.current_time()
            if self.inline:
                await trio.sleep(self.delay(group))
                commit_group(self.store, group)
            else:
                await trio.to_thread.run_sync(commit_group, self.store, group, limiter=self._thread)
            self.writing_since = math.inf
            seconds = time.perf_counter() - started
            self._durable = sequence
            self.waiting_bytes -= size
            self.statistics.groups += 1
            self.statistics.records += len(group.records)
            self.statistics.payload_bytes += size
            self.statistics.last_seconds = seconds
            if self.observe is not None:
                self.observe(seconds, len(group.records))
            while self._messages and self._messages[0].sequence <= sequence:
                self.release(self._messages.popleft().message)
            self.committed(group.records)
            self._written.set()
            self._written = trio.Event()
            if self.settled:
                self._idle.set()
                self._idle = trio.Event()
