"""The pool's end over trio: listeners, and one ``PoolConnection`` for each rig's connection."""

from __future__ import annotations

import ssl
from typing import Any

import trio

from stratum.addresses import parse_address
from stratum.connection import MAX_BUFFERED, Connection
from stratum.errors import ConnectionClosed, ProtocolViolation
from stratum.messages import FromPool, FromRig
from stratum.session import MAX_FRAME, PoolSession, State

__all__ = ["ConnectionClosed", "PoolConnection", "open_listeners", "parse_address"]

_UNAUTHORISED_BUFFER = 256 << 10  # bytes that may wait for a rig that nobody knows yet


class PoolConnection(Connection):
    """One rig's connection, seen from the pool.

    ::

        async with PoolConnection(stream) as connection:
            while True:
                for message in await connection.receive():
                    ...

    Pings are answered here, and requests out of order refused. A rig that has not authorised
    ``authorise_timeout`` seconds after the connection was made is sent away; so is one that has
    not been heard of for three times ``keepalive`` seconds, and one that lets more than
    ``max_buffered`` bytes wait for it.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        authorise_timeout: float = 15.0,
        max_frame: int = MAX_FRAME,
        max_buffered: int = MAX_BUFFERED,
        keepalive: float = 60.0,
    ) -> None:
        self.session = PoolSession(max_frame=max_frame)
        super().__init__(
            stream,
            self.session,
            max_buffered=min(max_buffered, _UNAUTHORISED_BUFFER),
            keepalive=keepalive,
        )
        self._max_buffered = max_buffered
        self._authorise_timeout = authorise_timeout
        self._answered = trio.Event()  # unset while a handshake request waits for our answer
        self._answered.set()

    async def receive(self) -> list[FromRig]:
        """The next messages (at least one): every whole frame that one read brought.

        Only one task may receive. Raises ``ConnectionClosed`` when the connection is over, and
        ``ProtocolViolation`` after the rig was told and the connection closed.
        """
        data = b""
        while True:
            await self._answered.wait()
            if self._end is not None:
                raise self._closed()
            try:
                messages = self.session.receive_data(data)
            except ProtocolViolation as violation:
                await self._last_words(
                    self.session.data_to_send(), ConnectionClosed(violation.reason)
                )
                raise
            self._push(self.session.data_to_send())
            if messages:
                self.frames_in += len(messages)
                if self.session.paused:
                    self._answered = trio.Event()
                return messages
            data = await self._read()

    def queue(self, message: FromPool) -> None:
        """Send a message soon, together with whatever else is queued by then.

        Synchronous, from any task of the same trio run. Does nothing once the connection is over.
        Raises ``LocalProtocolError`` for what may not be sent now.
        """
        if self._end is None:
            self._push(self.session.send(message))
        self._after_answer()

    def accept(self, request: FromRig | int, value: Any = True) -> None:
        """Answer a request (or the id of one) with success."""
        if self._end is None:
            self._push(self.session.accept(request, value))
        self._after_answer()

    def refuse(self, request: FromRig | int, code: int, reason: str, message: str = "") -> None:
        """Answer a request with an error; without words, those of the reason are sent."""
        if self._end is None:
            self._push(self.session.refuse(request, code, reason, message))
        self._after_answer()

    def _after_answer(self) -> None:
        if not self.session.paused:
            self._answered.set()
            if self.session.state is State.AUTHORIZED:
                self._buffer_limit = self._max_buffered

    def _start(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._authorise_in_time)

    async def _authorise_in_time(self) -> None:
        await trio.sleep(self._authorise_timeout)
        await self._answered.wait()  # an answer that is ours to give is not the rig's delay
        if self.session.state in (State.AUTHORIZED, State.CLOSED):
            return
        self.dismiss("authorise_timeout")


async def open_listeners(
    host: str, port: int, ssl_context: ssl.SSLContext | None = None
) -> list[trio.SocketListener] | list[trio.SSLListener[trio.SocketStream]]:
    """Listen for rigs on every address of ``host``; port 0 picks a free one. For
    ``trio.serve_listeners``. With a context, connections are TLS.
    """
    listeners = await trio.open_tcp_listeners(port, host=host)
    if ssl_context is None:
        return listeners
    return [trio.SSLListener(one, ssl_context, https_compatible=True) for one in listeners]
