"""Direct requests: one request, answered in the connection it came on.

It goes the way of a batch with one line (packed, paid, worked on, written), without files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import msgspec
import structlog
import trio

from pool.batches.admission import counts, remove_blocks, reserve_and_pack, store_blocks
from pool.batches.delivery import output_job
from pool.batches.endpoints import OPERATIONS
from pool.batches.intake import IntakeJob, IntakeReport
from pool.batches.lines import Line, LinesWriter
from pool.batches.naming import new_direct_place
from pool.batches.output import write_answer
from pool.batches.packing import Packer
from pool.batches.ports import Clock, Core, ModelRegistry
from pool.batches.reading import read_request
from pool.batches.requests import Refusal, ServedModel, wrong_endpoint
from pool.batches.tokenize import tokenize
from pool.batches.turns import FairTurns
from pool.batches.workers import Workers
from pool.config import Config
from pool.store import Store
from pool.store.escrow import InsufficientQuotaError
from pool.store.jobs import JobRow, add_job, find_job, move_job

_log = structlog.get_logger("pool.direct")


class DirectError(Exception):
    """The request is not served. ``again``: whether trying again may help."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, again: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.again = again


@dataclass(frozen=True, slots=True)
class DirectAnswer:
    """Status and JSON body."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a request is not served, as a worker process hands it back."""

    status: int
    code: str
    message: str
    param: str | None = None


def take_in_one(job: IntakeJob) -> IntakeReport | Rejection:
    """Check, tokenise and pack one request: the whole input file is its body. For a worker."""
    try:
        body = msgspec.json.decode(job.input_path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Rejection(400, "invalid_json", f"the body must be JSON: {error}")
    if not isinstance(body, dict):
        return Rejection(400, "invalid_json", "the body must be a JSON object")
    model = _model_of(body.get("model"), job)
    if isinstance(model, Rejection):
        return model
    request = read_request(body, job.endpoint, model)
    if isinstance(request, Refusal):
        return _rejected(request)
    (rows,) = tokenize([request], model)
    if isinstance(rows, Refusal):
        return _rejected(rows)
    packer = Packer(job.folder, model)
    for row in rows:
        packer.add(row)
    packer.finish()
    lines_path = job.folder / "lines"
    with lines_path.open("wb") as lines:
        LinesWriter(lines).write(Line.of(1, "", request, [len(row) for row in rows]))
    return IntakeReport(
        model=model.name,
        lines=1,
        rows=packer.rows,
        tokens=packer.tokens,
        work=packer.work,
        blocks=tuple(packer.blocks),
        lines_path=lines_path,
    )


def _model_of(name: object, job: IntakeJob) -> ServedModel | Rejection:
    if not isinstance(name, str):
        return Rejection(400, "invalid_value", "model: must be a model's name", "model")
    model = job.models.get(name)
    if model is None:
        text = f"there is no model {name[:80]!r}: GET /v1/models lists what there is"
        return Rejection(404, "model_not_found", text, "model")
    mismatch = wrong_endpoint(model, job.endpoint)
    if mismatch is not None:
        return Rejection(400, "model_mismatch", mismatch, "model")
    return model


def _rejected(refusal: Refusal) -> Rejection:
    return Rejection(400, refusal.code, refusal.message, refusal.param)


class DirectRequests:
    """Serves requests and knows who waits for which job."""

    def __init__(
        self,
        store: Store,
        core: Core,
        models: ModelRegistry,
        config: Config,
        clock: Clock,
        folder: Path,
    ) -> None:
        self._store = store
        self._core = core
        self._models = models
        self._config = config
        self._clock = clock
        self._folder = folder
        self._waiting: dict[int, _Waiting] = {}  # {job: who waits}
        self._number = 0
        self._reading = FairTurns(1, 1)

    def job_closed(self, job: int, state: str) -> bool:
        """Tell whoever waits for the job; False when nobody does."""
        waiting = self._waiting.get(job)
        if waiting is None:
            return False
        waiting.state = state
        waiting.closed.set()
        return True

    async def serve(
        self, workers: Workers, account: str, endpoint: str, body: bytes
    ) -> DirectAnswer:
        """Compute one request. Raises ``DirectError``."""
        self._number += 1
        folder = self._folder / f"direct-{self._number}"
        try:
            packed = await self._take_in(workers, folder, account, endpoint, body)
            if isinstance(packed, Rejection):
                raise DirectError(packed.status, packed.code, packed.message, param=packed.param)
            job = await trio.to_thread.run_sync(self._admit, account, endpoint, packed)
            _log.debug("direct request", job=job, account=account, rows=packed.rows)
            await self._wait(job)
            return await self._answer(workers, job, folder)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(rmtree, folder, ignore_errors=True))

    async def _take_in(
        self,
        workers: Workers,
        folder: Path,
        account: str,
        endpoint: str,
        body: bytes,
    ) -> IntakeReport | Rejection:
        path = folder / "request"

        def write() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)

        await trio.to_thread.run_sync(write)
        job = IntakeJob(
            input_path=path,
            folder=folder,
            endpoint=endpoint,
            models={model.name: ServedModel.of(model) for model in self._models.list()},
            max_lines=1,
            max_line_bytes=self._config.batches.max_line_bytes,
        )
        async with self._reading.turn(account):
            return await workers.run(take_in_one, job, lane="direct")

    def _admit(self, account: str, endpoint: str, packed: IntakeReport) -> int:
        """Store and pay a job, ready to be worked on; its number."""
        model = self._models.get(packed.model or "")
        if model is None:
            raise LookupError(f"the model {packed.model!r} was retired meanwhile")
        at = self._clock.now()
        values: dict[str, Any] = dict(counts(packed))
        place = new_direct_place()
        store_blocks(self._store, place, packed)
        try:
            with self._store.database.write() as connection:
                job = add_job(
                    connection,
                    account=account,
                    direct=True,
                    endpoint=endpoint,
                    operation=OPERATIONS[endpoint],
                    model_name=model.name,
                    model=model.digest,
                    state="in_progress",
                    created=at,
                    in_progress_at=at,
                    **values,
                )
                reserve_and_pack(connection, job, account, place, packed, self._config.money, at)
        except InsufficientQuotaError as error:
            remove_blocks(self._store, place, packed)
            raise DirectError(429, "insufficient_quota", str(error)) from None
        return job

    async def _wait(self, job: int) -> None:
        waiting = self._waiting[job] = _Waiting()
        try:
            with trio.CancelScope(shield=True):  # a job that is paid must be known to the core
                await self._core.open_job(job)
            with trio.move_on_after(self._config.http.direct_timeout_seconds):
                await waiting.closed.wait()
        finally:
            if not waiting.closed.is_set():
                # From now on the runner ends the job, as one that nobody waits for.
                del self._waiting[job]
                self._core.cancel_job(job, "cancelled")
        if not waiting.closed.is_set():
            seconds = self._config.http.direct_timeout_seconds
            text = f"no result within {seconds:g} s: hand it in as a batch, or try again later"
            raise DirectError(504, "request_timeout", text)

    async def _answer(self, workers: Workers, job: int, folder: Path) -> DirectAnswer:
        """Write the answer of a closed job, and end it."""
        waiting = self._waiting.pop(job)
        if waiting.state != "completed":
            await trio.to_thread.run_sync(self._end, job, "cancelled", False)
            raise DirectError(503, "cancelled", "the request was cancelled: try again", again=True)
        try:
            row = await trio.to_thread.run_sync(self._find, job)
            task = await trio.to_thread.run_sync(
                output_job, self._store, row, folder, folder / "lines"
            )
            status, body = await workers.run(write_answer, task, lane="direct")
        except Exception:
            await trio.to_thread.run_sync(self._end, job, "failed", False)
            raise
        await trio.to_thread.run_sync(self._end, job, "completed", status == 200)
        return DirectAnswer(status, body)

    def _find(self, job: int) -> JobRow:
        with self._store.database.read() as connection:
            return find_job(connection, job)

    def _end(self, job: int, state: str, good: bool) -> None:
        at = self._clock.now()
        values: dict[str, Any] = {
            f"{state}_at": at,
            "lines_completed": int(good),
            "lines_failed": int(not good),
        }
        with self._store.database.write() as connection:
            move_job(connection, job, ("in_progress", "cancelling"), state, **values)


@dataclass(slots=True, eq=False)
class _Waiting:
    closed: trio.Event
    state: str = ""

    def __init__(self) -> None:
        self.closed = trio.Event()
        self.state = ""
