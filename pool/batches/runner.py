"""The life of a batch: validating, in progress, finalizing, over; resumed by state at a start.

Every step ends in one transaction that names only what is stored already, so a step that was cut
off is simply taken again. A batch that fails to be read or written fails alone.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import structlog
import trio

from pool.batches.admission import assurance_of, counts, reserve_and_pack, store_packed
from pool.batches.delivery import deliver, output_job, store_files
from pool.batches.direct import DirectAnswer, DirectRequests
from pool.batches.endpoints import OPERATIONS
from pool.batches.housekeeping import remove_direct_blocks, remove_expired_files
from pool.batches.intake import IntakeJob, IntakeReport, LineError, take_in
from pool.batches.naming import file_object, job_place, lines_object
from pool.batches.output import OutputJob, write_output
from pool.batches.ports import Clock, Core, ModelRegistry
from pool.batches.quotes import Quote, quote_of
from pool.batches.requests import ServedModel
from pool.batches.turns import FairTurns
from pool.batches.workers import OpenWorkers, Workers, open_workers
from pool.config import Config
from pool.crashpoints import crash_point
from pool.store import Store
from pool.store.escrow import InsufficientQuotaError
from pool.store.jobs import (
    OVER,
    JobRow,
    find_job,
    jobs_past,
    move_job,
    unfinished_jobs,
)
from shares.trust.assurance import Assurance

_log = structlog.get_logger("pool.batches")

_WATCH_SECONDS = 1.0
_SWEEP_SECONDS = 60.0
_READ_AT_ONCE = 2  # batches of one customer: what is read may turn out not to be paid for
_INTAKE_FAILED = LineError(
    "intake_failed", "the pool failed to read this file: try again, or ask the operator"
)
_ERRORS_TOLD = 5  # of a batch, in the log
_OUTPUT_PAUSES = (1.0, 10.0)  # seconds until an output that failed is tried again


def _tell_nobody(_row: JobRow, _at: float) -> None:
    return


class BatchRunner:
    """Takes batches from submission to their output files. ``run`` must be going."""

    def __init__(
        self,
        store: Store,
        core: Core,
        models: ModelRegistry,
        config: Config,
        clock: Clock,
        *,
        workers: OpenWorkers = open_workers,
    ) -> None:
        """``workers`` opens what runs intake and output; a simulation runs them itself."""
        self._store = store
        self._core = core
        self._models = models
        self._config = config
        self._clock = clock
        self.scratch = store.folder / "work"  # for files of a moment; emptied at every start
        rmtree(self.scratch, ignore_errors=True)
        self._reading: dict[int, trio.CancelScope] = {}  # {job in intake: its scope}
        self._steps: trio.MemorySendChannel[tuple[Callable[[int], Awaitable[None]], int]]
        self._steps, self._to_do = trio.open_memory_channel[
            tuple[Callable[[int], Awaitable[None]], int]
        ](math.inf)
        self._locks: dict[int, tuple[trio.Lock, int]] = {}  # {job: (its lock, steps waiting)}
        self._expiring: set[int] = set()  # jobs that the core was told to end
        at_once = config.batches.workers
        self._turns_reading = FairTurns(at_once, min(at_once, _READ_AT_ONCE))
        self._turns_writing = FairTurns(at_once, at_once)
        self._open_workers = workers
        self._workers: Workers | None = None
        self._ready = trio.Event()
        self.on_over: Callable[[JobRow, float], None] = _tell_nobody  # a batch and when it was over
        self._direct = DirectRequests(store, core, models, config, clock, self.scratch)
        self._quotes = 0

    # ── what others tell ─────────────────────────────────────────────────────

    def submitted(self, job: int) -> None:
        """A batch was stored in the state ``validating``."""
        self._steps.send_nowait((self._take_in, job))

    def job_closed(self, job: int, state: str) -> None:
        """Nothing of the job is open any more: ``completed``, ``cancelled`` or ``expired``."""
        self._expiring.discard(job)
        if not self._direct.job_closed(job, state):
            self._steps.send_nowait((self._finish, job))

    async def cancel(self, job: int) -> None:
        """Stop a batch; what is done is delivered. Nothing happens when it is over."""
        at = self._clock.now()

        def mark() -> bool:
            with self._store.database.write() as connection:
                states = ("validating", "in_progress")
                return move_job(connection, job, states, "cancelling", cancelling_at=at)

        if not await trio.to_thread.run_sync(mark):
            return
        if job in self._reading:
            self._reading[job].cancel()
        self._steps.send_nowait((self._stop, job))

    async def direct(self, account: str, endpoint: str, body: bytes) -> DirectAnswer:
        """Serve one request at once. See ``DirectRequests.serve``."""
        await self._ready.wait()
        assert self._workers is not None
        return await self._direct.serve(self._workers, account, endpoint, body)

    async def quote(
        self, account: str, file: str, endpoint: str, assurance: Assurance
    ) -> Quote | LineError:
        """What a batch of an uploaded file would cost; or the first reason why it would fail.

        It is read as a batch is, in the account's turn; nothing is kept or reserved.
        """
        await self._ready.wait()
        self._quotes += 1
        folder = self.scratch / f"quote-{self._quotes}"
        try:
            async with self._turns_reading.turn(account):
                await trio.to_thread.run_sync(partial(folder.mkdir, parents=True))
                task = self._intake_job(file, endpoint, folder)
                report = await self._need_workers().run(take_in, task, lane="intake")
        except Exception:
            _log.exception("a file could not be quoted", file=file)
            return _INTAKE_FAILED
        finally:
            await _remove(folder)
        if report.errors:
            return report.errors[0]
        return quote_of(report, self._config.money, assurance)

    # ── going on ─────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Take up what a restart interrupted, then serve until cancelled."""
        async with (
            self._open_workers(self._config.batches.workers) as workers,
            trio.open_nursery() as n,
        ):
            self._workers = workers
            interrupted = await trio.to_thread.run_sync(self._unfinished)
            self._ready.set()  # direct requests from here on are nothing to be taken up
            for row in interrupted:
                self._resume(row)
            n.start_soon(self._watch)
            n.start_soon(self._sweep)
            async for step, job in self._to_do:
                n.start_soon(self._one_at_a_time, step, job)

    def _resume(self, row: JobRow) -> None:
        if row.direct:
            # Nobody waits for the answer any more.
            if row.closed is None:
                self._core.cancel_job(row.id, "cancelled")
            else:
                self._steps.send_nowait((self._finish, row.id))
        elif row.state == "validating":
            self._steps.send_nowait((self._take_in, row.id))
        elif row.closed is not None or row.state == "finalizing":
            self._steps.send_nowait((self._finish, row.id))
        elif row.state == "cancelling":
            self._steps.send_nowait((self._stop, row.id))

    def _unfinished(self) -> list[JobRow]:
        with self._store.database.read() as connection:
            return unfinished_jobs(connection)

    async def _one_at_a_time(self, step: Callable[[int], Awaitable[None]], job: int) -> None:
        """Steps of one job follow one another in the order in which they were asked for."""
        lock, waiting = self._locks.get(job, (trio.Lock(), 0))
        self._locks[job] = (lock, waiting + 1)
        try:
            async with lock:
                await step(job)
        finally:
            lock, waiting = self._locks.pop(job)
            if waiting > 1:
                self._locks[job] = (lock, waiting - 1)

    # ── steps ────────────────────────────────────────────────────────────────

    async def _take_in(self, job: int) -> None:
        row = await self._find(job)
        if row.state != "validating":
            return
        folder = await self._work_folder(job)
        report: IntakeReport | None = None
        try:
            with trio.CancelScope() as self._reading[job]:
                report = await self._read_input(row, folder)
        finally:
            del self._reading[job]
            await _remove(folder)
        if report is None:  # cancelled meanwhile: ``_stop`` follows
            return
        state = await trio.to_thread.run_sync(self._admit, row, report)
        # Codes only: what an error says quotes the customer.
        errors = [error.code for error in report.errors[:_ERRORS_TOLD]]
        _log.info(
            "batch read",
            state=state,
            model=report.model,
            lines=report.lines,
            rows=report.rows,
            work=report.work,
            errors=errors,
        )
        if state == "in_progress":
            await self._core.open_job(job)
        elif state == "finalizing":
            await self._finish(job)

    async def _read_input(self, row: JobRow, folder: Path) -> IntakeReport:
        """The worker's report, its blocks stored; a batch that breaks the worker fails alone."""
        try:
            async with self._turns_reading.turn(row.account):
                task = self._intake_job(row.input_file, row.endpoint, folder)
                report = await self._need_workers().run(take_in, task, lane="intake")
                crash_point("intake.packed")
                if not report.errors:
                    await trio.to_thread.run_sync(store_packed, self._store, row.id, report)
        except Exception:
            _log.exception("intake failed")
            return IntakeReport(errors=(_INTAKE_FAILED,))
        return report

    def _admit(self, row: JobRow, report: IntakeReport) -> str:
        """The transaction that accepts or refuses a batch; the state it is in then."""
        job, at = row.id, self._clock.now()
        try:
            with self._store.database.write() as connection:
                crash_point("intake.before_commit")
                if report.errors:
                    errors = [error.as_dict() for error in report.errors]
                    self._mark_failed(connection, job, errors)
                    return "failed"
                state = self._accept(connection, row, report, at)
        except InsufficientQuotaError as error:
            with self._store.database.write() as connection:
                self._mark_failed(connection, job, [_error("insufficient_quota", str(error))])
            return "failed"
        crash_point("intake.committed")
        return state

    def _accept(self, connection: Any, row: JobRow, report: IntakeReport, at: float) -> str:
        model = self._models.get(report.model or "")
        if model is None:
            raise LookupError(f"the model {report.model!r} was retired during intake")
        values: dict[str, Any] = counts(report)
        values |= {"model_name": model.name, "model": model.digest, "in_progress_at": at}
        values["operation"] = OPERATIONS[row.endpoint]
        state = "in_progress"
        if report.rows == 0:  # every line was refused: there is nothing to compute
            state, values["closed"], values["finalizing_at"] = "finalizing", "completed", at
        if not move_job(connection, row.id, ("validating",), state, **values):
            return "cancelling"
        reserve_and_pack(
            connection,
            row.id,
            row.account,
            job_place(row.id),
            report,
            self._config.money,
            at,
            assurance_of(row.metadata),
        )
        return state

    async def _stop(self, job: int) -> None:
        row = await self._find(job)
        if row.state != "cancelling" or row.closed is not None:
            return
        if row.blocks:
            self._core.cancel_job(job, "cancelled")
        else:
            await trio.to_thread.run_sync(self._cancel_before_work, job)

    def _cancel_before_work(self, job: int) -> None:
        at = self._clock.now()
        with self._store.database.write() as connection:
            move_job(
                connection,
                job,
                ("cancelling",),
                "cancelled",
                closed="cancelled",
                cancelled_at=at,
            )

    async def _finish(self, job: int) -> None:
        row = await self._find(job)
        if row.state in OVER:
            return
        if row.direct:  # nobody waits for the answer any more
            await trio.to_thread.run_sync(self._give_up, job)
            return
        await trio.to_thread.run_sync(self._mark_finalizing, job)
        folder = await self._work_folder(job)
        try:
            for pause in (*_OUTPUT_PAUSES, None):
                try:
                    task = await trio.to_thread.run_sync(self._output_job, row, folder)
                    async with self._turns_writing.turn(row.account):
                        report = await self._need_workers().run(write_output, task, lane="output")
                    crash_point("output.written")
                    files = await trio.to_thread.run_sync(
                        store_files, self._store, row, task, report, self._clock.now()
                    )
                except Exception:
                    _log.exception("output failed", again_in=pause)
                    if pause is not None:
                        await trio.sleep(pause)
                else:
                    crash_point("output.stored")
                    at = self._clock.now()
                    await trio.to_thread.run_sync(deliver, self._store, row, report, files, at)
                    _log.info("batch over", state=row.closed)
                    self.on_over(row, at)
                    return
            await trio.to_thread.run_sync(self._lose_output, job)
        finally:
            await _remove(folder)

    def _output_job(self, row: JobRow, folder: Path) -> OutputJob:
        lines = self._store.objects.local_path(lines_object(row.id))
        return output_job(self._store, row, folder, lines)

    def _lose_output(self, job: int) -> None:
        message = "the pool failed to write the results: ask the operator"
        with self._store.database.write() as connection:
            self._mark_failed(connection, job, [_error("output_failed", message)])

    def _give_up(self, job: int) -> None:
        at = self._clock.now()
        with self._store.database.write() as connection:
            states = ("in_progress", "cancelling", "finalizing")
            move_job(connection, job, states, "cancelled", cancelled_at=at)

    def _mark_finalizing(self, job: int) -> None:
        at = self._clock.now()
        with self._store.database.write() as connection:
            # A cancelled batch stays `cancelling` until its files are there.
            move_job(connection, job, ("in_progress",), "finalizing", finalizing_at=at)

    async def _expire(self, job: int) -> None:
        self._core.cancel_job(job, "expired")

    async def _watch(self) -> None:
        """Batches whose time is over, and files that nobody may fetch any more."""
        while True:
            await trio.sleep(_WATCH_SECONDS)
            now = self._clock.now()
            for job in await trio.to_thread.run_sync(self._past, now):
                if job not in self._expiring:
                    self._expiring.add(job)
                    self._steps.send_nowait((self._expire, job))
            await trio.to_thread.run_sync(remove_expired_files, self._store, now)

    async def _sweep(self) -> None:
        """Direct requests leave their blocks behind; nothing needs them once they are over."""
        while True:
            # Whatever was about to read a block of a job that ended has read it long since.
            patience = _SWEEP_SECONDS + self._config.http.direct_timeout_seconds
            before = self._clock.now() - patience
            await trio.to_thread.run_sync(remove_direct_blocks, self._store, before)
            await trio.sleep(_SWEEP_SECONDS)

    def _past(self, now: float) -> list[int]:
        with self._store.database.read() as connection:
            return jobs_past(connection, now)

    # ── small things ─────────────────────────────────────────────────────────

    def _intake_job(self, file: str, endpoint: str, folder: Path) -> IntakeJob:
        return IntakeJob(
            input_path=self._store.objects.local_path(file_object(file)),
            folder=folder,
            endpoint=endpoint,
            models={model.name: ServedModel.of(model) for model in self._models.list()},
            max_lines=self._config.batches.max_lines,
            max_line_bytes=self._config.batches.max_line_bytes,
        )

    def _mark_failed(self, connection: Any, job: int, errors: list[dict[str, Any]]) -> None:
        states = ("validating", "in_progress", "finalizing", "cancelling")
        at = self._clock.now()
        move_job(connection, job, states, "failed", failed_at=at, errors=errors)

    async def _find(self, job: int) -> JobRow:
        def read() -> JobRow:
            with self._store.database.read() as connection:
                return find_job(connection, job)

        row = await trio.to_thread.run_sync(read)
        structlog.contextvars.bind_contextvars(job=job, batch=row.batch, account=row.account)
        return row

    async def _work_folder(self, job: int) -> Path:
        folder = self.scratch / str(job)

        def make() -> None:
            rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

        await trio.to_thread.run_sync(make)
        return folder

    def _need_workers(self) -> Workers:
        assert self._workers is not None  # steps run inside ``run`` only
        return self._workers


def _error(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "line": None, "param": None}


async def _remove(folder: Path) -> None:
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(partial(rmtree, folder, ignore_errors=True))
