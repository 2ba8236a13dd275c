"""One session with a pool: its messages into the book, the book's parts onto the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog
import trio

from gpu_worker.bell import Bell
from gpu_worker.models import Models, StagedModel
from gpu_worker.sharebook import Part, ShareBook
from gpu_worker.telemetry import DeviceTelemetry, Telemetry, count_reason
from stratum.arrays import pack_outcome, unpack_rows
from stratum.client import RigConnection
from stratum.errors import REASONS, ArrayError, Code, ConnectionClosed, words_of
from stratum.messages import (
    Cancel,
    Error,
    FromPool,
    Model,
    ModelFailed,
    ModelReady,
    Notify,
    Reconnect,
    Release,
    Result,
    RetireModel,
    SetDifficulty,
    ShowMessage,
    Submit,
)

log = structlog.get_logger()

_WINDOW_BYTES = 4 << 20
_WINDOW_PARTS = 64
"""Parts on their way to the pool: enough for a long line, little enough to send again."""
_FINISH_SECONDS = 5.0
"""How long a rig that was asked to reconnect waits for the answers to what it sent."""


class Host(Protocol):
    """What a session needs of its rig."""

    def stage(self, message: Model, resolve: Callable[[str], str]) -> StagedModel:
        """Begin to stage a model."""

    def changed(self) -> None:
        """Something was taken, acknowledged or dropped."""

    def part_acknowledged(self, part: Part) -> None:
        """The pool says that a part is durable."""


class Session:
    """Talks to a pool that has authorised this rig, until the connection ends.

    All but ``run`` is synchronous: a message changes the book, and ``pump`` sends what the book
    and the models have to say.
    """

    def __init__(
        self,
        connection: RigConnection,
        book: ShareBook,
        models: Models,
        telemetry: Telemetry,
        host: Host,
        credit: int,
    ) -> None:
        self.accepting = True
        """False: shares that still come are handed back."""
        self.acknowledged = 0
        """Parts acknowledged in this session."""
        self.reconnect: Reconnect | None = None
        """The pool's request to connect again, once it came."""
        self._connection = connection
        self._book = book
        self._models = models
        self._telemetry = telemetry
        self._joules_before = telemetry.joules
        self._host = host
        # A share may come before the answer that ends another: twice the credit is no fault.
        self._most_shares = 2 * credit
        self._submitted: dict[int, tuple[Part, float]] = {}  # {request: part, when it was sent}
        self._in_flight_bytes = 0
        self._releasing: dict[int, int] = {}  # {request: lease}
        self._announced: dict[str, StagedModel] = {}  # {digest: model}
        self._reported: dict[str, StagedModel] = {}  # those the pool was told are ready
        self._retiring: set[str] = set()  # digests that leave with their last share
        self._answered = Bell()
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Serve the session to its end.

        Returns after ``leave`` or ``client.reconnect``; otherwise raises ``ConnectionClosed`` or
        ``ProtocolViolation``.
        """
        self.pump()
        with self._scope:
            while self.reconnect is None:
                await self._receive()
            with trio.move_on_after(_FINISH_SECONDS):
                while self._submitted:
                    await self._receive()

    def leave(self) -> None:
        """Make ``run`` return."""
        self._scope.cancel()

    async def wait_answered(self) -> None:
        """Return once the pool has answered something since the last call."""
        await self._answered.wait()

    def pump(self) -> None:
        """Send whatever is due and fits the window. Does nothing once the connection is over."""
        try:
            self._report_models()
            self._send_releases()
            if self.reconnect is None:
                self._send_parts()
        except ConnectionClosed:
            return  # the receiving side meets the same end, and acts on it

    # ── to the pool ──────────────────────────────────────────────────────────

    def _report_models(self) -> None:
        for digest, model in list(self._announced.items()):
            if model.failure is not None:
                reason, words = model.failure
                del self._announced[digest]
                self._reported.pop(digest, None)
                self._connection.queue(ModelFailed, model=digest, reason=f"{reason}: {words}")
            elif model.ready and digest not in self._reported:
                self._reported[digest] = model
                self._connection.queue(ModelReady, model=digest)
        for digest in list(self._retiring):
            if not any(share.model == digest and not share.computed for share in self._book):
                self._retiring.discard(digest)
                self._models.retire(digest)

    def _send_releases(self) -> None:
        asked = set(self._releasing.values())
        for lease, reason in self._book.releases.items():
            if lease not in asked:
                request = self._connection.queue(Release, lease=lease, reason=reason)
                self._releasing[request] = lease

    def _send_parts(self) -> None:
        while len(self._submitted) < _WINDOW_PARTS and self._in_flight_bytes < _WINDOW_BYTES:
            part = self._book.next_unsent()
            if part is None:
                return
            request = self._connection.queue(
                Submit,
                lease=part.lease,
                part=part.number,
                first_row=part.first_row,
                final=part.final,
                outcome=pack_outcome(part.values, part.failed),
                joules=self._telemetry.joules - self._joules_before,
            )
            self._submitted[request] = (part, trio.current_time())
            self._in_flight_bytes += part.values.nbytes

    # ── from the pool ────────────────────────────────────────────────────────

    async def _receive(self) -> None:
        for message in await self._connection.receive():
            self._take(message)
        self.pump()
        self._host.changed()

    def _take(self, message: FromPool) -> None:
        match message:
            case Result() | Error():
                self._take_answer(message)
                self._answered.ring()
            case Notify():
                self._take_share(message)
            case Cancel():
                if self._book.drop(message.lease) is not None:
                    self._telemetry.shares_lost["cancelled"] += 1
                    log.info("share cancelled", lease=message.lease, reason=message.reason)
            case Model():
                self._retiring.discard(message.model)
                self._announced[message.model] = self._host.stage(
                    message, self._connection.whole_url
                )
            case RetireModel():
                self._announced.pop(message.model, None)
                self._reported.pop(message.model, None)
                self._retiring.add(message.model)
            case SetDifficulty():
                self._telemetry.difficulty = message.work
                log.info("difficulty", work=message.work)
            case ShowMessage():
                log.info("the pool says", text=message.text)
            case Reconnect():
                log.info("the pool asks to reconnect", wait=message.wait)
                self.reconnect = message
            case _:
                pass  # a ping is answered below us

    def _take_share(self, message: Notify) -> None:
        if not self.accepting:
            self._book.release(message.lease, "stopping")
            return
        if message.lease not in self._book and len(self._book) >= self._most_shares:
            log.warning("share beyond the credit", lease=message.lease)
            self._book.release(message.lease, "busy")
            return
        try:
            lengths, tokens = unpack_rows(message.rows)
            share = self._book.take(
                message.lease, message.model, message.operation, lengths, tokens
            )
        except (ArrayError, ValueError) as error:
            log.warning("malformed share", lease=message.lease, reason=str(error))
            self._book.release(message.lease, "bad_message")
            return
        if share is not None:
            self._telemetry.shares_taken += 1
            log.debug(
                "share taken",
                lease=share.lease,
                model=share.model,
                rows=share.rows,
                seconds=message.timeout,
            )

    def _take_answer(self, answer: Result | Error) -> None:
        lease = self._releasing.pop(answer.id, None)
        if lease is not None:
            # An error means that the lease was over already: handed back either way.
            self._book.released(lease)
            return
        part, sent_at = self._submitted.pop(answer.id, (None, 0.0))
        if part is None:
            if isinstance(answer, Error):
                log.warning("the pool refused", reason=answer.reason, text=answer.message)
            return
        self._in_flight_bytes -= part.values.nbytes
        self._telemetry.busy_seconds["acknowledge"] += trio.current_time() - sent_at
        if isinstance(answer, Error) and answer.code != Code.DUPLICATE:
            self._refused(part, answer)
            return
        self.acknowledged += 1
        self._host.part_acknowledged(part)
        self._telemetry.parts_accepted += 1
        self._device(part).parts_accepted += 1
        log.debug("part accepted", lease=part.lease, part=part.number)
        share = self._book.acknowledge(part)
        if share is not None:
            self._telemetry.shares_done += 1
            log.info("share done", lease=share.lease, model=share.model, rows=share.rows)

    def _refused(self, part: Part, error: Error) -> None:
        count_reason(self._telemetry.parts_refused, error.reason)
        self._device(part).parts_refused += 1
        if error.code == Code.LIMIT:
            # Not about this part: it stays, and is sent again in a session after a pause.
            raise ConnectionClosed(error.reason, error.message)
        if part.lease not in self._book:
            return  # dropped already: further parts of the same share were on their way
        words = error.message or words_of(error.reason)
        if error.code == Code.STALE:
            self._book.drop(part.lease)
            self._telemetry.shares_lost["stale"] += 1
            log.info("share is over", lease=part.lease, reason=error.reason, text=words)
            return
        # The pool may still count the lease as ours: without a release it would wait for it.
        known = REASONS.get(error.reason)
        blameless = known is not None and known.fault == "pool"
        self._book.release(part.lease, error.reason if blameless else "compute_failed")
        self._telemetry.shares_lost["refused"] += 1
        log.error(
            "part refused", lease=part.lease, part=part.number, reason=error.reason, text=words
        )

    def _device(self, part: Part) -> DeviceTelemetry:
        return self._telemetry.devices[part.device]
