"""A real pool among strangers and broken rigs: a specific answer each, and no harm to others."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest
import trio
from harness import (
    Pool,
    Rig,
    check_output,
    digest_lines,
    output_of,
    pool_with_rigs,
    submit,
    wait_for_batch,
)

from stratum.arrays import pack, unpack_rows
from stratum.client import Refusal, RigConnection, connect
from stratum.messages import Array, Error, Model, ModelReady, Notify, Outcome, Submit

LINES = digest_lines(300, seed=3)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with pool_with_rigs(tmp_path_factory.mktemp("pool"), {}) as (pool, _):
        pool.account("mallory", "miner")
        pool.account("alice", "miner")
        pool.start()
        yield pool


def metric(pool: Pool, line: str) -> float:
    """The value of one line of /metrics, 0 when it is not there."""
    for found in httpx.get(f"{pool.url}/metrics").text.splitlines():
        name, _, value = found.rpartition(" ")
        if name == line:
            return float(value)
    return 0.0


def grows(pool: Pool, line: str, before: float) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if metric(pool, line) > before:
            return True
        time.sleep(0.05)
    return False


def talk(pool: Pool, data: bytes) -> bytes:
    """Send bytes, read until the pool closes."""
    with socket.create_connection(("127.0.0.1", pool.stratum_port), timeout=10) as connection:
        connection.sendall(data)
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
        return answer


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: pool\r\n\r\n", "not_stratum"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600), "not_stratum"),
        (struct.pack(">I", 5) + b"\xc1\xc1\xc1\xc1\xc1", "bad_frame"),
        (struct.pack(">I", 5000) + bytes(5000), "frame_too_large"),
    ],
    ids=["http", "tls", "garbage", "large"],
)
def test_strangers_are_told_and_counted(pool: Pool, data: bytes, reason: str) -> None:
    """What is no frame of ours ends that connection with its reason, and is counted."""
    line = f'inferpool_protocol_errors_total{{reason="{reason}"}}'
    before = metric(pool, line)

    assert reason.encode() in talk(pool, data)
    assert grows(pool, line, before)
    assert httpx.get(f"{pool.url}/readyz").status_code == 200


@asynccontextmanager
async def _connected(pool: Pool, user: str, token: str) -> AsyncIterator[RigConnection]:
    async with await connect(f"stratum+tcp://127.0.0.1:{pool.stratum_port}") as connection:
        await connection.handshake(
            agent="test", session="", credit=2, devices=(), user=user, token=token
        )
        yield connection


@pytest.mark.parametrize(
    ("user", "token_of", "reason"),
    [
        ("mallory.rig", "nobody", "bad_token"),
        ("alice.rig", "mallory", "bad_token"),
        ("carol.rig", "carol", "bad_token"),
        ("mallory", "mallory", "bad_user"),
        ("mallory.a.b", "mallory", "bad_user"),
    ],
    ids=["wrong", "of another", "of a customer", "no rig", "two dots"],
)
async def test_a_name_needs_its_own_token(
    pool: Pool, user: str, token_of: str, reason: str
) -> None:
    """Nobody can harm another's standing by using its name."""
    line = f'inferpool_authorisations_total{{outcome="{reason}"}}'
    before = metric(pool, line)
    token = pool.tokens.get(token_of, "ip_nonsense")

    with pytest.raises(Refusal) as refusal:
        async with _connected(pool, user, token):
            pass

    assert refusal.value.reason == reason
    assert refusal.value.message
    assert await trio.to_thread.run_sync(grows, pool, line, before)


def _wrong_shape(rows: int) -> Outcome:
    return Outcome(pack(np.zeros((rows, 31), np.uint8)))


def _wrong_dtype(rows: int) -> Outcome:
    return Outcome(pack(np.zeros((rows, 32), np.float32)))


def _wrong_length(rows: int) -> Outcome:
    return Outcome(Array("|u1", (rows, 32), memoryview(bytes(rows * 32 - 1))))


def _bad_failed(rows: int) -> Outcome:
    return Outcome(pack(np.ones((rows, 32), np.uint8)), (0,))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_wrong_shape, "wrong_shape"),
        (_wrong_dtype, "wrong_dtype"),
        (_wrong_length, "wrong_length"),
        (_bad_failed, "bad_failed_rows"),
    ],
)
def test_a_malformed_result_costs_its_share_and_nobody_else(
    pool: Pool, make: Callable[[int], Outcome], reason: str
) -> None:
    """The rig is told why; its rows are done by another; the batch and the money are whole."""

    async def misbehave() -> str:
        async with _connected(pool, "mallory.rig", pool.tokens["mallory"]) as connection:
            while True:
                for message in await connection.receive():
                    if isinstance(message, Model):
                        connection.queue(ModelReady, model=message.model)
                    elif isinstance(message, Notify):
                        lengths, _ = unpack_rows(message.rows)
                        connection.queue(
                            Submit,
                            lease=message.lease,
                            part=0,
                            first_row=0,
                            final=True,
                            outcome=make(len(lengths)),
                        )
                    elif isinstance(message, Error):
                        return message.reason

    line = f'inferpool_malformed_parts_total{{reason="{reason}"}}'
    before = metric(pool, line)
    with pool.client("carol") as client:
        batch = submit(client, LINES)
        assert trio.run(misbehave) == reason
        assert grows(pool, line, before)
        rig = Rig(pool, "alice.rig", str(pool.folder / "alice.token"), 5000.0)
        try:
            facts = wait_for_batch(client, batch)
            check_output(output_of(client, facts), LINES)
        finally:
            rig.process.kill()
