"""The core: one board, the group commit behind it, and the wiring between the two and the rest.

``handle`` gives an event to the board and carries out what it answers: records to the committer,
messages to sessions (once durable), orders to the referee and the block reader. It is
synchronous; sessions call it directly.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import structlog
import trio

from pool.aside import SetAside
from pool.batches.ports import Progress
from pool.clock import Clock
from pool.commits import Committer
from pool.store import Store
from pool.store.blockfile import BlockFile
from shares.blocks import Segment
from shares.board import Board
from shares.board.effects import (
    Accepted,
    AppealGranted,
    BlockDropped,
    BlockWanted,
    Cancel,
    ComparisonWanted,
    Disconnect,
    Effect,
    JobClosed,
    Message,
    Noted,
    Notify,
    PayloadDropped,
    Record,
    RefereeWanted,
    Refused,
    SetDifficulty,
    ShareJudged,
)
from shares.board.events import (
    BlockOpened,
    Event,
    JobCancelled,
    LeasingPaused,
    PartSubmitted,
    RefereeAnswered,
    SessionClosed,
    Tick,
)

_log = structlog.get_logger("pool.core")

TICK_SECONDS = 1.0

_T = TypeVar("_T")


class Outbox(Protocol):
    """What the core needs of a session: a way to say each kind of message."""

    def deliver(self, message: Message) -> None:
        """Encode and send soon; must not block and must not raise for a broken connection."""

    def dismiss(self, reason: str) -> None:
        """Say why, and end the session."""


class Judge(Protocol):
    """What the core needs of the referee."""

    def want(self, order: RefereeWanted) -> None:
        """Compute these rows; answer through ``Core.handle(RefereeAnswered(...))``."""


class Core:
    """See the module. ``run`` must be going for anything to become durable."""

    def __init__(
        self,
        *,
        board: Board,
        store: Store,
        clock: Clock,
        referee: Judge,
        high_water: int,
        inline: bool = False,
    ) -> None:
        """Wire ``board`` to ``store``; ``inline`` writes in the loop's thread (simulations)."""
        self.board = board
        self.store = store
        self.clock = clock
        self.committer = Committer(store, self._release, self._committed, inline=inline)
        self.room = trio.Event()  # set while there is room for more parts
        self.room.set()
        self._referee = referee
        self._high_water = high_water
        self._inline = inline
        self.on_records: Callable[[list[Record]], None] = lambda _: None
        self.compare: Callable[[ComparisonWanted], None] = lambda _: None
        self.on_noted: Callable[[str], None] = lambda _what: None
        self.on_block_dropped: Callable[[int, int], None] = lambda _job, _block: None
        self.aside = SetAside(store.folder)
        self._outboxes: dict[int, Outbox] = {}  # {session: outbox}
        self._accounts: dict[int, str] = {}  # {session: account}
        self._blocks: dict[tuple[int, int], BlockFile] = {}  # {(job, block): its rows}
        self._job_closed: Callable[[int, str], None] = lambda _job, _state: None
        self._wanted: trio.MemorySendChannel[BlockWanted]
        self._to_read: trio.MemoryReceiveChannel[BlockWanted]
        self._wanted, self._to_read = trio.open_memory_channel[BlockWanted](math.inf)
        self._paused = False
        self._failure: Exception | None = None
        self._failed = trio.Event()

    # ── who is there ─────────────────────────────────────────────────────────

    def attach(self, session: int, account: str, outbox: Outbox) -> None:
        """Messages to ``session``, a rig of ``account``, go to ``outbox`` from now on."""
        self._outboxes[session] = outbox
        self._accounts[session] = account

    def detach(self, session: int) -> None:
        """The session's connection is gone."""
        if self._outboxes.pop(session, None) is not None:
            self.handle(SessionClosed(at=self.clock.now(), session=session))
            del self._accounts[session]

    def on_job_closed(self, callback: Callable[[int, str], None]) -> None:
        """Tell ``callback(job, state)`` when a job's end is durable."""
        self._job_closed = callback

    # ── events in, effects out ───────────────────────────────────────────────

    def handle(self, event: Event) -> None:
        """Give ``event`` to the board and carry out its answer.

        A board that fails is asked nothing more: ``run`` raises, and the process recovers from
        what is durable. Who gave the event may fail alone; the board cannot.
        """
        if self._failure is not None:
            raise RuntimeError("the board has failed and the pool is ending") from self._failure
        try:
            effects = self.board.handle(event)
        except Exception as error:
            self._failure = error
            self._failed.set()
            self.aside.keep(event, self._accounts.get(getattr(event, "session", 0), ""))
            raise
        self.carry_out(effects)

    def carry_out(self, effects: Iterable[Effect]) -> None:
        """Records, messages and orders, in order."""
        for effect in effects:
            match effect:
                case Record():
                    self.committer.record(effect)
                case Message():
                    self.committer.send(effect)
                case BlockWanted():
                    self._wanted.send_nowait(effect)
                case RefereeWanted():
                    self._referee.want(effect)
                case ComparisonWanted():
                    self.compare(effect)
                case PayloadDropped():
                    self.committer.drop(effect.payload)
                case BlockDropped():
                    block = self._blocks.pop((effect.job, effect.block), None)
                    if block is not None:
                        block.close()
                    self.on_block_dropped(effect.job, effect.block)
                case Noted():
                    self.on_noted(effect.what)
                    # Not of whoever's message it came of: in a context without their ids.
                    contextvars.Context().run(_log.info, effect.what, **dict(effect.facts))
        self._regulate()

    def submit(
        self,
        session: int,
        *,
        request: int,
        lease: int,
        part: int,
        first_row: int,
        rows: int,
        final: bool,
        digests: bytes,
        payload: bytes,
    ) -> None:
        """A part of the right shape arrived from ``session``."""
        self.handle(
            PartSubmitted(
                at=self.clock.now(),
                session=session,
                request=request,
                lease=lease,
                part=part,
                first_row=first_row,
                rows=rows,
                final=final,
                digests=digests,
                payload=self.committer.hold(payload),
                size=len(payload),
            )
        )

    def referee_answered(self, order: RefereeWanted, rows: tuple[int, ...], digests: bytes) -> None:
        """The referee computed ``rows`` of an order."""
        self.handle(
            RefereeAnswered(
                at=self.clock.now(), job=order.job, block=order.block, rows=rows, digests=digests
            )
        )

    # ── jobs (the port that the batches see) ─────────────────────────────────

    async def open_job(self, job: int) -> None:
        """A job's price is reserved and its blocks are stored: let it be worked on."""
        event = await self.in_thread(self.store.job_opened, job, self.clock.now())
        self.handle(event)

    def cancel_job(self, job: int, reason: str) -> None:
        """Stop leasing a job's rows; ``JobClosed`` follows."""
        self.handle(JobCancelled(at=self.clock.now(), job=job, reason=reason))

    def progress(self, job: int) -> Progress | None:
        """How far an open job is; None when the board does not hold it."""
        found = self.board.job(job)
        if found is None:
            return None
        return Progress(
            rows=found.rows,
            accepted_rows=found.accepted_rows,
            cleared_rows=found.cleared_rows,
            rate=found.rate,
            eta=found.eta,
        )

    # ── rows ─────────────────────────────────────────────────────────────────

    def block(self, job: int, number: int) -> BlockFile:
        """The rows of a block, opened when first asked for."""
        key = (job, number)
        if key not in self._blocks:
            self._blocks[key] = BlockFile(self.store.block_path(job, number))
        return self._blocks[key]

    def rows_of(self, segments: Iterable[Segment]) -> list[tuple[BlockFile, int, int]]:
        """Where the rows of a share are: (block, start, stop) for each segment."""
        return [(self.block(s.job, s.block), s.start, s.stop) for s in segments]

    # ── going on ─────────────────────────────────────────────────────────────

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit, read blocks and let time pass, until cancelled; started when events may come.

        Raises what the board or the store raised: the process must end and recover.
        """
        async with trio.open_nursery() as nursery:
            self.carry_out(self.board.start(self.clock.now()))
            nursery.start_soon(self.committer.run)
            nursery.start_soon(self._read_blocks)
            nursery.start_soon(self._tick)
            nursery.start_soon(self._end_with_the_board)
            task_status.started()

    async def _end_with_the_board(self) -> None:
        await self._failed.wait()
        assert self._failure is not None
        raise self._failure

    async def _tick(self) -> None:
        last = trio.current_time()
        while True:
            await trio.sleep(TICK_SECONDS)
            now = trio.current_time()
            self.handle(Tick(at=self.clock.now(), stalled=self._stalled(last, now)))
            last = now

    def _stalled(self, last: float, now: float) -> float:
        """Seconds between two ticks in which rigs waited for us: for the disk, or for this loop."""
        if not self.room.is_set() or self.committer.writing_since <= last:
            return now - last
        return max(0.0, now - last - 2 * TICK_SECONDS)

    async def _read_blocks(self) -> None:
        async for wanted in self._to_read:
            path = await self.in_thread(self.store.block_path, wanted.job, wanted.block)
            block = await self.in_thread(BlockFile, path)
            self._blocks[wanted.job, wanted.block] = block
            self.handle(
                BlockOpened(
                    at=self.clock.now(),
                    job=wanted.job,
                    block=wanted.block,
                    lengths=block.lengths.astype("int32"),
                    works=block.works.astype("int64"),
                )
            )

    async def in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Run what may wait for the disk (in the loop's own thread in a simulation)."""
        if self._inline:
            await trio.lowlevel.checkpoint()
            return function(*arguments)
        return await trio.to_thread.run_sync(function, *arguments)

    def _release(self, message: Message) -> None:
        match message:
            case (
                Notify(session=session)
                | Cancel(session=session)
                | SetDifficulty(session=session)
                | Accepted(session=session)
                | Refused(session=session)
                | Disconnect(session=session)
            ):
                outbox = self._outboxes.get(session)
                if outbox is not None:
                    _deliver(outbox, message)

    def _committed(self, records: list[Record]) -> None:
        self.on_records(records)
        self._regulate()
        for record in records:
            if isinstance(record, JobClosed):
                self._job_closed(record.job, record.state)

    def _regulate(self) -> None:
        """Above the high-water mark: no more leases, then no more reading, until it has sunk."""
        waiting = self.committer.waiting_bytes
        if not self._paused and waiting > self._high_water // 2:
            self._paused = True
            self.handle(LeasingPaused(at=self.clock.now(), paused=True))
        elif self._paused and waiting < self._high_water // 4:
            self._paused = False
            self.handle(LeasingPaused(at=self.clock.now(), paused=False))
        if waiting > self._high_water:
            if self.room.is_set():
                self.room = trio.Event()
        elif not self.room.is_set():
            self.room.set()


def _deliver(outbox: Outbox, message: Message) -> None:
    try:
        outbox.deliver(message)
    except Exception:
        # That session fails alone; the turn that asked for the message goes on.
        _log.exception("a message could not be delivered", message_type=type(message).__name__)
        outbox.dismiss("pool_fault")


def verdicts_in(records: Iterable[Record]) -> bool:
    """Whether settlement has something to do after these records."""
    return any(isinstance(record, ShareJudged | JobClosed | AppealGranted) for record in records)
