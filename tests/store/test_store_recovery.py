"""The start: the board is handed what is open, all of it and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bookmaker import MODEL, ROW_BYTES, Bookmaker
from sqlalchemy import insert, update

from pool.store import Store, StoreError, schema
from pool.store.blockfile import write_block
from pool.store.escrow import deposit
from shares.blocks import Kind, Segment
from shares.board.effects import (
    BlockCleared,
    CheckDrawn,
    CheckEnded,
    HeldForfeited,
    LeaseEnded,
    LeaseSuspected,
    RecountBegun,
    RecountEnded,
    RefereePaid,
    Won,
)
from shares.board.snapshot import Snapshot


def recovered(books: Bookmaker) -> Snapshot:
    """Close the store as if the process had ended, and start again."""
    folder = books.store.folder
    books.store.close()
    books.store.__dict__.update(Store.open(folder, durable=False).__dict__)
    return books.store.recover(books.arrays)


def test_every_start_is_a_new_boot(books: Bookmaker) -> None:
    assert [recovered(books).boot for _ in range(3)] == [1, 2, 3]


def test_an_open_job_comes_back(books: Bookmaker) -> None:
    job = books.job(blocks=(100, 100, 100), unit=2)
    lease = books.share("alice.a", job, 0, 100, unit=2)
    books.judge(lease, "cleared")
    books.commit(BlockCleared(job, 0))
    books.share("alice.a", job, 0, 10, block=1, unit=2)
    (found,) = recovered(books).jobs

    assert (found.job, found.account, found.model, found.price) == (job, "carol", MODEL, 2)
    assert (found.rows, found.work, found.blocks, found.row_bytes) == (300, 300, 3, ROW_BYTES)
    assert found.cleared_blocks == {0}
    assert (found.cleared_rows, found.cleared_work) == (100, 100)
    assert [block.block for block in found.open_blocks] == [1]
    assert found.cancelled == ""


def test_jobs_that_are_over_stay_away(books: Bookmaker) -> None:
    for state in ("validating", "finalizing", "completed", "failed"):
        job = books.job()
        with books.store.database.write() as connection:
            connection.execute(update(schema.job).where(schema.job.c.id == job).values(state=state))
    books.share("alice.a", books.job(), 0, 10)
    closed = books.job()
    books.close(closed)

    assert len(recovered(books).jobs) == 1


def test_a_job_being_cancelled_says_so(books: Bookmaker) -> None:
    job = books.job()
    with books.store.database.write() as connection:
        connection.execute(
            update(schema.job).where(schema.job.c.id == job).values(state="cancelling")
        )
    (found,) = recovered(books).jobs

    assert found.cancelled == "cancelled"


def test_shares_without_a_verdict_come_back_with_parts_and_credits(books: Bookmaker) -> None:
    job = books.job()
    books.lease("alice.a", Segment(job, 0, 50, 60, Kind.ROW))
    books.share("alice.a", job, 0, 10)
    leased, accepted = recovered(books).leases

    assert (leased.state, leased.verdict, leased.parts, leased.credits) == ("open", "open", (), ())
    assert leased.segments == (Segment(job, 0, 50, 60, Kind.ROW),)
    assert (accepted.state, accepted.verdict) == ("done", "accepted")
    (part,) = accepted.parts
    assert (part.rows, part.won, len(part.digests)) == (10, (Won(job, 0, 0, 10, 0),), 160)
    (credit,) = accepted.credits
    assert (credit.job, credit.kind, credit.source, credit.amount) == (job, "row", "pay", 10)


def test_shares_that_are_over_stay_away(books: Bookmaker) -> None:
    """Rejected and void ones, ended ones with nothing accepted, cleared ones of cleared blocks."""
    job = books.job(blocks=(100, 100))
    books.judge(books.share("alice.a", job, 0, 10), "rejected")
    books.commit(LeaseEnded(books.lease("alice.a"), "expired", "rig", books.at))
    books.judge(books.share("alice.a", job, 0, 100, block=1), "cleared")
    books.commit(BlockCleared(job, 1))

    assert recovered(books).leases == ()


def test_cleared_shares_of_an_open_block_keep_what_they_won_there(books: Bookmaker) -> None:
    job = books.job(blocks=(100, 100))
    lease = books.lease("alice.a", Segment(job, 0, 0, 10, Kind.ROW))
    for part, block in ((0, 0), (1, 1)):
        record, payloads = books.part_records(lease, part, 0, [Won(job, block, 0, 10, 0)])
        books.commit(record, books.credit(lease, "alice.a", job, 5, part=part), payloads=payloads)
    books.commit(LeaseEnded(lease, "done", "none", books.at))
    books.judge(lease, "cleared")
    books.commit(BlockCleared(job, 1))
    (found,) = recovered(books).leases

    assert found.verdict == "cleared"
    assert found.credits == ()
    assert [part.won for part in found.parts] == [(Won(job, 0, 0, 10, 0),)]


def test_open_checks_come_back(books: Bookmaker) -> None:
    job = books.job()
    lease = books.share("alice.a", job, 0, 10)
    books.commit(CheckDrawn(7, "rig", lease, 0, job, 0, 5, 2.0))
    books.commit(CheckDrawn(8, "referee", lease, 0, job, 0, 6, 2.0))
    books.commit(CheckEnded(7, "matched", "bob.b", 3.0))
    (check,) = recovered(books).checks

    assert (check.check, check.by, check.lease, check.row) == (8, "referee", lease, 6)


def test_a_check_budget_is_less_what_was_spent(books: Bookmaker) -> None:
    """Rejected check pay is back in it; what the referee cost is not."""
    job = books.job(levy_ppm=1_000_000)
    good = books.share("bob.b", job, 0, 1)
    bad = books.share("eve.e", job, 1, 2)
    books.commit(
        books.credit(good, "bob.b", job, 20, kind="check", source="check"),
        books.credit(bad, "eve.e", job, 30, kind="check", source="check"),
        RefereePaid(job, 7, 7),
    )
    books.judge(bad, "rejected")
    (found,) = recovered(books).jobs

    assert (found.check_budget, found.check_left) == (100, 100 - 20 - 7)


@pytest.mark.parametrize("settled", [False, True])
def test_the_reserve_is_less_what_was_issued(books: Bookmaker, settled: bool) -> None:
    """Whether or not the ledger has followed."""
    deposit(books.store.database, "reserve", 500, books.at)
    job = books.job()
    for state, amount in (("cleared", 10), ("rejected", 200), ("pending", 5)):
        lease = books.share("bob.b", job, amount % 7, amount % 7 + 1)
        books.commit(books.credit(lease, "bob.b", job, amount, kind="check", source="reserve"))
        if settled:
            books.settle()
        if state != "pending":
            books.judge(lease, state)

    assert recovered(books).reserve == 485
    books.settle()
    assert recovered(books).reserve == 485


@pytest.mark.parametrize("settled", [False, True])
def test_the_ledger_has_the_last_word_on_what_is_held(books: Bookmaker, settled: bool) -> None:
    job = books.job()
    books.judge(books.share("alice.a", job, 0, 40), "cleared")
    books.judge(books.share("eve.e", job, 40, 50), "cleared")
    books.commit(HeldForfeited("eve", "e", 10, 1, "offence", 1, books.at))
    for rig in ("alice.a", "eve.e"):
        books.trust(rig, held=999)
    if settled:
        books.settle()

    held = {trust.account: trust.held for trust in recovered(books).trust}
    assert held == {"alice": 40, "eve": 0}


def test_blocks_are_read_from_their_objects(books: Bookmaker, tmp_path: Path) -> None:
    job = books.job(blocks=(3,))
    write_block(
        tmp_path / "block",
        np.array([3, 2, 1], np.uint32),
        np.array([30, 20, 10], np.int64),
        np.array([2, 0, 1], np.uint32),
        np.zeros(6, np.uint32),
    )
    books.store.objects.put_file(f"blocks/{job}-0", tmp_path / "block")
    books.share("alice.a", job, 0, 1)
    (found,) = books.store.recover().jobs
    (block,) = found.open_blocks

    assert (block.lengths.dtype, block.lengths.tolist()) == (np.int32, [3, 2, 1])
    assert (block.works.dtype, block.works.tolist()) == (np.int64, [30, 20, 10])


def test_a_job_is_told_to_the_board_as_it_was_reserved(books: Bookmaker) -> None:
    job = books.job(blocks=(100,), unit=3)
    event = books.store.job_opened(job, 7.0)

    assert (event.at, event.rows, event.work, event.price) == (7.0, 100, 100, 3)
    assert (event.check_budget, event.row_bytes) == (9, ROW_BYTES)
    assert books.store.block_path(job, 0) == books.store.objects.local_path(f"blocks/{job}-0")
    with pytest.raises(StoreError, match="no job 99"):
        books.store.job_opened(99, 7.0)
    with pytest.raises(StoreError, match="no block 9"):
        books.store.block_path(job, 9)


def test_a_model_that_is_gone_is_named(books: Bookmaker) -> None:
    with books.store.database.write() as connection:
        connection.execute(
            insert(schema.job).values(
                id=50,
                account="carol",
                endpoint="/v1/embeddings",
                model="f" * 64,
                operation="embed",
                state="in_progress",
                created=1.0,
            )
        )
    with pytest.raises(StoreError, match=r"ffff.*inferpool model add"):
        books.store.job_opened(50, 1.0)


def test_suspects_and_recounts_come_back(books: Bookmaker) -> None:
    """With what the board needs of a rejected share: its segments and its digests."""
    job = books.job(blocks=(100,))
    open_lease = books.lease("alice.a", Segment(job, 0, 50, 60, Kind.ROW))
    rejected = books.share("alice.a", job, 0, 10)
    other = books.share("alice.a", job, 10, 20)
    books.judge(rejected, "rejected")
    books.judge(other, "rejected")
    books.commit(RecountBegun(rejected, 3), RecountBegun(other, 0), LeaseSuspected(open_lease))
    books.commit(RecountEnded(other))
    found = recovered(books)

    assert [(lease.lease, lease.suspect) for lease in found.leases] == [(open_lease, True)]
    (recount,) = found.recounts
    assert (recount.lease.lease, recount.row) == (rejected, 3)
    assert [part.rows for part in recount.lease.parts] == [10]
    assert [block.block for block in found.jobs[0].open_blocks] == [0]
