"""Connections over memory streams, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing
from session_pairs import ANSWERS, REQUESTS, values

from stratum import messages as wire
from stratum.client import Handshake, RigConnection
from stratum.errors import (
    ConnectionClosed,
)
from stratum.frames import encode
from stratum.server import PoolConnection

SUBMIT = REQUESTS[wire.Submit]


class CountingStream(trio.abc.HalfCloseableStream):
    """Counts what is sent, and how often."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.sends: list[int] = []

    async def send_all(self, data: Any) -> None:
        self.sends.append(len(data))
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self.inner.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> Any:
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.inner.aclose()


async def accept_all(connection: PoolConnection) -> None:
    """A pool that answers every request with success, until the end."""
    try:
        while True:
            for message in await connection.receive():
                connection.accept(message, ANSWERS.get(type(message), True))
    except ConnectionClosed:
        pass


@asynccontextmanager
async def both(
    application: Callable[[PoolConnection], Any] = accept_all, **options: Any
) -> AsyncIterator[tuple[RigConnection, PoolConnection]]:
    """A rig and a pool joined by a memory stream, the pool's application running."""
    rig_stream, pool_stream = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        pool = PoolConnection(pool_stream, **options)

        async def serve() -> None:
            async with pool:
                await application(pool)

        nursery.start_soon(serve)
        async with RigConnection(rig_stream, host="pool.example") as rig:
            yield rig, pool
        nursery.cancel_scope.cancel()


async def shake_hands(rig: RigConnection, **changes: Any) -> Handshake:
    fields: dict[str, Any] = {
        "agent": "test/1",
        "session": "",
        "credit": 2,
        "devices": [wire.Device(0, "cpu")],
        "user": "a.r",
        "token": "t",
    }
    return await rig.handshake(**(fields | changes))


@asynccontextmanager
async def raw_rig(**options: Any) -> AsyncIterator[tuple[Any, PoolConnection]]:
    """A pool's connection, and the bare stream at its other end."""
    stream, pool_stream = trio.testing.memory_stream_pair()
    async with PoolConnection(pool_stream, **options) as pool:
        yield stream, pool


async def everything(stream: Any) -> list[Any]:
    """What comes until the other end closes."""
    data = b""
    while some := await stream.receive_some(65536):
        data += some
    return values(data)


async def authorised(stream: Any, pool: PoolConnection) -> None:
    """Take a bare rig through the handshake."""
    for number, kind in enumerate(ANSWERS, 1):
        await stream.send_all(encode(kind(id=number, **REQUESTS[kind])))
        (message,) = await pool.receive()
        pool.accept(message, ANSWERS[kind])
    seen: list[Any] = []
    while len(seen) < len(ANSWERS):
        seen += values(await stream.receive_some(65536))
