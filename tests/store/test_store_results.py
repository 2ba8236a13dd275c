"""Results: one for each row, found again in the log."""

from __future__ import annotations

import pytest
from bookmaker import ROW_BYTES, Bookmaker, values
from sqlalchemy import insert

from pool.store import LogCorruptError, schema
from pool.store.results import (
    ACCEPTED,
    Gap,
    ResultRun,
    ResultsError,
    missing_rows,
    read_part,
    result_runs,
)
from shares.board.effects import Won


def runs_of(books: Bookmaker, job: int, **options) -> dict[int, list[ResultRun]]:
    with books.store.database.read() as connection:
        return result_runs(connection, books.store.log, job, **options)


def gaps_of(books: Bookmaker, job: int, runs: dict[int, list[ResultRun]]) -> list[Gap]:
    with books.store.database.read() as connection:
        return missing_rows(connection, job, runs)


def test_every_row_of_a_finished_job_has_one_result(books: Bookmaker) -> None:
    """Rejected shares are not among them, though their bytes are still in the log."""
    job = books.job(blocks=(100, 50))
    rejected = books.share("mallory.m", job, 0, 100)
    books.judge(rejected, "rejected")
    late = books.share("alice.a", job, 60, 100)
    early = books.share("bob.b", job, 0, 60)
    last = books.share("alice.a", job, 0, 50, block=1)
    for lease in (late, early, last):
        books.judge(lease, "cleared")
    runs = runs_of(books, job)

    assert {no: [(r.start, r.stop) for r in found] for no, found in runs.items()} == {
        0: [(0, 60), (60, 100)],
        1: [(0, 50)],
    }
    assert gaps_of(books, job, runs) == []
    data, failed = read_part(runs[0][1], ROW_BYTES)
    assert (bytes(data), failed) == (values(late, 0, 40), frozenset())


def test_what_is_missing_is_named(books: Bookmaker) -> None:
    job = books.job(blocks=(100, 50, 10))
    books.judge(books.share("bob.b", job, 10, 20), "cleared")
    books.judge(books.share("bob.b", job, 30, 100), "cleared")
    books.judge(books.share("bob.b", job, 0, 20, block=1), "cleared")
    books.share("bob.b", job, 0, 10, block=2)

    assert gaps_of(books, job, runs_of(books, job)) == [
        (0, 0, 10),
        (0, 20, 30),
        (1, 20, 50),
        (2, 0, 10),
    ]
    assert gaps_of(books, job, runs_of(books, job, verdicts=ACCEPTED))[-1] == (1, 20, 50)


def test_two_results_for_a_row_are_a_fault_of_ours(books: Bookmaker) -> None:
    job = books.job()
    for stop in (60, 70):
        books.judge(books.share("bob.b", job, stop - 20, stop), "cleared")

    with pytest.raises(ResultsError, match="rows from 50 have two results"):
        runs_of(books, job)


def test_a_part_carries_its_failed_rows(books: Bookmaker) -> None:
    job = books.job()
    lease = books.lease("alice.a")
    record, payloads = books.part_records(lease, 0, 0, [Won(job, 0, 5, 8, 0)])
    (handle,) = payloads
    failed = (2).to_bytes(4, "little") + (0).to_bytes(4, "little")
    books.commit(record, payloads={handle: payloads[handle] + failed})
    ((run,),) = runs_of(books, job, verdicts=ACCEPTED).values()

    assert run.size == 3 * ROW_BYTES + 8
    assert read_part(run, ROW_BYTES)[1] == {0, 2}


def test_a_record_of_another_shape_is_refused(books: Bookmaker) -> None:
    job = books.job()
    books.judge(books.share("bob.b", job, 0, 10), "cleared")
    ((run,),) = runs_of(books, job).values()

    with pytest.raises(LogCorruptError, match="do not hold 10 rows of 33 bytes"):
        read_part(run, 33)


def test_other_jobs_stay_out(books: Bookmaker) -> None:
    mine, other = books.job(), books.job()
    books.judge(books.share("bob.b", other, 0, 10), "cleared")
    with books.store.database.write() as connection:
        connection.execute(insert(schema.block).values(job=mine, no=1, object="x", rows=0, work=0))

    assert runs_of(books, mine) == {}
    assert gaps_of(books, mine, {}) == [(0, 0, 100)]
