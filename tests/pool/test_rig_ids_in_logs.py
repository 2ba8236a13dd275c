"""Every line about a rig names its connection, session, account and rig; and no other's."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
import trio
from trio.testing import MockClock, memory_stream_pair

from pool.app import build_pool
from pool.config import Config
from pool.core import Core
from pool.gateway import Gateway
from pool.store import Store
from pool.store.accounts import create_account
from shares.board.effects import Noted, Refused
from stratum.client import Refusal, RigConnection
from stratum.logs import configure

START = 1_700_000_000.0


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    configure("debug", stream, terminal=False)
    return stream


async def shake_hands(
    gateway: Gateway, user: str, token: str, tell: Callable[[], None] = lambda: None
) -> str:
    """A connection from its beginning to its end, ``tell`` in its midst; the session's name."""
    ours, theirs = memory_stream_pair()
    session = ""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gateway.serve_stream, theirs, "192.0.2.1")
        async with RigConnection(ours) as connection:
            try:
                handshake = await connection.handshake(
                    agent="x\n", session="", credit=1, devices=(), user=user, token=token
                )
                session = handshake.session
                tell()
            except Refusal:
                pass
    return session


async def test_lines_about_a_rig_name_it(
    tmp_path: Path, stream: io.StringIO, autojump_clock: MockClock
) -> None:
    store = Store.open(tmp_path)
    token = create_account(store.database, "alice", "miner", START)

    async def compute(*_: object) -> bytes:
        raise AssertionError("nothing to judge here")

    pool = build_pool(Config(), store, inline=True, start=START, compute=compute)
    look_up = pool.gateway.models.list

    def list_and_tell() -> Any:
        structlog.get_logger("pool.elsewhere").info("called in the session's task")
        return look_up()

    pool.gateway.models.list = list_and_tell  # type: ignore[method-assign]

    def refuse() -> None:
        """In a task that is not the session's, as what waited for a commit is."""
        pool.core._release(Refused(1, 99, 21, "stale"))

    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run_core)
        session = await shake_hands(pool.gateway, "alice.rig1", token, refuse)
        await shake_hands(pool.gateway, "alice.rig2", "ip_" + "wrong" * 9)
        nursery.cancel_scope.cancel()
    store.close()

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    by_event = {line["event"]: line for line in lines}
    ids = {"connection": 1, "session": session, "account": "alice", "rig": "rig1"}
    for event in ("rig connected", "called in the session's task", "request refused"):
        assert {**by_event[event], **ids} == by_event[event]
    refused = by_event["authorisation refused"]
    assert (refused["account"], refused["rig"], refused["connection"]) == ("alice", "rig2", 2)
    assert {line["connection"] for line in lines if line["event"] == "connection closed"} == {1, 2}
    assert token not in stream.getvalue()
    assert "wrong" * 9 not in stream.getvalue()


async def test_what_the_board_notes_has_no_ids_of_whoever_asked(
    stream: io.StringIO, tmp_path: Path
) -> None:
    """A rig's message may lead to a word about another's."""
    structlog.contextvars.bind_contextvars(connection=9, account="alice", rig="rig1")
    core = cast(Core, SimpleNamespace(_regulate=lambda: None, on_noted=lambda _what: None))

    Core.carry_out(core, [Noted("mismatch", (("lease", 3), ("account", "bob")))])

    (line,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (line["event"], line["lease"], line["account"]) == ("mismatch", 3, "bob")
    assert not {"connection", "rig"} & set(line)
