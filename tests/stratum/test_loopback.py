"""Over real sockets: strangers on the port, TLS, and connections that break."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from session_pairs import ANSWERS, REQUESTS, frame, values

from stratum import messages as wire
from stratum.client import connect
from stratum.errors import ConnectionClosed, ProtocolViolation
from stratum.frames import encode
from stratum.server import PoolConnection, open_listeners


@asynccontextmanager
async def listening(
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[int, trio.MemoryReceiveChannel[Exception]]]:
    """A pool that accepts everything; the port, and how its connections ended."""
    report, ends = trio.open_memory_channel[Exception](100)

    async def serve(stream: Any) -> None:
        try:
            async with PoolConnection(stream) as connection:
                while True:
                    for message in await connection.receive():
                        connection.accept(message, ANSWERS.get(type(message), True))
        except (ConnectionClosed, ProtocolViolation) as error:
            report.send_nowait(error)

    async with trio.open_nursery() as nursery:
        listeners = await open_listeners("127.0.0.1", 0, context)
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        tcp = getattr(listeners[0], "transport_listener", listeners[0])
        with trio.fail_after(30):
            yield tcp.socket.getsockname()[1], ends
        nursery.cancel_scope.cancel()


async def _shake_hands(url: str, **options: Any) -> None:
    async with await connect(url, **options) as rig:
        handshake = await rig.handshake(
            agent="x", session="", credit=1, devices=(), user="a.r", token="t"
        )
        assert handshake.session == "session-1"
        assert await rig.call(wire.ModelReady, model="m") is True


async def _said(port: int, data: bytes) -> list[Any]:
    """What a stranger who says ``data`` hears until the pool hangs up."""
    heard = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(data)
        async for some in stream:
            heard += some
    return values(heard)


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: pool\r\n\r\n", "not_stratum"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), "not_stratum"),
        (b'{"id": 1, "method": "mining.subscribe", "params": []}\n', "frame_too_large"),
        (bytes(1000), "bad_frame"),
        (frame("mining.configure", 1, 1) + bytes(200_000), "bad_message"),
    ],
)
async def test_garbage_is_told_why_and_costs_nobody_else(garbage: bytes, reason: str) -> None:
    """Even with much unread behind it, the pool's words arrive; another rig is served on."""
    async with listening() as (port, ends):
        async with await connect(f"stratum+tcp://127.0.0.1:{port}") as rig:
            await rig.handshake(agent="x", session="", credit=1, devices=(), user="a.r", token="t")
            ((method, _, _, told, _),) = await _said(port, garbage)
            assert (method, told) == ("error", reason)
            assert await rig.call(wire.ModelReady, model="m") is True
            end = await ends.receive()
        assert isinstance(end, ProtocolViolation)
        assert end.reason == reason


async def test_a_connection_that_breaks_is_closed_not_failed() -> None:
    """A reset in the middle of a frame is an ordinary end."""
    async with listening() as (port, ends):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(encode(wire.Configure(1, 1, "x"))[:10])
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.aclose()
        end = await ends.receive()

    assert isinstance(end, ConnectionClosed)
    assert end.reason in ("reset", "eof")


async def test_a_socket_that_is_not_read_is_dropped_once_too_much_waits() -> None:
    """What the kernel takes does not count; what we hold does."""
    report, ends = trio.open_memory_channel[str](1)

    async def serve(stream: Any) -> None:
        async with PoolConnection(stream, max_buffered=4 << 20) as connection:
            try:
                while True:
                    for message in await connection.receive():
                        connection.accept(message, ANSWERS.get(type(message), True))
                        if isinstance(message, wire.Authorize):
                            while not connection.closed:
                                connection.queue(wire.Model(0, "m", bytes(1 << 20)))
                                await trio.lowlevel.checkpoint()
            except ConnectionClosed as error:
                report.send_nowait(error.reason)

    async with trio.open_nursery() as nursery:
        listeners = await open_listeners("127.0.0.1", 0)
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            for number, kind in enumerate(ANSWERS, 1):
                await stream.send_all(encode(kind(id=number, **REQUESTS[kind])))
            with trio.fail_after(30):
                assert await ends.receive() == "too_slow"
        nursery.cancel_scope.cancel()


class TestTLS:
    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    def context(self, authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        return context

    async def test_a_verified_connection_works(
        self, authority: trustme.CA, context: ssl.SSLContext, tmp_path: Path
    ) -> None:
        ca_file = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(ca_file))
        async with listening(context) as (port, _):
            await _shake_hands(f"stratum+ssl://127.0.0.1:{port}", ca_file=ca_file)

    async def test_an_unknown_authority_is_refused(
        self, context: ssl.SSLContext, tmp_path: Path
    ) -> None:
        ca_file = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(str(ca_file))
        async with listening(context) as (port, ends):
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(f"stratum+ssl://127.0.0.1:{port}", ca_file=ca_file)
            end = await ends.receive()
        assert isinstance(end, ConnectionClosed)

    async def test_a_certificate_for_another_host_is_refused(
        self, authority: trustme.CA, tmp_path: Path
    ) -> None:
        ca_file = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(ca_file))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("pool.example").configure_cert(context)
        async with listening(context) as (port, _):
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(f"stratum+ssl://127.0.0.1:{port}", ca_file=ca_file)

    async def test_tls_towards_a_plain_port_fails_with_an_oserror(self) -> None:
        async with listening() as (port, ends):
            with pytest.raises(OSError):
                await connect(f"stratum+ssl://127.0.0.1:{port}")
            end = await ends.receive()
        assert isinstance(end, ProtocolViolation)
        assert end.reason == "not_stratum"

    async def test_plain_words_towards_a_tls_port_are_an_ordinary_end(
        self, context: ssl.SSLContext
    ) -> None:
        async with listening(context) as (port, ends):
            rig = await connect(f"stratum+tcp://127.0.0.1:{port}")
            async with rig:
                with pytest.raises((ConnectionClosed, ProtocolViolation)):
                    await rig.call(wire.Configure, protocol=1, agent="x")
            end = await ends.receive()
        assert isinstance(end, ConnectionClosed)


async def test_nobody_listening_is_an_oserror() -> None:
    async with listening() as (port, _):
        pass
    with pytest.raises(OSError):
        await connect(f"stratum+tcp://127.0.0.1:{port}")
