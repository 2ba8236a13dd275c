"""The end of a batch: which results output needs, and the files that the customer gets."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pool.batches.answers import AnswerShape
from pool.batches.endpoints import labels_of, probability_of
from pool.batches.naming import errors_object, new_file_id, output_object
from pool.batches.output import OutputBlock, OutputJob, OutputReport, WrittenFile
from pool.crashpoints import crash_point
from pool.store import Store
from pool.store.files import StoredFile, add_file
from pool.store.jobs import JobRow, blocks_of, file_sha256, move_job
from pool.store.openjobs import manifest_of
from pool.store.results import result_runs


def output_job(store: Store, row: JobRow, folder: Path, lines_path: Path) -> OutputJob:
    """What the worker that writes the files of a closed job is told."""
    with store.database.read() as connection:
        runs = result_runs(connection, store.log, row.id)
        manifest = manifest_of(connection, row.model)
        return OutputJob(
            lines_path=lines_path,
            blocks=tuple(
                OutputBlock(path=store.objects.local_path(name), runs=tuple(runs.get(no, ())))
                for no, name in enumerate(blocks_of(connection, row.id))
            ),
            row_bytes=manifest.row_bytes,
            answers=AnswerShape(
                endpoint=row.endpoint,
                model=row.model_name,
                labels=labels_of(manifest),
                probability=probability_of(manifest),
            ),
            seed=_seed(connection, row),
            state=row.closed,
            output_path=folder / "output",
            error_path=folder / "errors",
        )


def store_files(
    store: Store, row: JobRow, written: OutputJob, report: OutputReport, at: float
) -> list[StoredFile]:
    """Put the files that were written into the object store; those that would be empty are not."""
    files = (
        _stored(store, row, "output", written.output_path, report.output, at),
        _stored(store, row, "errors", written.error_path, report.errors, at),
    )
    return [file for file in files if file is not None]


def deliver(
    store: Store, row: JobRow, report: OutputReport, files: list[StoredFile], at: float
) -> None:
    """Name the stored files and end the batch, in one transaction."""
    named = {file.object: file.id for file in files}
    values: dict[str, Any] = {
        "output_file": named.get(output_object(row.id)),
        "error_file": named.get(errors_object(row.id)),
        "lines_completed": report.completed,
        "lines_failed": report.failed,
        "tokens": report.tokens,
        f"{row.closed}_at": at,
    }
    with store.database.write() as connection:
        for file in files:
            add_file(connection, file)
        if not move_job(connection, row.id, ("finalizing", "cancelling"), row.closed, **values):
            raise RuntimeError(f"job {row.id} ended while its output was being written")
        crash_point("output.before_commit")
    crash_point("output.committed")


def _seed(connection: sa.Connection, row: JobRow) -> str:
    """What the ids of answers are made of: a batch's input, or chance for a direct request."""
    if row.input_file:
        return file_sha256(connection, row.input_file)
    return secrets.token_hex(32)


def _stored(
    store: Store, row: JobRow, kind: str, path: Path, written: WrittenFile | None, at: float
) -> StoredFile | None:
    if written is None:
        return None
    name = output_object(row.id) if kind == "output" else errors_object(row.id)
    store.objects.put_file(name, path)
    return StoredFile(
        id=new_file_id(),
        account=row.account,
        purpose="batch_output",
        filename=f"{row.batch}_{kind}.jsonl",
        bytes=written.bytes,
        object=name,
        sha256=written.sha256,
        status="processed",
        created=at,
        expires=at + row.output_expires_after if row.output_expires_after else None,
    )
