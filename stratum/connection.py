"""What both ends of a connection share over trio: the outgoing queue, keep-alive, the end."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self

import trio

from stratum.errors import ConnectionClosed, code_of, words_of
from stratum.session import PoolSession, RigSession

READ_BYTES = 64 << 10
"""Bytes asked of the stream at once: many small frames, or a slice of a large one."""
_JOIN_BYTES = 256 << 10  # small frames are joined into one send up to this; larger go alone
_LAST_WORDS = 2.0  # seconds for what is queued when we close
_LINGER_BYTES = 1 << 20  # read and dropped after our last words, so that they arrive
_SHORTEST_SLEEP = 0.001  # seconds: rounding must not make a loop spin

MAX_BUFFERED = 64 << 20
"""Bytes that may wait for a peer that reads slowly."""


class Connection:
    """One end of a connection over any trio stream; use it as an async context manager.

    Counters, plain integers: ``bytes_in``, ``bytes_out``, ``frames_in`` (messages handed out or
    answered), ``frames_out``. ``bytes_in`` grows while a long frame is still arriving.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        session: PoolSession | RigSession,
        *,
        max_buffered: int,
        keepalive: float,
    ) -> None:
        self.stream = stream
        self.keepalive = keepalive
        self.bytes_in = 0
        self.bytes_out = 0
        self.frames_in = 0
        self.frames_out = 0
        self.buffered = 0
        """Bytes queued and not yet taken by the stream."""
        self._session_base = session
        self._buffer_limit = max_buffered
        self._socket: trio.socket.SocketType | None = None  # of a plain stream
        if isinstance(stream, trio.SocketStream) and os.name == "posix":
            self._socket = stream.socket
        self._queue: deque[bytes] = deque()
        self._wake = trio.Event()  # the writer has something to send
        self._drained = trio.Event()  # nothing is queued
        self._drained.set()
        self._waiting_since = math.inf  # when the read that is under way began
        self._end: ConnectionClosed | None = None
        self._over = trio.Event()  # close the stream …
        self._gently = False  # … once our last words are sent
        self._manager: AbstractAsyncContextManager[None] | None = None

    async def __aenter__(self) -> Self:
        self._manager = self._running()
        await self._manager.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._manager is not None
        return await self._manager.__aexit__(kind, error, traceback)

    @property
    def closed(self) -> bool:
        """True when nothing can be sent any more."""
        return self._end is not None

    async def drain(self) -> None:
        """Wait until everything queued was taken by the stream (or the connection ended)."""
        await self._drained.wait()

    async def aclose(self) -> None:
        """Send what is queued (two seconds at most), then close."""
        self._finish(ConnectionClosed("closed"))
        try:
            with trio.move_on_after(_LAST_WORDS):
                await self._drained.wait()
                await self.stream.aclose()
        finally:
            self._over.set()
            await trio.aclose_forcefully(self.stream)

    # ── for the two ends ─────────────────────────────────────────────────────

    def _push(self, frame: bytes) -> None:
        """Queue bytes. Synchronous: whoever calls goes on, the writer sends soon after."""
        if self._end is not None or not frame:
            return
        self.frames_out += 1
        self._queue.append(frame)
        self.buffered += len(frame)
        if self.buffered > self._buffer_limit:
            self._finish(ConnectionClosed("too_slow"))
            self._over.set()
            return
        if not self._wake.is_set():
            self._wake.set()
            self._drained = trio.Event()

    def _finish(self, end: ConnectionClosed) -> None:
        """Nothing more is queued from now on. The first reason is the one that counts."""
        if self._end is None:
            self._end = end
            self._session_base.close()

    async def _read(self) -> bytes:
        """Some bytes. Raises ``ConnectionClosed``."""
        self._waiting_since = trio.current_time()
        try:
            data = await self.stream.receive_some(READ_BYTES)
        except trio.BrokenResourceError:
            self._finish(ConnectionClosed("reset"))
        except trio.ClosedResourceError:
            self._finish(ConnectionClosed("closed"))
        else:
            if not data:
                self._finish(ConnectionClosed("eof"))
            self.bytes_in += len(data)
        finally:
            self._waiting_since = math.inf
        if self._end is not None:
            raise self._closed()
        return bytes(data)

    def _closed(self) -> ConnectionClosed:
        """Why it ended, as an exception of its own for each who asks."""
        end = self._end or ConnectionClosed("closed")
        return ConnectionClosed(end.reason, end.message)

    def dismiss(self, reason: str, message: str = "") -> None:
        """Tell the other end why, and close. Synchronous; what was queued before is still sent.

        ``receive`` raises ``ConnectionClosed`` with the reason at both ends. Without words, those
        of the reason are sent.
        """
        if self._end is None:
            words = message or words_of(reason)
            self._push(self._session_base.close(code_of(reason), reason, words))
            self._finish(ConnectionClosed(reason, words))
            self._gently = True
            self._over.set()

    async def _last_words(self, frame: bytes, end: ConnectionClosed) -> None:
        """Send a last frame, let the other end read it, close."""
        self._push(frame)
        self._finish(end)
        await self._hang_up()

    async def _hang_up(self) -> None:
        with trio.move_on_after(_LAST_WORDS):
            await self._drained.wait()
            await self._linger()
        await trio.aclose_forcefully(self.stream)

    async def _linger(self) -> None:
        """Half-close and drop what still comes: closing on unread bytes would destroy our words."""
        if not isinstance(self.stream, trio.abc.HalfCloseableStream):
            return
        dropped = 0
        try:
            await self.stream.send_eof()
            while dropped < _LINGER_BYTES and (data := await self.stream.receive_some(READ_BYTES)):
                dropped += len(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            return

    def _silence(self) -> float:
        """Seconds since the other end was last heard of, while we were listening."""
        return trio.current_time() - self._waiting_since

    # ── background ───────────────────────────────────────────────────────────

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_queue)
            nursery.start_soon(self._close_when_over)
            nursery.start_soon(self._keep_alive)
            self._start(nursery)
            try:
                yield
            except Exception as error:
                failure = error  # raised outside the nursery, so that it is not wrapped
            finally:
                await self.aclose()
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _start(self, nursery: trio.Nursery) -> None:
        """More background tasks of one end."""

    async def _write_queue(self) -> None:
        while True:
            await self._wake.wait()
            try:
                while self._queue:
                    batch = self._next_batch()
                    taken = self._write_now(batch)
                    if taken < len(batch):
                        await self.stream.send_all(memoryview(batch)[taken:])
                    self.bytes_out += len(batch)
                    self.buffered -= len(batch)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._finish(ConnectionClosed("reset"))
                self._queue.clear()
                self._drained.set()
                return
            self._wake = trio.Event()
            self._drained.set()

    def _write_now(self, batch: bytes) -> int:
        """Bytes that a plain socket takes without waiting (0 for any other stream).

        ``send_all`` gives way to other tasks even when it need not wait; a whole pass through the
        scheduler for each answer doubled what one costs.
        """
        if self._socket is None:
            return 0
        try:
            return os.write(self._socket.fileno(), batch)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError from error

    def _next_batch(self) -> bytes:
        queue = self._queue
        first = queue.popleft()
        size = len(first)
        if not queue or size + len(queue[0]) > _JOIN_BYTES:
            return first
        batch = [first]
        while queue and size + len(queue[0]) <= _JOIN_BYTES:
            frame = queue.popleft()
            size += len(frame)
            batch.append(frame)
        return b"".join(batch)

    async def _close_when_over(self) -> None:
        await self._over.wait()
        if self._gently:
            await self._hang_up()
        await trio.aclose_forcefully(self.stream)

    async def _keep_alive(self) -> None:
        """Ping after one interval of silence, give up after three.

        Only time spent listening counts: while we do not read (because we are behind, say), the
        other end is not to blame, and hears from us every interval that we live.
        """
        pinged = -math.inf  # the read during which we pinged
        await trio.sleep(self.keepalive)
        while self._end is None:
            silence = self._silence()
            if silence >= 3 * self.keepalive:
                self._finish(ConnectionClosed("silent"))
                self._over.set()
                return
            listening = self._waiting_since != math.inf
            if not listening or (silence >= self.keepalive and pinged != self._waiting_since):
                pinged = self._waiting_since
                self._push(self._session_base.ping())
            due = self.keepalive - silence if 0 <= silence < self.keepalive else self.keepalive
            await trio.sleep(max(due, _SHORTEST_SLEEP))
