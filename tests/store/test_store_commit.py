"""Group commit: every record arrives, in one piece, in the right order."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from bookmaker import MODEL, Bookmaker, values
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from pool.store import Group, Store, commit_group, schema
from shares.blocks import Kind, Segment
from shares.board.effects import (
    BlockCleared,
    CheckDrawn,
    CheckEnded,
    HeldForfeited,
    JobClosed,
    LeaseEnded,
    LeaseIssued,
    Record,
    RefereePaid,
    ShareJudged,
    TrustChanged,
    Won,
)

SEGMENT = Segment(1, 0, 0, 10, Kind.ROW)


def rows(store: Store, table) -> list[dict]:
    with store.database.read() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def only(store: Store, table) -> dict:
    (row,) = rows(store, table)
    return row


def test_a_lease_is_open_and_without_a_verdict(books: Bookmaker) -> None:
    books.lease("alice.a", SEGMENT, Segment(1, 0, 20, 22, Kind.CHECK))
    row = only(books.store, schema.lease)

    assert (row["state"], row["verdict"], row["rows"]) == ("open", "open", 12)
    assert msgspec.msgpack.decode(row["segments"]) == [
        [1, 0, 0, 10, "row"],
        [1, 0, 20, 22, "check"],
    ]


def test_a_part_is_named_only_with_its_bytes(books: Bookmaker) -> None:
    job = books.job()
    lease = books.share("alice.a", job, 0, 10)
    part = only(books.store, schema.part)
    won = only(books.store, schema.won)

    stored = books.store.log.read(part["log"], part["offset"], part["bytes"])
    assert stored == values(lease, 0, 10)
    assert msgspec.msgpack.decode(part["check_rows"]) == [0]
    assert msgspec.msgpack.decode(part["least"]) == [[0, part["rows"], 250_000]]
    assert (won["job"], won["block"], won["start"], won["stop"]) == (job, 0, 0, 10)
    assert only(books.store, schema.lease)["verdict"] == "accepted"
    credit = only(books.store, schema.credit)
    assert (credit["state"], credit["posted"], credit["at"]) == ("pending", None, books.at)


@pytest.mark.parametrize(
    ("verdict", "forfeit", "state"),
    [
        ("cleared", False, "cleared"),
        ("rejected", False, "rejected"),
        ("rejected", True, "forfeited"),
        ("void", False, "rejected"),
    ],
)
def test_a_verdict_moves_the_shares_credits(
    books: Bookmaker, verdict: str, forfeit: bool, state: str
) -> None:
    job = books.job()
    mine = books.share("alice.a", job, 0, 10)
    other = books.share("bob.b", job, 10, 20)
    books.at += 5
    books.judge(mine, verdict, forfeit=forfeit)

    lease = {row["id"]: row for row in rows(books.store, schema.lease)}
    assert (lease[mine]["verdict"], lease[mine]["forfeit"]) == (verdict, forfeit)
    assert lease[mine]["judged"] == books.at
    credit = {row["lease"]: row for row in rows(books.store, schema.credit)}
    assert (credit[mine]["state"], credit[mine]["judged"]) == (state, books.at)
    assert credit[other]["state"] == "pending"


def test_a_share_can_live_and_be_judged_within_one_group(books: Bookmaker) -> None:
    job = books.job()
    part, payloads = books.part_records(1, 0, 0, [Won(job, 0, 0, 10, 0)])
    lease = LeaseIssued(1, "a", "r", MODEL, "digest", (SEGMENT,), 10, 10, 10, 1.0, 2.0)
    group: list[Record] = [
        lease,
        part,
        books.credit(1, "a.r", job, 10),
        LeaseEnded(1, "done", "none", 3.0),
        ShareJudged(1, "cleared", "window", False, 4.0),
    ]
    books.commit(*group, payloads=payloads)

    row = only(books.store, schema.lease)
    assert (row["state"], row["verdict"], row["ended"]) == ("done", "cleared", 3.0)
    assert only(books.store, schema.credit)["state"] == "cleared"


def test_checks_are_drawn_and_ended(books: Bookmaker) -> None:
    books.commit(
        CheckDrawn(7, "rig", 1, 0, 1, 0, 5, 2.0), CheckDrawn(8, "referee", 1, 0, 1, 0, 6, 2.0)
    )
    books.commit(CheckEnded(7, "matched", "bob.b", 3.0))
    seven, eight = rows(books.store, schema.check)

    assert (seven["outcome"], seven["checker"], seven["ended"]) == ("matched", "bob.b", 3.0)
    assert (eight["by"], eight["row"], eight["outcome"]) == ("referee", 6, None)


def test_the_last_word_on_a_rig_counts(books: Bookmaker) -> None:
    def known(held: int) -> TrustChanged:
        return TrustChanged("alice", "a", held, 1, 2, 3, 4, 5, 6, 7, 8.0, 9, (("model", 10),))

    books.commit(known(1))
    books.commit(known(2), known(3))

    assert only(books.store, schema.trust)["held"] == 3
    assert only(books.store, schema.trust)["proved"] == {"model": 10}
    (found,) = books.store.recover(books.arrays).trust
    assert found.proved == (("model", 10),)


def test_blocks_jobs_forfeits_and_referee_runs_are_kept(books: Bookmaker) -> None:
    job = books.job(blocks=(10, 10))
    books.commit(
        BlockCleared(job, 1),
        JobClosed(job, "expired", 9.0),
        HeldForfeited("alice", "a", 5, 1, "offence", 1, 2.0),
        RefereePaid(job, 3, 4),
    )

    assert [row["cleared"] for row in rows(books.store, schema.block)] == [False, True]
    assert only(books.store, schema.job)["closed"] == "expired"
    assert only(books.store, schema.forfeit)["units"] == 5
    assert only(books.store, schema.referee_run)["amount"] == 4


def test_a_group_that_fails_leaves_nothing(books: Bookmaker) -> None:
    """All of a group or none of it; its bytes, named by nothing, are cut off by the next start."""
    job = books.job()
    part, payloads = books.part_records(99, 0, 0, [Won(job, 0, 0, 10, 0)])
    before = books.store.log.end
    lease = LeaseIssued(1, "a", "r", MODEL, "digest", (SEGMENT,), 10, 10, 10, 1.0, 2.0)
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        books.commit(lease, part, payloads=payloads)

    assert rows(books.store, schema.lease) == []
    folder = books.store.folder
    books.store.close()
    again = Store.open(folder, durable=False)
    assert again.claim() == 8 + 320
    assert again.log.end == before
    again.close()


def test_results_are_on_the_disk_before_anything_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a file that was filled up by the same group."""
    store = Store.open(tmp_path / "durable", roll_bytes=700)
    store.claim()
    books = Bookmaker(store)
    books.customer()
    job = books.job()
    synced: list[tuple[str, int]] = []  # (file, parts named when it was synced)
    real = os.fdatasync

    def fdatasync(file: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{file}")[-10:], len(rows(store, schema.part))))
        real(file)

    lease = books.lease("alice.a", SEGMENT)
    records: list[Record] = []
    payloads: dict[int, bytes] = {}
    for number in range(3):
        part, more = books.part_records(
            lease, number, 0, [Won(job, 0, 10 * number, 10 * number + 10, 0)]
        )
        records.append(part)
        payloads |= more
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    books.commit(*records, payloads=payloads)

    assert synced == [("000000.log", 0), ("000001.log", 0)]
    assert len(rows(store, schema.part)) == 3
    store.close()


def test_an_unknown_record_is_a_fault_of_ours(books: Bookmaker) -> None:
    class Surprise(Record):
        pass

    with pytest.raises(TypeError, match="Surprise"):
        commit_group(books.store, Group([Surprise()], {}))
