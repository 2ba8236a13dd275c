"""Memory streams with a line between them: latency, a window, and a line that can be cut."""

from __future__ import annotations

from collections import deque

import trio

WINDOW_BYTES = 256 << 10  # bytes on their way before a sender waits, as in TCP


class WireEnd(trio.abc.HalfCloseableStream):
    """One end. What is sent arrives at the other ``latency`` seconds later, unless it is cut."""

    def __init__(self, latency: float) -> None:
        self.peer: WireEnd
        self._latency = latency
        self._arriving: deque[tuple[float, bytes]] = deque()  # (when, bytes; b"" is the end)
        self._bytes = 0
        self._changed = trio.Event()
        self._closed = False
        self._broken = False
        self._stalled_until = 0.0
        self._swallows = False
        self._bytes_to_tear = -1  # -1: the line is whole

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.wait_send_all_might_not_block()
        self._check_sending()
        if self._swallows:
            return
        if 0 <= self._bytes_to_tear < len(data):
            self._tear(bytes(data[: self._bytes_to_tear]))
            raise trio.BrokenResourceError
        if self._bytes_to_tear >= 0:
            self._bytes_to_tear -= len(data)
        self.peer._arrive(trio.current_time() + self._latency, bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        while self.peer._bytes >= WINDOW_BYTES and not self._over:
            await self.peer._changed.wait()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        self._check_sending()
        self.peer._arrive(trio.current_time() + self._latency, b"")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError
            if self._broken:
                raise trio.BrokenResourceError
            next_at = self._arriving[0][0] if self._arriving else float("inf")
            until = max(next_at, self._stalled_until)
            if until <= trio.current_time():
                return self._take(max_bytes or 1 << 20)
            changed = self._changed
            with trio.move_on_at(until):
                await changed.wait()

    async def aclose(self) -> None:
        self._close()
        await trio.lowlevel.checkpoint()

    def cut(self) -> None:
        """The line breaks: what is on its way is lost, and both ends learn it at once."""
        for end in (self, self.peer):
            end._broken = True
            end._arriving.clear()
            end._change()

    def stall(self, seconds: float) -> None:
        """Nothing arrives at either end for so long; then all of it does."""
        for end in (self, self.peer):
            end._stalled_until = trio.current_time() + seconds
            end._change()

    def swallow(self) -> None:
        """The line is dead and neither end is told: whatever is sent is lost."""
        for end in (self, self.peer):
            end._swallows = True

    def tear(self, after: int) -> None:
        """The line breaks when ``after`` more bytes were sent here: in the middle of a frame."""
        self._bytes_to_tear = after

    def _tear(self, last: bytes) -> None:
        self.peer._arrive(trio.current_time() + self._latency, last)
        self._close()
        self._broken = True

    @property
    def _over(self) -> bool:
        return self._closed or self._broken or self.peer._closed

    def _check_sending(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if self._broken or self.peer._closed:
            raise trio.BrokenResourceError

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if not self._broken and not self.peer._closed:
            self.peer._arrive(trio.current_time() + self._latency, b"")
        self._change()

    def _arrive(self, when: float, data: bytes) -> None:
        self._arriving.append((when, data))
        self._bytes += len(data)
        self._change()

    def _take(self, most: int) -> bytes:
        when, data = self._arriving[0]
        if not data:
            return b""
        taken, rest = data[:most], data[most:]
        if rest:
            self._arriving[0] = (when, rest)
        else:
            self._arriving.popleft()
        self._bytes -= len(taken)
        self._change()
        return taken

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def wire(latency: float) -> tuple[WireEnd, WireEnd]:
    """Two ends of one line."""
    one, other = WireEnd(latency), WireEnd(latency)
    one.peer, other.peer = other, one
    return one, other
