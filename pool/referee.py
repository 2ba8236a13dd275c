"""The referee: the pool's own engine. It settles disputes and draws its own sample.

It runs in a process of its own, is handed files and row numbers, and answers with digests, and
with the results themselves where honest ones are not the same bits.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog
import trio
import trio_parallel

from pool.computed import NOTHING, Computed
from pool.court import Court
from pool.models import Models, RegisteredModel
from pool.refereequeue import Answer as RunAnswer
from pool.refereequeue import RefereeQueue, Run, Wanted
from pool.store.blockfile import BlockFile
from shares.board.effects import RefereeWanted
from shares.results import part_record, row_digests, rows_of
from stratum.manifest import decode_manifest

_log = structlog.get_logger("pool.referee")

_ENGINES = 4  # kept in memory
_AGAIN_SECONDS = 1.0

_MOST_SECONDS = 60.0  # between two attempts at an order that fails again and again

Answer = Callable[[RefereeWanted, tuple[int, ...], Computed], None]
Compute = Callable[[bytes, dict[str, str], str, str, Sequence[int]], Awaitable[Computed]]
Serve = Callable[[RefereeWanted, tuple[int, ...]], Awaitable[Computed]]


class _Desk:
    """A queue of orders, and what computes them."""

    def __init__(self) -> None:
        self.waiting = RefereeQueue()
        self.work = trio.Event()

    def put(self, run: Run, *, last: bool = False) -> None:
        self.waiting.put(run, last=last)
        self.work.set()

    async def next(self) -> Run:
        while (run := self.waiting.take()) is None:
            self.work = trio.Event()
            await self.work.wait()
        return run


class Referee:
    """Takes orders, computes them a few rows at a time, in turns (``RefereeQueue``).

    In a process of its own, or, of the models that the operator says, on rigs that the operator
    names (``pool.court``): neither waits for the other.
    """

    def __init__(
        self,
        models: Models,
        block_path: Callable[[int, int], Path],
        *,
        court: Court,
        compute: Compute | None = None,
        rows_per_run: int = 64,
        threads: int = 0,
    ) -> None:
        """``compute`` replaces the worker process (simulations compute in the loop)."""
        self._models = models
        self._block_path = block_path
        self._court = court
        self._compute = compute
        self._rows_per_run = rows_per_run
        self._threads = threads
        self._own, self._named = _Desk(), _Desk()
        self.answer: Answer = lambda _order, _rows, _computed: None
        self.wanted: Wanted = lambda _order, _rows: True
        self.rows = 0
        self.seconds = 0.0

    @property
    def waiting_rows(self) -> int:
        """Rows ordered and not yet computed."""
        return self._own.waiting.rows + self._named.waiting.rows

    def want(self, order: RefereeWanted) -> None:
        """Queue an order of the board's; ``answer`` gets what comes of it, in pieces."""
        self._queue(order, lambda rows, computed: self.answer(order, rows, computed), self.wanted)

    async def compute(self, order: RefereeWanted) -> dict[int, Computed]:
        """Compute an order of somebody else's; returns {row of the block: it}."""
        found: dict[int, Computed] = {}
        done = trio.Event()

        def answer(rows: tuple[int, ...], computed: Computed) -> None:
            for position, row in enumerate(rows):
                found[row] = computed[position]
            if len(found) == len(order.rows):
                done.set()

        waiting = True
        self._queue(order, answer, lambda _order, _rows: waiting)
        try:
            await done.wait()
        finally:
            waiting = False  # what fails again and again is not tried for ever
        return found

    def _queue(self, order: RefereeWanted, answer: RunAnswer, wanted: Wanted) -> None:
        named = self._court.judges(self._models.by_digest(order.model))
        desk = self._named if named else self._own
        for start in range(0, len(order.rows), self._rows_per_run):
            rows = order.rows[start : start + self._rows_per_run]
            desk.put(Run(order, rows, answer, wanted))

    async def run(self) -> None:
        """Compute orders until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._court.size):
                nursery.start_soon(self._serve, self._named, self._by_named_rigs, nursery)
            if self._compute is not None:
                await self._serve(self._own, self._by(self._compute), nursery)
            async with trio_parallel.open_worker_context(
                idle_timeout=float("inf"), grace_period=5.0
            ) as workers:
                compute = _in_process(workers, self._threads)
                await self._warm_up(compute)
                await self._serve(self._own, self._by(compute), nursery)

    async def _warm_up(self, compute: Compute) -> None:
        """Load engines before the first order: a newcomer's first verdict waits for it."""
        own = [model for model in self._models.list() if not self._court.judges(model)]
        for model in own[:_ENGINES]:
            files = self._files(model)
            try:
                await compute(model.text, files, model.manifest.operations[0], "", ())
            except Exception as error:
                _log.error("the referee cannot load a model", model=model.name, error=str(error))

    async def _serve(self, desk: _Desk, compute: Serve, nursery: trio.Nursery) -> None:
        while True:
            run = await desk.next()
            order, rows = run.order, run.rows
            if not run.wanted(order, rows):
                continue  # its share was judged, or its job closed, in the meantime
            started = trio.current_time()
            try:
                computed = await compute(order, rows)
            except Exception as error:
                # The pool's fault and nobody's loss: again later, and the others meanwhile.
                run.failures += 1
                _log.error(
                    "the referee failed", job=order.job, failures=run.failures, error=str(error)
                )
                nursery.start_soon(self._again, desk, run)
                continue
            self.seconds += trio.current_time() - started
            self.rows += len(rows)
            run.answer(rows, computed)

    async def _again(self, desk: _Desk, run: Run) -> None:
        await trio.sleep(min(_MOST_SECONDS, _AGAIN_SECONDS * 2.0 ** (run.failures - 1)))
        desk.put(run, last=True)

    def _by(self, compute: Compute) -> Serve:
        async def by_engine(order: RefereeWanted, rows: tuple[int, ...]) -> Computed:
            model = self._models.by_digest(order.model)
            path = str(self._block_path(order.job, order.block))
            return await compute(model.text, self._files(model), order.operation, path, rows)

        return by_engine

    async def _by_named_rigs(self, order: RefereeWanted, rows: tuple[int, ...]) -> Computed:
        model = self._models.by_digest(order.model)
        path = self._block_path(order.job, order.block)
        return await self._court.compute(model, order.operation, path, rows)

    def _files(self, model: RegisteredModel) -> dict[str, str]:
        return {file.name: str(self._models.path(file)) for file in model.engine_files}


def _in_process(workers: trio_parallel.WorkerContext, threads: int) -> Compute:
    one = trio.CapacityLimiter(1)

    async def compute(
        text: bytes, files: dict[str, str], operation: str, block: str, rows: Sequence[int]
    ) -> Computed:
        computed: Computed = await workers.run_sync(
            compute_rows,
            text,
            tuple(sorted(files.items())),
            operation,
            block,
            tuple(rows),
            threads,
            limiter=one,
            kill_on_cancel=True,
        )
        return computed

    return compute


@lru_cache(maxsize=_ENGINES)
def _engine(text: bytes, files: tuple[tuple[str, str], ...], threads: int) -> Any:
    from gpu_worker.engine import load_engine

    manifest: Mapping[str, Any] = json.loads(text)
    paths = {name: Path(path) for name, path in files}
    return load_engine(manifest, paths, backend="numpy", threads=threads or os.cpu_count())


def compute_rows(
    text: bytes,
    files: tuple[tuple[str, str], ...],
    operation: str,
    block_path: str,
    rows: tuple[int, ...],
    threads: int,
) -> Computed:
    """Compute rows of a block with the pool's engine.

    Runs in the referee's process; the engine is loaded once for each model. No rows: it is loaded.
    """
    engine = _engine(text, files, threads)
    if not rows:
        return NOTHING
    block = BlockFile(Path(block_path))
    try:
        lengths, tokens = block.take_rows(rows)
    finally:
        block.close()
    exact = decode_manifest(text).exact
    found = NOTHING
    for chunk in engine.run(operation, lengths, tokens, len(rows)):
        row_bytes = chunk.values.shape[1] * chunk.values.dtype.itemsize
        data = memoryview(chunk.values).cast("B")
        digests = row_digests(data, row_bytes, chunk.failed)
        if exact:
            found += Computed(digests)
        else:
            record = part_record(data, sorted(chunk.failed))
            found += Computed(digests, rows_of(record, len(chunk.values), row_bytes))
    return found
