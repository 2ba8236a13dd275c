"""The gateway's answers to rigs, over memory streams and a virtual clock."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from pool.app import Pool, build_pool
from pool.config import Config
from pool.gateway import network_group
from pool.store import Store
from pool.store.accounts import create_account
from pool.store.database import upsert
from pool.store.payees import set_payout_address
from pool.store.quarantines import lift, quarantine
from pool.store.schema import trust
from shares.board.effects import Message, TrustChanged
from shares.board.events import SessionOpened
from stratum import messages as wire
from stratum.client import Refusal, RigConnection
from stratum.errors import Code, ConnectionClosed

START = 1_700_000_000.0


def banned(store: Store, account: str, rig: str, until: float) -> None:
    """Put a ban on record."""
    row = dict.fromkeys((field.name for field in fields(TrustChanged)), 0)
    with store.database.write() as connection:
        upsert(
            connection,
            trust,
            [
                {
                    **row,
                    "account": account,
                    "rig": rig,
                    "offences": 1,
                    "banned_until": until,
                    "proved": {},
                }
            ],
        )


@asynccontextmanager
async def running(store: Store) -> AsyncIterator[Pool]:
    async def compute(*_: object) -> bytes:
        raise AssertionError("nothing to judge here")

    pool = build_pool(Config(), store, inline=True, start=START, compute=compute)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run_core)
        yield pool
        nursery.cancel_scope.cancel()


async def authorise(pool: Pool, user: str, token: str) -> Refusal | None:
    """Shake hands; returns what the pool said against it."""
    ours, theirs = memory_stream_pair()
    refusal = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.gateway.serve_stream, theirs)
        async with RigConnection(ours) as connection:
            try:
                await connection.handshake(
                    agent="test", session="", credit=1, devices=(), user=user, token=token
                )
            except Refusal as error:
                refusal = error
        nursery.cancel_scope.cancel()
    return refusal


async def test_a_banned_rig_is_told_until_when(tmp_path: Path, autojump_clock: MockClock) -> None:
    """It is refused when it authorises, and so is a new name of the same account."""
    store = Store.open(tmp_path, durable=False)
    token = create_account(store.database, "mallory", "miner", START)
    banned(store, "mallory", "rig", START + 3600)
    async with running(store) as pool:
        for user in ("mallory.rig", "mallory.other"):
            refusal = await authorise(pool, user, token)

            assert refusal is not None
            assert refusal.code == Code.BANNED
            assert refusal.reason == "banned"
            assert "2023-11-14 23:13:20 UTC" in refusal.message

        await trio.sleep(3601)
        assert await authorise(pool, "mallory.rig", token) is None
    store.close()


async def test_a_rig_that_made_the_board_fail_is_set_aside(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The event is kept for replay, its sender waits after the restart, others do not."""
    store = Store.open(tmp_path, durable=False)
    token = create_account(store.database, "mallory", "miner", START)
    honest = create_account(store.database, "alice", "miner", START)
    pool = build_pool(Config(), store, inline=True, start=START)
    pool.core.carry_out(pool.core.board.start(START))
    pool.core.attach(7, "mallory", _Deaf())
    event = SessionOpened(at=START, session=7, account="mallory", rig="rig", credit=1)
    pool.core.handle(event)
    with pytest.raises(ValueError, match="open already"):
        pool.core.handle(event)
    store.close()

    assert pickle.loads((tmp_path / "failed-event.pickle").read_bytes()) == (event, "mallory")
    store = Store.open(tmp_path, durable=False)
    async with running(store) as pool:
        refusal = await authorise(pool, "mallory.rig", token)
        assert refusal is not None
        assert refusal.reason == "pool_fault"
        assert await authorise(pool, "alice.rig", honest) is None
    store.close()


class _Deaf:
    def deliver(self, message: Message) -> None:
        """Nobody listens."""

    def dismiss(self, reason: str) -> None:
        """Nobody minds."""


async def test_a_rig_of_a_closed_account_is_sent_away(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """By the board, which lets it finish what it holds; here it holds nothing."""
    store = Store.open(tmp_path, durable=False)
    token = create_account(store.database, "alice", "miner", START)
    async with running(store) as pool, trio.open_nursery() as nursery:
        ours, theirs = memory_stream_pair()
        nursery.start_soon(pool.gateway.serve_stream, theirs)
        async with RigConnection(ours) as connection:
            await connection.handshake(
                agent="test", session="", credit=1, devices=(), user="alice.rig", token=token
            )
            pool.gateway.drop_account("alice")
            with pytest.raises(ConnectionClosed, match="closed_account"):
                await _receive_all(connection)
        nursery.cancel_scope.cancel()
    store.close()


async def _receive_all(connection: RigConnection) -> None:
    while True:
        await connection.receive()


async def test_a_stranger_is_sent_away_in_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A connection that does not authorise is closed after the configured time."""
    store = Store.open(tmp_path, durable=False)
    async with running(store) as pool, trio.open_nursery() as nursery:
        ours, theirs = memory_stream_pair()
        nursery.start_soon(pool.gateway.serve_stream, theirs)
        began = trio.current_time()
        async with RigConnection(ours) as connection:
            with pytest.raises(ConnectionClosed, match="authorise_timeout"):
                await connection.receive()

        assert trio.current_time() - began == pytest.approx(15, abs=3)
        nursery.cancel_scope.cancel()
    store.close()


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("127.0.0.1", ""),
        ("::1", ""),
        ("", ""),
        ("::ffff:203.0.113.9", "203.0.113.0/24"),
        ("::ffff:127.0.0.1", ""),
        ("fe80::1%eth0", "fe80::/48"),
        ("192.168.1.7", "192.168.1.0/24"),
    ],
)
def test_network_groups(address: str, group: str) -> None:
    """Neighbours share a group; loopback is exempt."""
    assert network_group(address) == group


async def test_a_rig_of_a_kind_in_quarantine_is_told(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """When it comes, from what was stored before the pool started; other kinds hear nothing."""
    store = Store.open(tmp_path, durable=False)
    token = create_account(store.database, "alice", "miner", START)
    quarantine(store.database, "NVIDIA Bad", model="d" * 64, why="driver", at=START)
    told: dict[str, list[str]] = {}
    async with running(store) as pool:
        for kind in ("NVIDIA Bad", "NVIDIA Good"):
            told[kind] = await _shown(pool, f"alice.{kind[-3:].lower()}", token, kind)
        lift(store.database, "NVIDIA Bad", "d" * 64)
        await pool.quarantines.look()
        told["lifted"] = await _shown(pool, "alice.bad", token, "NVIDIA Bad")
    store.close()

    assert [len(texts) for texts in told.values()] == [1, 0, 0]
    assert told["NVIDIA Bad"][0].startswith("quarantined: NVIDIA Bad gets no shares")


async def test_a_rig_is_told_of_a_payout_address_that_waits_for_its_hold(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Also one that was away when it was changed; a change that is over is no news."""
    store = Store.open(tmp_path, durable=False)
    token = create_account(store.database, "alice", "miner", START)
    for at, address in ((START - 1, "IBAN 1"), (START, "IBAN 2")):
        set_payout_address(store.database, "alice", "text", address, at, hold_seconds=3_600.0)
    async with running(store) as pool:
        waiting = await _shown(pool, "alice.rig", token, "cpu")
        await trio.sleep(3_600.0)
        over = await _shown(pool, "alice.rig", token, "cpu")
    store.close()

    assert [("IBAN 2" in text) for text in waiting] == [True]
    assert over == []


async def _shown(pool: Pool, user: str, token: str, kind: str) -> list[str]:
    """What a rig with such a device is shown after it was let in."""
    ours, theirs = memory_stream_pair()
    texts: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.gateway.serve_stream, theirs)
        async with RigConnection(ours) as connection:
            await connection.handshake(
                agent="test",
                session="",
                credit=1,
                devices=(wire.Device(0, kind),),
                user=user,
                token=token,
            )
            with trio.move_on_after(1.0):
                while True:
                    for message in await connection.receive():
                        if isinstance(message, wire.ShowMessage):
                            texts.append(message.text)
        nursery.cancel_scope.cancel()
    return texts
