"""Intake: a customer's file to blocks. Runs in a worker process that is handed paths.

Streams: memory is bounded by the longest line allowed, the rows of one block, and a batch of
texts being tokenised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from pool.batches.duplicates import IdIndex
from pool.batches.lines import Line, LinesWriter, read_lines
from pool.batches.packing import PackedBlock, Packer
from pool.batches.reading import read_request
from pool.batches.requests import Refusal, Request, ServedModel, wrong_endpoint
from pool.batches.tokenize import tokenize

MAX_ERRORS = 100
_PENDING_INPUTS = 1024
_PENDING_BYTES = 4 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeJob:
    """What intake is asked to do. ``folder`` exists and is empty; blocks and lines go there."""

    input_path: Path
    folder: Path
    endpoint: str
    models: dict[str, ServedModel]
    max_lines: int
    max_line_bytes: int


@dataclass(frozen=True, slots=True)
class LineError:
    """Why a batch is refused. ``line`` counts from 1; None when it is not about one line."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The entry of the batch's ``errors.data``."""
        return {
            "code": self.code,
            "message": self.message,
            "line": self.line,
            "param": self.param,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeReport:
    """What intake found. With ``errors`` the batch has failed and nothing else counts."""

    errors: tuple[LineError, ...] = ()
    model: str | None = None
    lines: int = 0
    refused: int = 0
    rows: int = 0
    tokens: int = 0
    work: int = 0
    blocks: tuple[PackedBlock, ...] = ()
    lines_path: Path | None = None


def take_in(job: IntakeJob) -> IntakeReport:
    """Validate, tokenise and pack a batch's input file.

    Raises ``OSError`` when files cannot be read or written; what is wrong with the input is in
    the report.
    """
    lines_path = job.folder / "lines"
    index = IdIndex(job.folder / "ids")
    try:
        with lines_path.open("wb", buffering=1 << 20) as lines, job.input_path.open("rb") as source:
            intake = _Intake(job, LinesWriter(lines), index)
            intake.read(source)
        intake.find_duplicates(lines_path)
    finally:
        index.close()
    return intake.report(lines_path)


class _FaultyLineError(Exception):
    """A line that fails the batch."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


@dataclass(slots=True)
class _Pending:
    number: int
    custom_id: str
    request: Request | Refusal


@dataclass(slots=True)
class _Intake:
    job: IntakeJob
    writer: LinesWriter
    index: IdIndex
    errors: list[LineError] = field(default_factory=list)
    model: ServedModel | None = None
    packer: Packer | None = None
    lines: int = 0
    refused: int = 0
    pending: list[_Pending] = field(default_factory=list)
    pending_inputs: int = 0
    pending_bytes: int = 0

    def read(self, source: BinaryIO) -> None:
        for number, line in numbered_lines(source, self.job.max_line_bytes):
            self.lines += 1
            if self.lines > self.job.max_lines:
                self._fail(
                    number,
                    _FaultyLineError(
                        "too_many_tasks",
                        f"a batch may have at most {self.job.max_lines} requests: "
                        "split the file into several batches",
                    ),
                )
                break
            try:
                self._take(number, line)
            except _FaultyLineError as fault:
                self._fail(number, fault)
                if len(self.errors) >= MAX_ERRORS:
                    break
        if self.lines == 0:
            self.errors.append(LineError("empty_file", "the input file holds no requests"))
        self._flush()
        if self.packer is not None and not self.errors:
            self.packer.finish()

    def find_duplicates(self, lines_path: Path) -> None:
        if len(self.errors) >= MAX_ERRORS:
            return
        repeated = self.index.repeated(
            lambda: ((line.number, line.custom_id) for line in read_lines(lines_path)),
            MAX_ERRORS - len(self.errors),
        )
        self.errors.extend(
            LineError(
                "duplicate_custom_id",
                f"custom_id {custom_id[:80]!r} stands on line {first} already",
                number,
                "custom_id",
            )
            for number, first, custom_id in repeated
        )
        self.errors.sort(key=lambda error: error.line or 0)

    def report(self, lines_path: Path) -> IntakeReport:
        if self.errors:
            return IntakeReport(errors=tuple(self.errors), lines=self.lines)
        assert self.model is not None  # there is a line, and every line names the model
        assert self.packer is not None
        return IntakeReport(
            model=self.model.name,
            lines=self.lines,
            refused=self.refused,
            rows=self.packer.rows,
            tokens=self.packer.tokens,
            work=self.packer.work,
            blocks=tuple(self.packer.blocks),
            lines_path=lines_path,
        )

    def _fail(self, number: int, fault: _FaultyLineError) -> None:
        self.errors.append(LineError(fault.code, str(fault), number, fault.param))

    def _take(self, number: int, line: bytes | None) -> None:
        custom_id, body = self._parse(line)
        self.index.add(custom_id)
        try:
            model = self._one_model(body.get("model"))
        except _FaultyLineError:
            # The id still counts when repetitions are looked for.
            self.writer.write(Line(number, custom_id, 0, 0))
            raise
        request = read_request(body, self.job.endpoint, model)
        if self.errors:  # the batch has failed: go on only to report what else is wrong
            self.writer.write(Line(number, custom_id, 0, 0))
            return
        self.pending.append(_Pending(number, custom_id, request))
        size = len(line or b"")
        self.pending_inputs += 1
        if isinstance(request, Request):
            size = max(size, request.characters)  # a query counts for each of its documents
            self.pending_inputs += len(request.texts) + len(request.ids)
        self.pending_bytes += size
        if self.pending_inputs >= _PENDING_INPUTS or self.pending_bytes >= _PENDING_BYTES:
            self._flush()

    def _parse(self, line: bytes | None) -> tuple[str, dict[str, Any]]:
        if line is None:
            raise _FaultyLineError(
                "invalid_json_line",
                f"line longer than {self.job.max_line_bytes} bytes: split its input over lines",
            )
        try:
            entry = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _FaultyLineError("invalid_json_line", f"not JSON: {error}") from None
        except RecursionError:
            raise _FaultyLineError(
                "invalid_json_line", "not readable JSON: nested too deep"
            ) from None
        if not isinstance(entry, dict):
            raise _FaultyLineError("invalid_json_line", "must be a JSON object")
        custom_id = entry.get("custom_id")
        if not isinstance(custom_id, str) or not custom_id:
            raise _FaultyLineError(
                "invalid_json_line", "custom_id must be a string, not empty", "custom_id"
            )
        if entry.get("method") != "POST":
            raise _FaultyLineError("invalid_json_line", 'method must be "POST"', "method")
        if entry.get("url") != self.job.endpoint:
            raise _FaultyLineError(
                "url_mismatch", f"url must be {self.job.endpoint}, the batch's endpoint", "url"
            )
        body = entry.get("body")
        if not isinstance(body, dict):
            raise _FaultyLineError("invalid_json_line", "body must be a JSON object", "body")
        return custom_id, body

    def _one_model(self, name: object) -> ServedModel:
        if not isinstance(name, str):
            raise _FaultyLineError(
                "model_mismatch", "body.model must be a model's name", "body.model"
            )
        if self.model is not None:
            if name != self.model.name:
                raise _FaultyLineError(
                    "model_mismatch",
                    f"body.model is {name[:80]!r} and {self.model.name!r} on the lines before: "
                    "a batch has one model",
                    "body.model",
                )
            return self.model
        model = self.job.models.get(name)
        if model is None:
            raise _FaultyLineError(
                "model_not_found",
                f"there is no model {name[:80]!r}: GET /v1/models lists what there is",
                "body.model",
            )
        mismatch = wrong_endpoint(model, self.job.endpoint)
        if mismatch is not None:
            raise _FaultyLineError("model_mismatch", mismatch, "body.model")
        self.model = model
        self.packer = Packer(self.job.folder, model)
        return model

    def _flush(self) -> None:
        if not self.pending:
            return
        assert self.model is not None
        assert self.packer is not None
        requests = [p.request for p in self.pending if isinstance(p.request, Request)]
        answers = iter(tokenize(requests, self.model) if not self.errors else ())
        for entry in self.pending:
            rows: list[list[int]] | Refusal = []
            if isinstance(entry.request, Refusal):
                rows = entry.request
            elif not self.errors:
                rows = next(answers)
            self._keep(entry, rows)
        self.pending.clear()
        self.pending_inputs = self.pending_bytes = 0

    def _keep(self, entry: _Pending, rows: list[list[int]] | Refusal) -> None:
        if isinstance(rows, Refusal):
            self.refused += 1
            refusal = (rows.message, rows.param, rows.code)
            self.writer.write(Line(entry.number, entry.custom_id, 0, 0, refusal=refusal))
            return
        assert self.packer is not None
        assert isinstance(entry.request, Request)
        for row in rows:
            self.packer.add(row)
        lengths = [len(row) for row in rows]
        self.writer.write(Line.of(entry.number, entry.custom_id, entry.request, lengths))


def numbered_lines(source: BinaryIO, max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """(number from 1, line) of every line that is not blank; None for one over ``max_bytes``.

    An over-long line is skipped in pieces: never more than ``max_bytes`` of it are in memory.
    """
    number = 0
    while line := source.readline(max_bytes + 1):
        number += 1
        if len(line) > max_bytes and not line.endswith(b"\n"):
            while (rest := source.readline(1 << 20)) and not rest.endswith(b"\n"):
                pass
            yield number, None
            continue
        if number == 1:
            line = line.removeprefix(_BOM)
        if line.strip():
            yield number, line
