"""The rig's end over trio: connect, shake hands, call and be notified."""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from stratum.addresses import parse_url
from stratum.connection import MAX_BUFFERED, Connection
from stratum.errors import ConnectionClosed, ProtocolViolation, Refusal
from stratum.messages import (
    PROTOCOL,
    Authorize,
    Configure,
    Device,
    Error,
    FromPool,
    Result,
    Subscribe,
)
from stratum.session import MAX_FRAME, RigSession

__all__ = ["ConnectionClosed", "Handshake", "Refusal", "RigConnection", "connect"]

_CONNECT_SECONDS = 20.0
_INBOX = 1024  # messages that may wait for ``receive`` before we stop reading


@dataclass(frozen=True, slots=True)
class Handshake:
    """What the pool said: name the ``session`` when reconnecting.

    ``resumed``: the pool still knew the session named. ``max_frame``: bytes of the longest frame
    it takes. ``keepalive``: seconds. ``agent``: the pool's software. ``web``: where its HTTP side
    is, "" when it does not say.
    """

    session: str
    resumed: bool
    max_frame: int
    keepalive: float
    agent: str
    web: str = ""


class _Waiter:
    """A call that waits for its answer (``answer`` stays None when the connection ended)."""

    __slots__ = ("answer", "done")

    def __init__(self) -> None:
        self.answer: Result | Error | None = None
        self.done = trio.Event()


class RigConnection(Connection):
    """A connection to a pool, over any trio stream; use it as an async context manager.

    ::

        async with await connect("stratum+tcp://127.0.0.1:3333") as connection:
            await connection.handshake(agent="…", session="", credit=2, devices=(), user="a.r",
                                       token="…")
            for message in await connection.receive():
                ...

    Pings are answered and sent here. ``host`` is the host that was dialled.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        host: str = "",
        max_frame: int = MAX_FRAME,
        max_buffered: int = MAX_BUFFERED,
        keepalive: float = 60.0,
    ) -> None:
        self.session = RigSession(max_frame=max_frame)
        super().__init__(stream, self.session, max_buffered=max_buffered, keepalive=keepalive)
        self.host = host
        self._waiters: dict[int, _Waiter] = {}  # {request id: who calls}
        self._inbox: deque[FromPool] = deque()
        self._arrived = trio.Event()
        self._room = trio.Event()
        self._violation: ProtocolViolation | None = None

    async def handshake(
        self,
        *,
        agent: str,
        session: str,
        credit: int,
        devices: Sequence[Device],
        user: str,
        token: str,
    ) -> Handshake:
        """Configure, subscribe and authorise.

        ``session``: the last session's name, or "". Raises ``Refusal`` with the pool's words,
        ``ConnectionClosed``, or ``ProtocolViolation``.
        """
        answer = await self.call(Configure, protocol=PROTOCOL, agent=agent)
        name, resumed = (
            await self.call(Subscribe, session=session, credit=credit, devices=tuple(devices))
        )[:2]
        keepalive = answer.get("keepalive")
        if isinstance(keepalive, int | float) and keepalive > 0:
            self.keepalive = min(self.keepalive, float(keepalive))
        await self.call(Authorize, user=user, token=token)
        return Handshake(
            name,
            resumed,
            answer["max_frame"],
            self.keepalive,
            str(answer.get("agent", "")),
            self.whole_url(str(answer.get("web", ""))),
        )

    async def call(self, kind: type[Any], **fields: Any) -> Any:
        """Make a request and wait for its answer's value.

        Raises ``Refusal`` when the pool answers with an error, ``ConnectionClosed`` (it is then
        unknown whether the request arrived), ``ProtocolViolation``, and ``LocalProtocolError``
        when the request may not be made now.
        """
        request = self.queue(kind, **fields)
        waiter = self._waiters[request] = _Waiter()
        await waiter.done.wait()
        if waiter.answer is None:
            raise self._why()
        if isinstance(waiter.answer, Error):
            raise Refusal(waiter.answer.code, waiter.answer.reason, waiter.answer.message)
        return waiter.answer.value

    def queue(self, kind: type[Any], **fields: Any) -> int:
        """Make a request without waiting; returns its id. ``receive`` returns its answer.

        Synchronous; sent soon with whatever else is queued. Raises ``ConnectionClosed`` and
        ``LocalProtocolError``.
        """
        if self._end is not None:
            raise self._closed()
        request, frame = self.session.request(kind, **fields)
        self._push(frame)
        return request

    async def receive(self) -> list[FromPool]:
        """The next messages (at least one): notifications, and answers that no call waits for.

        Raises, after the last message, ``ConnectionClosed`` or ``ProtocolViolation``.
        """
        while not self._inbox:
            if self._end is not None:
                raise self._why()
            self._arrived = trio.Event()
            await self._arrived.wait()
        messages = list(self._inbox)
        self._inbox.clear()
        self._room.set()
        return messages

    def whole_url(self, url: str) -> str:
        """The whole address of what the pool names: one that begins with ``:`` is on its host."""
        if not url.startswith(":"):
            return url
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}{url}"

    def _start(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._read_messages)

    async def _read_messages(self) -> None:
        """Read until the end; wake whoever waits for an answer or for news."""
        data = b""
        try:
            while True:
                self._dispatch(self.session.receive_data(data))
                self._push(self.session.data_to_send())
                while len(self._inbox) >= _INBOX:
                    self._room = trio.Event()
                    await self._room.wait()
                # A violation that followed good messages is raised by the next call.
                data = b"" if self.session.violated else await self._read()
        except ConnectionClosed:
            pass
        except ProtocolViolation as violation:
            self._violation = violation
            await self._last_words(
                self.session.data_to_send(), ConnectionClosed(violation.reason, violation.message)
            )
        finally:
            self._finish(ConnectionClosed("closed"))
            self._arrived.set()
            for waiter in self._waiters.values():
                waiter.done.set()

    def _dispatch(self, messages: list[FromPool]) -> None:
        self.frames_in += len(messages)
        for message in messages:
            if isinstance(message, Result | Error):
                if isinstance(message, Error) and message.id == 0:
                    self._finish(ConnectionClosed(message.reason, message.message))
                    raise self._closed()
                waiter = self._waiters.pop(message.id, None)
                if waiter is not None:
                    waiter.answer = message
                    waiter.done.set()
                    continue
            self._inbox.append(message)
        if self._inbox:
            self._arrived.set()

    def _why(self) -> ConnectionClosed | ProtocolViolation:
        if self._violation is not None:
            one = self._violation
            return ProtocolViolation(one.code, one.reason, one.message, request=one.request)
        return self._closed()


async def connect(
    url: str,
    *,
    ca_file: str | Path | None = None,
    max_frame: int = MAX_FRAME,
    max_buffered: int = MAX_BUFFERED,
) -> RigConnection:
    """Dial ``stratum+tcp://HOST:PORT``, or ``stratum+ssl://HOST:PORT`` with a verified certificate.

    ``ca_file``: certificates to trust instead of the system's. Raises ``ValueError`` for a wrong
    URL, ``OSError`` when nobody answers (or not within 20 seconds), and ``ssl.SSLError`` when the
    certificate does not hold.
    """
    host, port, tls = parse_url(url)
    context = ssl.create_default_context(cafile=ca_file) if tls else None
    stream: trio.abc.Stream | None = None
    with trio.move_on_after(_CONNECT_SECONDS):
        tcp = await trio.open_tcp_stream(host, port)
        stream = tcp if context is None else await _secure(tcp, context, host)
    if stream is None:
        raise TimeoutError(f"{url}: no connection within {_CONNECT_SECONDS:.0f} seconds")
    return RigConnection(stream, host=host, max_frame=max_frame, max_buffered=max_buffered)


async def _secure(
    tcp: trio.SocketStream, context: ssl.SSLContext, host: str
) -> trio.SSLStream[trio.SocketStream]:
    secure = trio.SSLStream(tcp, context, server_hostname=host, https_compatible=True)
    try:
        await secure.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(tcp)
        if isinstance(error.__cause__, ssl.SSLError):
            raise error.__cause__ from None
        raise ConnectionResetError(f"{host}: the TLS handshake was broken off") from error
    except BaseException:
        await trio.aclose_forcefully(tcp)
        raise
    return secure
