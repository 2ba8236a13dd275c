"""Rigs are walked over a few at a time, and counted by what they do."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest
import trio
from prometheus_client import CollectorRegistry

from pool import rigwalk
from pool.app import Pool, build_pool
from pool.config import Config, MetricsConfig
from pool.rigwatch import rows_until_drawn
from pool.store import Store
from shares.board.events import SessionClosed, SessionOpened


def pool_in(folder: Path) -> tuple[Pool, Store]:
    store = Store.open(folder, durable=False)
    config = Config(metrics=MetricsConfig(top_rigs=2))
    registry = CollectorRegistry()
    return build_pool(config, store, inline=True, start=1.0, registry=registry), store


async def test_others_have_their_turn_and_who_leaves_meanwhile_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rigwalk, "AT_ONCE", 10)
    pool, store = pool_in(tmp_path)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            if turns == 3:
                pool.core.handle(SessionClosed(at=1.0, session=99))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        await nursery.start(pool.core.run)
        for number in range(1, 101):
            opened = SessionOpened(
                at=1.0, session=number, account=f"a{number}", rig="rig", credit=1
            )
            pool.core.handle(opened)
        nursery.start_soon(other)
        turns = 0
        async with aclosing(rigwalk.walk_rigs(pool.core.board)) as walk:
            found = [view.session async for view, _ in walk]
        assert turns >= 9
        assert set(found) == set(range(1, 101)) - {99}
        nursery.cancel_scope.cancel()
    store.close()


async def test_rigs_are_counted_and_the_bound_is_of_the_least_checked(tmp_path: Path) -> None:
    pool, store = pool_in(tmp_path)
    watch = pool.rig_watch
    await watch.look()
    assert (watch.chances, watch.fastest) == (None, [])
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.core.run)
        for number, name in enumerate(("alice", "bob", "carl"), start=1):
            opened = SessionOpened(at=1.0, session=number, account=name, rig="rig", credit=1)
            pool.core.handle(opened)
        await watch.look()
        nursery.cancel_scope.cancel()
    store.close()
    assert watch.sessions == {"working": 0, "idle": 3, "referee": 0}
    assert watch.chances == (1.0, 1.0)  # newcomers are checked in full
    assert rows_until_drawn(1.0, 0.95) == 1
    assert len(watch.fastest) == 2
