"""Output: result rows to the customer's files. Runs in a worker process that is handed paths.

Lines come in the customer's order, each with an id made from the input alone, so the same input
gives the same bytes. Memory: the results of one block, and of one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from pool.batches.answers import NON_FINITE, AnswerShape, Rows, answer_body
from pool.batches.lines import Line, read_lines
from pool.store.blockfile import BlockFile
from pool.store.results import ResultRun, read_part

_CHUNK = 256  # rows whose numbers are written at a time
_MISSING, _DONE, _FAILED = 0, 1, 2

_REASONS = {
    "cancelled": ("batch_cancelled", "the batch was cancelled before this request was done"),
    "expired": ("batch_expired", "the batch expired before this request was done"),
}


@dataclass(frozen=True, slots=True)
class OutputBlock:
    """One block and where its rows' results are."""

    path: Path
    runs: tuple[ResultRun, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputJob:
    """What output is asked to do.

    ``seed`` is what the answers' ids are made of; ``state`` is ``completed``, ``cancelled`` or
    ``expired``.
    """

    lines_path: Path
    blocks: tuple[OutputBlock, ...]
    row_bytes: int
    answers: AnswerShape
    seed: str
    state: str
    output_path: Path
    error_path: Path


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that was written."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputReport:
    """What was written; None for a file that would be empty."""

    completed: int
    failed: int
    tokens: int  # of the completed lines
    output: WrittenFile | None
    errors: WrittenFile | None


class OutputError(Exception):
    """The results do not fit the batch: a fault of the pool, never of the customer."""


def write_output(job: OutputJob) -> OutputReport:
    """Write the output and the error file of a batch.

    Raises ``OutputError`` when rows of a completed batch are missing, ``LogCorruptError`` when
    the result log is damaged, ``OSError`` when files cannot be read or written.
    """
    rows = _all_rows(job.blocks, job.row_bytes)
    completed = failed = tokens = 0
    with job.output_path.open("wb") as output, job.error_path.open("wb") as errors:
        good, bad = _Sink(output), _Sink(errors)
        for line in read_lines(job.lines_path):
            entry, ok = _answer(job, line, rows)
            (good if ok else bad).write(entry)
            if ok:
                completed += 1
                tokens += line.tokens
            else:
                failed += 1
        if next(rows, None) is not None:
            raise OutputError("there are more rows in the blocks than in the lines")
    return OutputReport(
        completed=completed,
        failed=failed,
        tokens=tokens,
        output=good.done(),
        errors=bad.done(),
    )


def write_answer(job: OutputJob) -> tuple[int, bytes]:
    """The HTTP status and body of a direct request, whose job has one line."""
    (line,) = read_lines(job.lines_path)
    entry, _ = _answer(job, line, _all_rows(job.blocks, job.row_bytes))
    response = entry["response"]
    if response is None:
        raise OutputError("a direct request without results")
    return response["status_code"], msgspec.json.encode(response["body"])


def _answer(
    job: OutputJob, line: Line, rows: Iterator[tuple[int, Rows, int]]
) -> tuple[dict[str, Any], bool]:
    """The line to write, and whether it goes to the output file."""
    name = _name(job, line.number)
    entry: dict[str, Any] = {"id": f"batch_req_{name}", "custom_id": line.custom_id}
    refusal = line.refused()
    if refusal is not None:
        entry["response"] = _response(name, 400, refusal.body())
        return entry | {"error": None}, False
    own = [next(rows, None) for _ in range(line.rows)]
    found = [row for row in own if row is not None]
    if len(found) < line.rows:
        raise OutputError(f"line {line.number}: there are fewer rows in the blocks than here")
    statuses = {status for status, _, _ in found}
    if _MISSING in statuses:
        if job.state not in _REASONS:
            raise OutputError(f"line {line.number}: rows of a completed batch have no result")
        code, message = _REASONS[job.state]
        return entry | {"response": None, "error": {"code": code, "message": message}}, False
    if _FAILED in statuses:
        entry["response"] = _response(name, 500, NON_FINITE)
        return entry | {"error": None}, False
    body = answer_body(job.answers, name, line, [(results, row) for _, results, row in found])
    entry["response"] = _response(name, 200, body)
    return entry | {"error": None}, True


def _response(name: str, status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"status_code": status, "request_id": f"req_{name}", "body": body}


def _name(job: OutputJob, number: int) -> str:
    """What an answer is called: the same for the same input, whoever computed it and when."""
    text = f"{job.seed}\n{job.answers.endpoint}\n{number}"
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _all_rows(blocks: Sequence[OutputBlock], row_bytes: int) -> Iterator[tuple[int, Rows, int]]:
    """(status, results, row in them) of every row, in the customer's order."""
    for block in blocks:
        status, values = _results(block, row_bytes)
        for start in range(0, len(status), _CHUNK):
            chunk = Rows(values[start : start + _CHUNK])
            for row, what in enumerate(status[start : start + _CHUNK].tolist()):
                yield what, chunk, row


def _results(block: OutputBlock, row_bytes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A block's results in the customer's order: status [rows], values [rows, row bytes]."""
    with BlockFile(block.path) as packed:
        order = packed.order.copy()
    status = np.full(len(order), _MISSING, dtype=np.uint8)
    values = np.zeros((len(order), row_bytes), dtype=np.uint8)
    for run in block.runs:
        data, failed = read_part(run, row_bytes)
        part = np.frombuffer(data, dtype=np.uint8).reshape(-1, row_bytes)
        first, last = run.first_row, run.first_row + run.stop - run.start
        what = np.full(run.part_rows, _DONE, dtype=np.uint8)
        what[list(failed)] = _FAILED
        where = order[run.start : run.stop]
        values[where] = part[first:last]
        status[where] = what[first:last]
    return status, values


class _Sink:
    """A JSON Lines file being written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = sha256()
        self._bytes = 0

    def write(self, entry: dict[str, Any]) -> None:
        line = msgspec.json.encode(entry) + b"\n"
        self._file.write(line)
        self._hash.update(line)
        self._bytes += len(line)

    def done(self) -> WrittenFile | None:
        if self._bytes == 0:
            return None
        return WrittenFile(self._bytes, self._hash.hexdigest())
