"""Jobs, bans and the disk, looked at now and then: what metrics tell that no event tells."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
import trio
from sqlalchemy import func, select

from pool.core import Core
from pool.store import schema
from pool.store.jobs import OVER, UNFINISHED, jobs_by_state
from shares.board.views import JobProgress

LOOK_SECONDS = 10.0
SIZE_SECONDS = 60.0
PRIORITIES = ("direct", "batch")
"""Direct requests go before batches."""


@dataclass(slots=True)
class Queue:
    """Open jobs of one priority; ``work`` is not accepted yet, ``age`` of the oldest, seconds."""

    jobs: int = 0
    work: int = 0
    age: float = 0.0


@dataclass(slots=True)
class JobWatch:
    """What was found at the last look.

    ``slack``: seconds between when a batch will be done and when it must be, the least of all that
    have an ETA; None without any. ``bytes``: by what is stored.
    """

    core: Core
    queues: dict[str, Queue] = field(default_factory=lambda: {one: Queue() for one in PRIORITIES})
    batches: dict[str, int] = field(default_factory=dict)
    bans: int = 0
    slack: float | None = None
    bytes: dict[str, int] = field(default_factory=dict)

    async def run(self) -> None:
        """Look until cancelled."""
        sized = -SIZE_SECONDS
        while True:
            await self.look()
            if trio.current_time() - sized >= SIZE_SECONDS:
                sized = trio.current_time()
                self.bytes = await self.core.in_thread(_sizes, self.core.store.folder)
            await trio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look at the board here, and at the store in a thread."""
        open_jobs = self.core.board.jobs()
        await self.core.in_thread(self._read, open_jobs, self.core.clock.now())

    def _read(self, open_jobs: dict[int, JobProgress], now: float) -> None:
        with self.core.store.database.read() as connection:
            self.batches = dict.fromkeys(UNFINISHED + OVER, 0) | jobs_by_state(connection)
            banned = schema.trust.c.banned_until > now
            self.bans = connection.scalar(select(func.count()).where(banned)) or 0
            times = _times(connection, list(open_jobs))
        queues = {one: Queue() for one in PRIORITIES}
        slacks = []
        for number, job in open_jobs.items():
            left = job.work - job.accepted_work
            created, expires = times.get(number, (now, None))
            queue = queues["direct" if job.direct else "batch"]
            queue.jobs += 1
            queue.work += left
            if left:
                queue.age = max(queue.age, now - created)
            if job.eta is not None and expires is not None:
                slacks.append(expires - now - job.eta)
        self.queues, self.slack = queues, min(slacks, default=None)


def _times(connection: sa.Connection, jobs: list[int]) -> dict[int, tuple[float, float | None]]:
    """{job: (when it was made, when it must be done)}."""
    job, found = schema.job.c, {}
    for start in range(0, len(jobs), 500):
        some = jobs[start : start + 500]
        rows = connection.execute(
            select(job.id, job.created, job.expires_at).where(job.id.in_(some))
        )
        found.update({row.id: (row.created, row.expires_at) for row in rows})
    return found


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes under the pool's folder: of the database, and of each folder in it."""
    found = {"database": 0}
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            found[entry.name] = _size(Path(entry.path))
        elif ".db" in entry.name:
            found["database"] += entry.stat(follow_symlinks=False).st_size
    return found


def _size(folder: Path) -> int:
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(base) / name).st_size
            except FileNotFoundError:
                continue  # it was deleted meanwhile
    return total
