"""Both ends over trio, on memory streams and a virtual clock."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from session_pairs import ANSWERS, CONFIGURED, NOTIFICATIONS, OUTCOME, frame
from stream_pairs import (
    SUBMIT,
    CountingStream,
    authorised,
    both,
    everything,
    raw_rig,
    shake_hands,
)

from stratum import messages as wire
from stratum.client import Handshake, RigConnection
from stratum.errors import (
    Code,
    ConnectionClosed,
    LocalProtocolError,
    ProtocolViolation,
    Refusal,
)
from stratum.frames import encode
from stratum.server import PoolConnection


async def test_a_handshake_says_what_the_pool_said(autojump_clock: Any) -> None:
    async with both() as (rig, _):
        assert await shake_hands(rig) == Handshake(
            "session-1", False, CONFIGURED["max_frame"], 60.0, "test/1"
        )


async def test_a_refusal_carries_code_reason_and_words(autojump_clock: Any) -> None:
    """And the rig may try again on the same connection."""
    attempts = 0

    async def application(pool: PoolConnection) -> None:
        nonlocal attempts
        while True:
            for message in await pool.receive():
                if isinstance(message, wire.Authorize) and message.token == "wrong":
                    attempts += 1
                    pool.refuse(message, Code.UNAUTHORIZED, "bad_token")
                else:
                    pool.accept(message, ANSWERS.get(type(message), True))

    async with both(application) as (rig, _):
        with pytest.raises(Refusal) as caught:
            await shake_hands(rig, token="wrong")
        assert (caught.value.code, caught.value.reason) == (24, "bad_token")
        assert "token" in caught.value.message
        assert await rig.call(wire.Authorize, user="a.r", token="right") is True
    assert attempts == 1


async def test_answers_go_to_their_calls_and_the_rest_to_receive(autojump_clock: Any) -> None:
    async with both() as (rig, pool):
        await shake_hands(rig)
        for message in NOTIFICATIONS:
            pool.queue(message)
        queued = rig.queue(wire.Submit, **SUBMIT)
        assert await rig.call(wire.ModelReady, model="m") is True

        received: list[Any] = []
        while len(received) < len(NOTIFICATIONS) + 1:
            received += await rig.receive()
        assert [one for one in received if one.id == 0] == NOTIFICATIONS
        assert wire.Result(queued) in received


async def test_the_answer_to_a_call_that_was_given_up_is_dropped(autojump_clock: Any) -> None:
    async def application(pool: PoolConnection) -> None:
        while True:
            for message in await pool.receive():
                if isinstance(message, wire.Submit):
                    await trio.sleep(10)
                pool.accept(message, ANSWERS.get(type(message), True))

    async with both(application) as (rig, pool):
        await shake_hands(rig)
        with trio.move_on_after(5) as scope:
            await rig.call(wire.Submit, **SUBMIT)
        assert scope.cancelled_caught
        await trio.sleep(10)
        pool.queue(wire.ShowMessage(0, "next"))
        assert await rig.receive() == [wire.ShowMessage(0, "next")]


async def test_what_is_queued_together_is_sent_together() -> None:
    """From several tasks too; a long frame goes alone, so that joining copies little."""
    stream, inner = trio.testing.memory_stream_pair()
    counting = CountingStream(inner)
    async with PoolConnection(counting) as pool:
        await authorised(stream, pool)
        counting.sends.clear()

        async def speak() -> None:
            for _ in range(10):
                pool.queue(wire.SetDifficulty(0, 5))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(speak)
        await pool.drain()
        assert len(counting.sends) == 1

        counting.sends.clear()
        pool.queue(wire.SetDifficulty(0, 5))
        pool.queue(wire.Model(0, "m", bytes(1 << 20)))
        pool.queue(wire.SetDifficulty(0, 5))
        await pool.drain()
        assert len(counting.sends) == 3
        assert pool.buffered == 0


async def test_counters_count_bytes_and_frames() -> None:
    async with raw_rig() as (stream, pool):
        await authorised(stream, pool)
        before = (pool.bytes_in, pool.frames_in, pool.bytes_out, pool.frames_out)
        request = encode(wire.Submit(9, 1, 0, 0, True, OUTCOME))
        await stream.send_all(request)
        (message,) = await pool.receive()
        pool.accept(message)
        answer = await stream.receive_some(100)
        after = (pool.bytes_in, pool.frames_in, pool.bytes_out, pool.frames_out)

        assert [b - a for a, b in zip(before, after, strict=True)] == [
            len(request),
            1,
            len(answer),
            1,
        ]


async def test_the_handshake_may_be_answered_from_another_task(autojump_clock: Any) -> None:
    """``receive`` waits for the answer instead of reading on."""

    async def application(pool: PoolConnection) -> None:
        async with trio.open_nursery() as nursery:

            async def answer_later(message: Any) -> None:
                await trio.sleep(3)
                pool.accept(message, ANSWERS.get(type(message), True))

            while True:
                for message in await pool.receive():
                    nursery.start_soon(answer_later, message)

    async with both(application) as (rig, _):
        await shake_hands(rig)


async def test_a_violation_is_answered_before_the_connection_closes(autojump_clock: Any) -> None:
    async with raw_rig() as (stream, pool):
        await authorised(stream, pool)
        await stream.send_all(frame("mining.submit", 9, "x"))
        with pytest.raises(ProtocolViolation, match="bad_message"):
            await pool.receive()
        assert (await everything(stream))[0][:4] == ["error", 9, 31, "bad_message"]
        with pytest.raises(ConnectionClosed):
            await pool.receive()


async def test_messages_before_a_violation_are_received_first(autojump_clock: Any) -> None:
    async with raw_rig() as (stream, pool):
        await authorised(stream, pool)
        good = encode(wire.Submit(9, 1, 0, 0, True, OUTCOME))
        await stream.send_all(good + b"\0\0\0\1\xc1")
        (message,) = await pool.receive()
        pool.accept(message)
        with pytest.raises(ProtocolViolation, match="bad_frame"):
            await pool.receive()
        assert [value[:2] for value in await everything(stream)] == [["result", 9], ["error", 0]]


async def test_a_rig_hears_the_pools_last_words(autojump_clock: Any) -> None:
    """They are the reason of the ``ConnectionClosed`` that waiting calls and receive raise."""

    async with both() as (rig, _):
        with pytest.raises(ConnectionClosed) as caught:
            await rig.receive()
        assert caught.value.reason == "authorise_timeout"
        assert caught.value.message
        with pytest.raises(ConnectionClosed, match="authorise_timeout"):
            await rig.call(wire.Configure, protocol=1, agent="x")


async def test_who_is_dismissed_hears_why_after_all_that_was_queued(autojump_clock: Any) -> None:
    """And the pool's own ``receive`` ends with the same reason."""
    ends: list[str] = []

    async def application(pool: PoolConnection) -> None:
        try:
            while True:
                for message in await pool.receive():
                    pool.accept(message, ANSWERS.get(type(message), True))
        except ConnectionClosed as error:
            ends.append(error.reason)

    async with both(application) as (rig, pool):
        await shake_hands(rig)
        await trio.testing.wait_all_tasks_blocked()
        pool.queue(wire.ShowMessage(0, "before"))
        pool.dismiss("replaced")
        pool.queue(wire.ShowMessage(0, "after"))
        assert await rig.receive() == [wire.ShowMessage(0, "before")]
        with pytest.raises(ConnectionClosed, match="replaced: The same"):
            await rig.receive()
        await trio.sleep(5)
    assert ends == ["replaced"]


async def test_a_pool_that_breaks_the_protocol_is_told_so(autojump_clock: Any) -> None:
    stream, other = trio.testing.memory_stream_pair()
    async with RigConnection(stream) as rig:
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                with pytest.raises(ProtocolViolation):
                    await rig.call(wire.Configure, protocol=1, agent="x")

            nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            await other.send_all(frame("mining.notify", 0, 1))
        with pytest.raises(ProtocolViolation, match="bad_message"):
            await rig.receive()
    assert (await everything(other))[-1][:4] == ["error", 0, 20, "bad_message"]


async def test_a_rig_receives_what_came_before_a_violation(autojump_clock: Any) -> None:
    """And learns of the violation without waiting for more bytes."""
    stream, other = trio.testing.memory_stream_pair()
    async with RigConnection(stream) as rig:
        await other.send_all(encode(wire.ShowMessage(0, "hello")) + frame("mining.ping", 0))
        assert await rig.receive() == [wire.ShowMessage(0, "hello")]
        with trio.fail_after(5), pytest.raises(ProtocolViolation, match="bad_message"):
            await rig.receive()


async def test_the_end_of_the_stream_ends_both_ways_of_waiting(autojump_clock: Any) -> None:
    async with raw_rig() as (stream, pool):
        await stream.send_eof()
        with pytest.raises(ConnectionClosed, match="eof"):
            await pool.receive()

    stream, other = trio.testing.memory_stream_pair()
    async with RigConnection(stream) as rig:
        await other.send_eof()
        with pytest.raises(ConnectionClosed, match="eof"):
            await rig.call(wire.Configure, protocol=1, agent="x")


async def test_what_was_queued_is_sent_before_closing(autojump_clock: Any) -> None:
    async with raw_rig() as (stream, pool):
        pool.queue(wire.ShowMessage(0, "goodbye"))
    assert await everything(stream) == [["client.show_message", 0, "goodbye"]]


async def test_an_error_of_the_application_is_not_wrapped() -> None:
    """The nursery inside is nobody's business."""
    with pytest.raises(KeyError):
        async with raw_rig():
            raise KeyError("x")


async def test_closing_wakes_who_receives() -> None:
    async with raw_rig() as (_, pool), trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(ConnectionClosed, match="closed"):
                await pool.receive()

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        await pool.aclose()


async def test_our_own_mistakes_are_raised_where_they_are_made() -> None:
    async with raw_rig() as (_, pool):
        with pytest.raises(LocalProtocolError):
            pool.queue(wire.SetDifficulty(0, 5))
        with pytest.raises(LocalProtocolError):
            pool.accept(7)
