"""What is looked at now and then: queues, deadlines, bans, the disk."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from sqlalchemy import insert

from pool.core import Core
from pool.jobwatch import JobWatch
from pool.store import Store, schema
from pool.store.jobs import add_job
from shares.board.views import JobProgress

NOW = 10_000.0


class Looked:
    """A core that has a store, a clock, and a board that tells of these jobs."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = SimpleNamespace(now=lambda: NOW)
        self.open: dict[int, JobProgress] = {}
        self.board = SimpleNamespace(jobs=lambda: self.open)

    async def in_thread(self, function: Any, *arguments: Any) -> Any:
        return await trio.to_thread.run_sync(function, *arguments)

    def job(self, *, ago: float, left: int, eta: float | None, had: float, direct: bool) -> None:
        with self.store.database.write() as connection:
            number = add_job(
                connection,
                account="carol",
                direct=direct,
                batch=None if direct else f"batch_{len(self.open)}",
                endpoint="/v1/digests",
                state="in_progress",
                created=NOW - ago,
                expires_at=NOW - ago + had,
            )
        facts: dict[str, Any] = dict.fromkeys(JobProgress.__slots__, 0)
        facts |= {"direct": direct, "work": 100, "accepted_work": 100 - left, "eta": eta}
        self.open[number] = JobProgress(**facts)


@pytest.fixture
def core(tmp_path: Path) -> Any:
    store = Store.open(tmp_path, durable=False)
    yield Looked(store)
    store.close()


async def looked(core: Looked) -> JobWatch:
    watch = JobWatch(cast(Core, core))
    await watch.look()
    return watch


async def test_queues_are_told_apart_by_priority_with_the_oldest_that_waits(core: Looked) -> None:
    core.job(ago=500.0, left=0, eta=0.0, had=1e5, direct=False)  # nothing of it waits
    core.job(ago=300.0, left=40, eta=10.0, had=1e5, direct=False)
    core.job(ago=100.0, left=5, eta=None, had=1e5, direct=False)
    core.job(ago=2.0, left=7, eta=1.0, had=60.0, direct=True)
    queues = (await looked(core)).queues
    batch, direct = queues["batch"], queues["direct"]
    assert (batch.jobs, batch.work, batch.age) == (3, 45, 300.0)
    assert (direct.jobs, direct.work, direct.age) == (1, 7, 2.0)


async def test_the_tightest_deadline_counts_and_may_be_missed(core: Looked) -> None:
    assert (await looked(core)).slack is None
    core.job(ago=10.0, left=9, eta=None, had=20.0, direct=False)
    assert (await looked(core)).slack is None  # nobody works on it: nothing can be said
    core.job(ago=10.0, left=9, eta=30.0, had=1_000.0, direct=False)
    assert (await looked(core)).slack == 960.0
    core.job(ago=10.0, left=9, eta=30.0, had=25.0, direct=False)
    assert (await looked(core)).slack == -15.0


async def test_bans_and_batches_are_counted_as_they_are_now(core: Looked) -> None:
    core.job(ago=10.0, left=9, eta=30.0, had=1_000.0, direct=False)
    zeros = {
        column.name: 0
        for column in schema.trust.c
        if column.name not in ("account", "rig", "proved")
    }
    with core.store.database.write() as connection:
        for rig, until in (("a", NOW + 1), ("b", NOW - 1), ("c", 0.0)):
            row = zeros | {"account": "x", "rig": rig, "banned_until": until}
            connection.execute(insert(schema.trust).values(**row))
    watch = await looked(core)
    assert watch.bans == 1
    assert watch.batches["in_progress"] == 1


async def test_the_disk_is_counted_by_what_lies_on_it(core: Looked) -> None:
    (core.store.folder / "objects" / "deep").mkdir(parents=True)
    (core.store.folder / "objects" / "deep" / "one").write_bytes(b"x" * 12_345)
    watch = JobWatch(cast(Core, core))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        with trio.fail_after(10):
            while not watch.bytes:  # noqa: ASYNC110
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert watch.bytes["objects"] >= 12_345
    assert watch.bytes["database"] > 10_000
