"""A whole pool with its rigs under the virtual clock, on memory streams, from one seed.

Everything is the product's own: gateway, sessions, board, committer, store, settlement, rigs. The
simulation gives it time, lines, machines and chance. Nothing runs in a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import msgspec
import numpy as np
import structlog
import trio
import trio.testing
from simrig import SimRig
from simwire import WireEnd, wire

from pool.app import Pool, build_pool
from pool.batches.admission import counts, reserve_and_pack, store_blocks
from pool.batches.endpoints import endpoint_of
from pool.batches.intake import IntakeReport
from pool.batches.naming import job_place
from pool.batches.packing import Packer
from pool.batches.requests import ServedModel
from pool.computed import Computed
from pool.config import Config
from pool.epochs import Epochs
from pool.referee import compute_rows
from pool.store import Store
from pool.store.accounts import create_account
from pool.store.commit import Group
from pool.store.escrow import deposit
from pool.store.jobs import add_job, move_job
from shares.board.effects import Effect, JobClosed, Record
from shares.board.events import Event
from shares.trust.assurance import parse_assurance

START = 1_750_000_000.0  # the pool's clock when a simulation begins
REFEREE_ROWS_A_SECOND = 2_000.0
COMMIT_SECONDS = 0.05
LIMIT = 1_000.0  # virtual seconds; a scenario that takes longer hangs

_T = TypeVar("_T")

# Work is 1 a row in the model without weights, so difficulty counts rows.
SETTINGS: dict[str, dict[str, Any]] = {
    "shares": {
        "target_seconds": 10.0,
        "window_seconds": 20.0,
        "initial_difficulty": 8,
        "min_difficulty": 1,
    },
    "money": {"settle_seconds": 5.0},
}


def settings(**sections: dict[str, Any]) -> Config:
    """The simulation's settings, with some of them changed: ``settings(trust={...})``."""
    merged: dict[str, Any] = {name: dict(fields) for name, fields in SETTINGS.items()}
    for name, value in sections.items():
        merged[name] = merged.get(name, {}) | value if isinstance(value, dict) else value
    return msgspec.convert(merged, Config)


@dataclass(slots=True)
class SimJob:
    """A job as its customer knows it."""

    job: int
    customer: str
    rows: list[np.ndarray[Any, np.dtype[np.uint32]]]  # its tokens, in the customer's order
    opened: float
    direct: bool = False
    accepted: float | None = None  # when its last row was accepted
    closed: float | None = None
    state: str = ""
    on_board: bool = False
    over: trio.Event = field(default_factory=trio.Event)

    @property
    def seconds(self) -> float:
        """From its opening to its end, every row cleared."""
        assert self.closed is not None
        return self.closed - self.opened

    @property
    def computing_seconds(self) -> float:
        """From its opening until every row had its result."""
        assert self.accepted is not None
        return self.accepted - self.opened


class World:
    """Pool, rigs and customers. ``simulate`` makes it."""

    def __init__(self, seed: int, folder: Path, config: Config, nursery: trio.Nursery) -> None:
        self.seed = seed
        self.folder = folder
        self.config = config
        self.nursery = nursery
        self.random = Random(f"{seed} world")
        self.rigs: dict[str, SimRig] = {}  # {user: rig}
        self.jobs: dict[int, SimJob] = {}
        self.store: Store
        self.pool: Pool | None = None
        self.running = trio.Event()  # set while a pool is
        self.boots = 0
        self.records: list[tuple[float, Record]] = []  # committed, with the moment
        self.effects: list[tuple[float, Effect]] = []  # asked for by the board, orders included
        self.groups = 0  # committed
        self.on_commit: Callable[[], None] = lambda: None
        self.on_event: Callable[[Event], None] = lambda _: None
        self.commit_seconds: Callable[[Group], float] = lambda _: COMMIT_SECONDS
        self.check_invariants = True
        self.refuse = False  # nobody can dial
        self._tokens: dict[str, str] = {}
        self._trace = sha256()
        self._house: trio.CancelScope | None = None
        self._gone = trio.Event()
        self._commits_to_live = 0
        self._committed = trio.Event()
        self._lines: trio.Nursery
        self.epoch = START
        self._began = trio.current_time()

    # ── time ─────────────────────────────────────────────────────────────────

    @property
    def now(self) -> float:
        """Seconds since the simulation began."""
        return trio.current_time() - self._began

    async def sleep_until(self, moment: float) -> None:
        """Wait until so many seconds since the beginning have passed."""
        await trio.sleep(moment - self.now)

    @property
    def trace(self) -> str:
        """The hash of every committed record with its moment, in order."""
        return self._trace.hexdigest()

    # ── the pool ─────────────────────────────────────────────────────────────

    async def start_pool(self) -> Pool:
        """Open the store and start a pool on it."""
        assert self.pool is None
        self.boots += 1
        self.store = Store.open(self.folder / "pool", durable=False)
        keys = Random(f"{self.seed} epochs {self.boots}")
        epochs = Epochs(
            self.store,
            self.config.trust.epoch_seconds,
            self.config.policy(),
            lambda: keys.randbytes(32),
            length=64,
        )
        pool = build_pool(
            self.config,
            self.store,
            inline=True,
            start=START + self.now,
            compute=self._referee,
            epochs=epochs,
        )
        names = Random(f"{self.seed} sessions {self.boots}")
        pool.gateway.new_name = lambda: names.randbytes(8).hex()
        pool.core.committer.delay = lambda group: self.commit_seconds(group)
        self._watch(pool)
        self.pool = pool
        self._house, self._gone = trio.CancelScope(), trio.Event()
        await self.nursery.start(self._keep_house, pool, self._house, self._gone)
        self.running.set()
        return pool

    def _kill_pool(self) -> None:
        """End the pool as ``kill -9`` does: what was not committed is lost."""
        assert self._house is not None
        self._house.cancel()
        self.pool = None
        self.running = trio.Event()
        for rig in self.rigs.values():
            rig.unplug()

    async def die_at_commit(self, number: int, *, unless: trio.Event) -> bool:
        """Let the pool make ``number`` more commits and die before a word of the last goes out.

        Whether it died: not when ``unless`` came first.
        """
        self._commits_to_live = number
        try:
            while self.pool is not None:
                if unless.is_set():
                    return False
                await trio.sleep(0.1)
        finally:
            self._commits_to_live = 0  # also when nobody waits for it any more
        await self._gone.wait()
        self.store.close()
        return True

    async def next_commit(self) -> None:
        """Wait until something more is durable."""
        await self._committed.wait()

    async def _keep_house(
        self,
        pool: Pool,
        scope: trio.CancelScope,
        gone: trio.Event,
        task_status: trio.TaskStatus[None],
    ) -> None:
        with scope:
            async with trio.open_nursery() as house:
                self._lines = house
                await house.start(pool.run_core)
                task_status.started()
        gone.set()

    def dial(self, rig: SimRig) -> WireEnd:
        """A line to the pool, if one is running."""
        if self.pool is None or self.refuse:
            raise ConnectionRefusedError("nobody listens")
        ours, theirs = wire(rig.latency)
        self._lines.start_soon(self.pool.gateway.serve_stream, theirs, "127.0.0.1")
        return ours

    async def _referee(
        self, text: bytes, files: dict[str, str], operation: str, block: str, rows: Sequence[int]
    ) -> Computed:
        await trio.sleep(len(rows) / REFEREE_ROWS_A_SECOND)
        return compute_rows(text, tuple(sorted(files.items())), operation, block, tuple(rows), 1)

    @property
    def violations(self) -> dict[str, int]:
        """Sessions of the present pool that broke the protocol or failed, by reason."""
        assert self.pool is not None
        return dict(self.pool.gateway.statistics.violations)

    # ── watching ─────────────────────────────────────────────────────────────

    def _watch(self, pool: Pool) -> None:
        """After every event: the board's invariants; after every commit: the trace."""
        handle, committed = pool.core.board.handle, pool.core.on_records

        def watched(event: Event) -> list[Effect]:
            effects = handle(event)
            if self.check_invariants:
                pool.core.board.check_invariants()
            now = self.now
            self.effects.extend((now, effect) for effect in effects)
            for job in self.jobs.values():
                if job.accepted is None or job.closed is None:
                    self._look_at(job, pool)
            self.on_event(event)
            return effects

        def on_records(records: list[Record]) -> None:
            self.groups += 1
            for record in records:
                self._note(record)
            committed(records)
            self.on_commit()
            self._committed.set()
            self._committed = trio.Event()

        def written(seconds: float, records: int) -> None:
            self._commits_to_live -= 1
            if not self._commits_to_live:
                self._kill_pool()

        pool.core.board.handle = watched  # type: ignore[method-assign]
        pool.core.committer.observe = written
        pool.core.on_records = on_records

    def _look_at(self, job: SimJob, pool: Pool) -> None:
        progress = pool.core.board.job(job.job)
        if progress is None:
            complete = job.on_board  # over, unless it was not opened yet
        else:
            job.on_board = True
            complete = progress.accepted_rows == progress.rows
        if not complete:
            job.accepted = None
        elif job.accepted is None:
            job.accepted = self.now

    def _note(self, record: Record) -> None:
        self.records.append((self.now, record))
        self._trace.update(f"{self.now:.9f} {record!r}\n".encode())
        if isinstance(record, JobClosed):
            job = self.jobs[record.job]
            job.closed, job.state = self.now, record.state
            job.over.set()

    # ── people ───────────────────────────────────────────────────────────────

    def token(self, account: str, role: str) -> str:
        """The token of an account, made when first asked for."""
        if account not in self._tokens:
            self._tokens[account] = create_account(self.store.database, account, role, START)
        return self._tokens[account]

    def customer(self, name: str, units: int = 10_000_000) -> str:
        """A customer with a balance."""
        self.token(name, "customer")
        deposit(self.store.database, name, units, START + self.now)
        return name

    def add_rig(self, account: str, name: str, speed: float, **traits: Any) -> SimRig:
        """A machine of a miner's, not switched on."""
        rig = SimRig(
            world=self,
            account=account,
            name=name,
            speed=speed,
            token=self.token(account, "miner"),
            random=Random(f"{self.seed} {account}.{name}"),
            **traits,
        )
        self.rigs[rig.user] = rig
        return rig

    def add_rigs(self, count: int, slowest: float = 1.0, fastest: float = 100.0) -> list[SimRig]:
        """Machines of as many miners, their speeds spread evenly by ratio."""
        ratio = (fastest / slowest) ** (1 / max(1, count - 1))
        return [self.add_rig(f"m{n:02}", "rig", slowest * ratio**n) for n in range(count)]

    async def start_rigs(self) -> None:
        """Switch every machine on and wait until all are connected and ready."""
        for rig in self.rigs.values():
            rig.start()
        while True:
            assert self.pool is not None
            views = self.pool.core.board.sessions().values()
            if sum(bool(view.models) for view in views) == len(self.rigs):
                return
            await trio.sleep(0.1)

    @property
    def speed(self) -> float:
        """Rows a second of all machines together."""
        return sum(rig.speed for rig in self.rigs.values())

    # ── jobs ─────────────────────────────────────────────────────────────────

    async def open_job(
        self,
        customer: str,
        rows: int,
        *,
        direct: bool = False,
        assurance: str | None = None,
        model_name: str = "blake2b",
    ) -> SimJob:
        """Pack, price and open a job of ``rows`` random rows."""
        assert self.pool is not None
        model = self.pool.models.get(model_name)
        assert model is not None
        contents = np.random.default_rng([self.seed, len(self.jobs)])
        lengths = contents.integers(1, 9, rows)
        ids = model.manifest.vocabulary
        everything = contents.integers(0, ids, int(lengths.sum()), dtype=np.uint32)
        tokens = np.split(everything, np.cumsum(lengths)[:-1])
        folder = self.folder / f"packing-{len(self.jobs)}"
        folder.mkdir()
        packer = Packer(folder, ServedModel.of(model))
        for row in tokens:
            packer.add(row.tolist())
        packer.finish()
        report = IntakeReport(
            model=model.name,
            lines=rows,
            rows=packer.rows,
            tokens=packer.tokens,
            work=packer.work,
            blocks=tuple(packer.blocks),
        )
        at = START + self.now
        with self.store.database.write() as connection:
            number = add_job(
                connection,
                account=customer,
                direct=direct,
                endpoint=endpoint_of(model.manifest.operations) or "/v1/digests",
                operation=model.manifest.operations[0],
                model_name=model.name,
                model=model.digest,
                state="in_progress",
                created=at,
                **counts(report),
            )
            place = job_place(number)
            store_blocks(self.store, place, report)
            wish = parse_assurance(assurance)
            money = self.config.money
            reserve_and_pack(connection, number, customer, place, report, money, at, wish)
        job = self.jobs[number] = SimJob(number, customer, tokens, self.now, direct)
        await self.pool.core.open_job(number)
        return job

    async def cancel(self, job: SimJob) -> None:
        """As a customer's cancellation does: durable first, then told to the board."""
        await self.running.wait()
        assert self.pool is not None
        with self.store.database.write() as connection:
            move_job(connection, job.job, ("in_progress",), "cancelling")
        self.pool.core.cancel_job(job.job, "cancelled")

    async def settle(self) -> None:
        """Wait until every share has its verdict, and let the ledger follow."""
        assert self.pool is not None
        board = self.pool.core.board
        while board.totals().unjudged or board.totals().leases:
            await self.next_commit()
        await self.pool.core.committer.flushed()
        await self.pool.settler.settle()


# ── running ──────────────────────────────────────────────────────────────────


def simulate(
    seed: int,
    folder: Path,
    scenario: Callable[[World], Awaitable[_T]],
    *,
    config: Config | None = None,
    limit: float = LIMIT,
) -> _T:
    """Run ``scenario`` in a fresh world with a running pool, to its end.

    ``limit``: virtual seconds after which it hangs.

    A failure of any part ends it, with the seed in its notes.
    """
    outcome: list[_T] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world = World(seed, folder, config or settings(), nursery)
            await world.start_pool()
            with trio.fail_after(limit):
                outcome.append(await scenario(world))
            nursery.cancel_scope.cancel()
        world.store.close()

    with _determined(seed):
        try:
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        except BaseException as error:
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            error.add_note(f"simulation: seed {seed}")
            raise error from None
    return outcome[0]


@contextmanager
def _determined(seed: int) -> Iterator[None]:
    """Let the seed decide in which order ready tasks run; log nothing."""
    run = trio._core._run
    before = run._ALLOW_DETERMINISTIC_SCHEDULING, run._r
    run._ALLOW_DETERMINISTIC_SCHEDULING, run._r = True, Random(f"{seed} tasks")
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    logging_before = structlog.get_config()
    structlog.configure(wrapper_class=quiet, cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**logging_before)
        run._ALLOW_DETERMINISTIC_SCHEDULING, run._r = before
