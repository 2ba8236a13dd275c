"""How fast groups become durable: ``python benchmarks/store_commit.py --folder FOLDER``.

A group is what gathers while the one before it is written: so many shares, each leased, delivered
in one part of 64 rows of 384 float32 values (96 KiB), credited and cleared. Also: settlement of
what was cleared, and a restart.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from sqlalchemy import insert

from pool.settlement import SettlementPolicy, settle
from pool.store import Group, Store, commit_group, schema
from pool.store.accounts import create_account
from pool.store.escrow import deposit, reserve_job
from shares.blocks import Kind, Segment
from shares.board.effects import (
    CheckDrawn,
    CreditEarned,
    LeaseEnded,
    LeaseIssued,
    PartAccepted,
    Record,
    ShareJudged,
    TrustChanged,
    Won,
)
from shares.money.price import price_of
from stratum.manifest import BLAKE2B, encode_manifest, manifest_digest

ROWS = 64
PART_BYTES = ROWS * 384 * 4
SECONDS = 4.0
MODEL = manifest_digest(encode_manifest(BLAKE2B))


def share(lease: int, payload: int) -> list[Record]:
    """All records of one share's life, as the board gives them."""
    start = lease * ROWS
    rig = ("alice", f"r{lease % 50}")
    return [
        LeaseIssued(
            lease, *rig, MODEL, "embed", (Segment(1, 0, start, start + ROWS, Kind.ROW),),
            ROWS, ROWS, ROWS, 1.0, 60.0,
        ),
        PartAccepted(
            lease, 0, 0, ROWS, payload, bytes(16 * ROWS), bytes(32), 1, 10_000, 1_000,
            1_000, "held", 200, 1, ((1, ROWS),), (), (3,), (), 2,
            (Won(1, 0, start, start + ROWS, 0),), 2.0,
        ),
        CreditEarned(lease, 0, 1, "row", "pay", *rig, ROWS, ROWS),
        CheckDrawn(lease, "rig", lease, 0, 1, 0, start + 3, 2.0),
        TrustChanged(*rig, lease, 1, 1, 1, 1, 0, 0, 0, 0.0, 1_000),
        LeaseEnded(lease, "done", "none", 3.0),
        ShareJudged(lease, "cleared", "window", False, 4.0),
    ]  # fmt: skip


def measure(folder: Path, shares: int) -> None:
    store = Store.open(folder)
    store.recover(lambda *_: (_ for _ in ()).throw(LookupError()))
    create_account(store.database, "carol", "customer", 0.0)
    deposit(store.database, "carol", 10**12, 0.0)
    with store.database.write() as connection:
        connection.execute(
            insert(schema.job).values(
                id=1, account="carol", endpoint="/v1/embeddings", operation="embed", model=MODEL,
                state="in_progress", created=0.0,
            )
        )  # fmt: skip
        price = price_of(10**9, unit=1, levy_ppm=30_000, fee_ppm=20_000)
        reserve_job(connection, 1, "carol", price, 0.0)
    payload = bytes(PART_BYTES)
    seconds: list[float] = []
    lease = 0
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        numbers = range(lease, lease + shares)
        group = Group(
            [record for number in numbers for record in share(number, number)],
            dict.fromkeys(numbers, payload),
        )
        lease += shares
        begun = time.perf_counter()
        commit_group(store, group)
        seconds.append(time.perf_counter() - begun)
    total = sum(seconds)
    begun = time.perf_counter()
    settled = settle(store.database, SettlementPolicy(), 5.0)
    settling = time.perf_counter() - begun
    ordered = sorted(seconds)
    print(
        f"{shares:>4} shares a group: median {statistics.median(seconds) * 1e3:7.2f} ms, "
        f"p99 {ordered[int(len(ordered) * 0.99)] * 1e3:7.2f} ms, "
        f"{lease / total:8.0f} shares/s, {7 * lease / total:8.0f} records/s, "
        f"{lease * PART_BYTES / total / 1e6:6.1f} MB/s; "
        f"settled {settled.credits / settling:7.0f} credits/s"
    )
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to write its files")
    parser.add_argument("--short", action="store_true", help="the largest groups only")
    options = parser.parse_args()
    for shares in (64,) if options.short else (1, 4, 16, 64):
        folder = Path(tempfile.mkdtemp(dir=options.folder))
        try:
            measure(folder, shares)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
