"""Time and room: who is too slow, too late or silent, and who is not to blame."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing
from session_pairs import ANSWERS
from stream_pairs import (
    SUBMIT,
    authorised,
    both,
    everything,
    raw_rig,
    shake_hands,
)

from stratum import messages as wire
from stratum.client import RigConnection
from stratum.errors import (
    ConnectionClosed,
)
from stratum.frames import encode
from stratum.server import PoolConnection


async def test_a_slow_reader_is_dropped_and_costs_nobody_else(autojump_clock: Any) -> None:
    """A stream that takes nothing: once too much waits, the connection ends at once."""
    stream, pool_stream = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        pool = PoolConnection(pool_stream, max_buffered=10_000)
        reasons = []

        async def serve() -> None:
            async with pool:
                try:
                    while True:
                        for message in await pool.receive():
                            pool.accept(message, ANSWERS.get(type(message), True))
                except ConnectionClosed as error:
                    reasons.append(error.reason)

        nursery.start_soon(serve)
        async with RigConnection(stream) as rig:
            await shake_hands(rig)
            for _ in range(2000):
                if pool.closed:
                    break
                pool.queue(wire.SetDifficulty(0, 5))
            assert pool.closed
            await trio.testing.wait_all_tasks_blocked()
            assert reasons == ["too_slow"]
            pool.queue(wire.SetDifficulty(0, 5))  # nothing happens any more


async def test_before_authorisation_little_may_wait(autojump_clock: Any) -> None:
    """Pings that nobody reads the answers of do not fill the memory."""
    stream, pool_stream = trio.testing.lockstep_stream_pair()
    async with PoolConnection(pool_stream) as pool, trio.open_nursery() as nursery:

        async def flood() -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                for number in range(100_000):
                    await stream.send_all(encode(wire.Ping(number + 1)) * 100)

        nursery.start_soon(flood)
        with pytest.raises(ConnectionClosed, match="too_slow"):
            await pool.receive()
        assert pool.buffered < 1 << 20


async def test_who_does_not_authorise_in_time_is_told_and_closed(autojump_clock: Any) -> None:
    """Also one that keeps sending a byte now and then."""
    async with raw_rig() as (stream, pool), trio.open_nursery() as nursery:

        async def drip() -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                for byte in encode(wire.Configure(1, 1, "x" * 200)):
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(1)

        nursery.start_soon(drip)
        started = trio.current_time()
        with pytest.raises(ConnectionClosed, match="authorise_timeout"):
            await pool.receive()
        assert trio.current_time() - started <= 15 + 2
        assert (await everything(stream))[0][:4] == ["error", 0, 24, "authorise_timeout"]


async def test_a_slow_pool_is_not_the_rigs_delay(autojump_clock: Any) -> None:
    """A rig that asked in time is not closed while our answer is being found."""

    async def application(pool: PoolConnection) -> None:
        while True:
            for message in await pool.receive():
                if isinstance(message, wire.Authorize):
                    await trio.sleep(40)
                pool.accept(message, ANSWERS.get(type(message), True))

    async with both(application) as (rig, _):
        await shake_hands(rig)
        assert await rig.call(wire.ModelReady, model="m") is True


async def test_a_silent_rig_is_pinged_and_then_given_up(autojump_clock: Any) -> None:
    async with raw_rig(keepalive=60.0) as (stream, pool):
        await authorised(stream, pool)
        started = trio.current_time()
        with pytest.raises(ConnectionClosed, match="silent"):
            await pool.receive()
        assert trio.current_time() - started == pytest.approx(180, abs=1)
        assert [value[0] for value in await everything(stream)] == ["mining.ping"]


async def test_ends_that_answer_pings_live_for_ever(autojump_clock: Any) -> None:
    async with both() as (rig, pool):
        await shake_hands(rig)
        await trio.sleep(10_000)
        assert await rig.call(wire.ModelReady, model="m") is True
        assert not pool.closed


async def test_silence_does_not_count_while_we_do_not_read(autojump_clock: Any) -> None:
    """A pool that is behind stops reading: not the rig's silence, and the rig hears it live."""

    async def application(pool: PoolConnection) -> None:
        while True:
            for message in await pool.receive():
                pool.accept(message, ANSWERS.get(type(message), True))
                if isinstance(message, wire.Submit):
                    await trio.sleep(1000)

    async with both(application) as (rig, pool):
        await shake_hands(rig)
        await rig.call(wire.Submit, **SUBMIT)
        await trio.sleep(990)
        assert not pool.closed
        assert not rig.closed


async def test_a_rig_gives_a_silent_pool_up(autojump_clock: Any) -> None:
    stream, other = trio.testing.memory_stream_pair()
    async with RigConnection(stream) as rig:
        with pytest.raises(ConnectionClosed, match="silent"):
            await rig.call(wire.Configure, protocol=1, agent="x")
        assert [value[0] for value in await everything(other)] == [
            "mining.configure",
            "mining.ping",
        ]


async def test_closing_does_not_wait_long_for_a_peer_that_does_not_read(
    autojump_clock: Any,
) -> None:
    _stream, pool_stream = trio.testing.lockstep_stream_pair()
    started = trio.current_time()
    async with PoolConnection(pool_stream) as pool:
        pool.queue(wire.ShowMessage(0, "goodbye"))

    assert trio.current_time() - started == pytest.approx(2, abs=0.1)


async def test_a_rig_that_falls_behind_stops_reading_and_catches_up(autojump_clock: Any) -> None:
    """Notifications that nobody receives yet are bounded, and none is lost."""
    async with both() as (rig, pool):
        await shake_hands(rig)
        for number in range(20_000):
            pool.queue(wire.SetDifficulty(0, number))
        await pool.drain()
        await trio.testing.wait_all_tasks_blocked()
        assert rig.frames_in < 5000  # the bound, and what one more read brings
        received: list[Any] = []
        while len(received) < 20_000:
            received += await rig.receive()
        assert [message.work for message in received] == list(range(20_000))
