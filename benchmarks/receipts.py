"""What receipts add to a commit, beside what hashing and signing cost on this processor at least.

``python benchmarks/receipts.py``: the seal of groups of 1 to 64 parts in a database of many, in
turns with the same groups' hashes and signature alone (the hardware's limit), and with the same
rows written by plain SQL (what the database needs).
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

from sqlalchemy import insert

from pool.store import Store, schema
from pool.store.receipts import seal
from shares.board.effects import CreditEarned, PartAccepted, Won
from shares.receipts import FIRST_PREVIOUS, Leaf, Root, tree_root

ROWS = 64
LEASES = 20_000


def parts_of(leases: range) -> list[PartAccepted]:
    """One part of each lease, as the board gives them."""
    return [
        PartAccepted(
            lease, 0, 0, ROWS, lease, bytes(16 * ROWS), sha256(b"%d" % lease).digest(), 1,
            10_000, 1_000, 1_000, "held", 200, 1, ((1, ROWS),), (), (3,), (), 2,
            (Won(1, 0, 0, ROWS, 0),), 2.0,
        )
        for lease in leases
    ]  # fmt: skip


def credits_of(leases: range) -> list[CreditEarned]:
    return [
        CreditEarned(lease, 0, 1, "row", "pay", "alice", f"r{lease % 50}", ROWS, ROWS)
        for lease in leases
    ]


def open_store(folder: Path) -> Store:
    """A store whose leases and keys are there; only their accounts matter here."""
    store = Store.open(folder)
    store.recover(lambda *_: (_ for _ in ()).throw(LookupError()))
    lease = {
        "account": "alice", "rig": "r1", "model": "00", "operation": "embed", "segments": b"",
        "rows": ROWS, "work": ROWS, "difficulty": ROWS, "issued": 1.0, "deadline": 60.0,
        "state": "done", "verdict": "cleared",
    }  # fmt: skip
    with store.database.write() as connection:
        connection.execute(insert(schema.lease), [{"id": n, **lease} for n in range(LEASES)])
    return store


def hashed_and_signed(store: Store, parts: list[PartAccepted]) -> None:
    """The arithmetic of a seal, without a database."""
    leaves = [
        Leaf(part.lease, part.part, part.rows, ROWS, 2_000_000, part.digest, "alice").hashed()
        for part in parts
    ]
    root = Root(1, len(leaves), 2_000_000, tree_root(leaves), FIRST_PREVIOUS)
    root.link()
    store.signer.sign(root.message())


def microseconds(function: Callable[[], object]) -> float:
    begun = time.perf_counter()
    function()
    return (time.perf_counter() - begun) * 1e6


def measure(store: Store, plain: sqlite3.Connection, size: int, turns: int, first: int) -> int:
    """Print a line; returns the first lease that was not used."""
    seals: list[float] = []
    limits: list[float] = []
    writes: list[float] = []
    for _ in range(turns):
        leases = range(first, first + size)
        first += size
        parts, earned = parts_of(leases), credits_of(leases)
        limits.append(microseconds(partial(hashed_and_signed, store, parts)))
        with store.database.write() as connection:
            seals.append(microseconds(partial(seal, connection, store.signer, parts, earned)))
        writes.append(microseconds(partial(write_plainly, plain, leases)))
        plain.commit()
    sealed, limit, written = map(statistics.median, (seals, limits, writes))
    print(
        f"{size:>4} parts a group: seal {sealed:7.0f} µs, {sealed / size:6.1f} µs a part; "
        f"hashes and signature {limit:6.0f} µs, plain SQL {written:6.0f} µs; "
        f"{sealed / (limit + written):4.2f} times both"
    )
    return first


def write_plainly(plain: sqlite3.Connection, leases: range) -> None:
    """What is read and written in a seal, as SQL alone."""
    marks = ",".join("?" * len(leases))
    plain.execute(f"SELECT id, account FROM lease WHERE id IN ({marks})", tuple(leases)).fetchall()
    found = plain.execute("SELECT * FROM root ORDER BY sequence DESC LIMIT 1").fetchone()
    sequence = found[0] + 1 if found else 1
    plain.execute(
        "INSERT INTO root (sequence, leaves, at, root, previous, signature) VALUES (?,?,?,?,?,?)",
        (sequence, len(leases), 1, bytes(32), bytes(32), bytes(64)),
    )
    plain.executemany(
        'INSERT INTO receipt (sequence, "index", lease, part, work, account) VALUES (?,?,?,?,?,?)',
        [(sequence, index, lease, 0, ROWS, "alice") for index, lease in enumerate(leases)],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to write its files")
    parser.add_argument("--short", action="store_true", help="a few turns")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        store = open_store(Path(folder) / "pool")
        other = open_store(Path(folder) / "plain")
        other.close()
        plain = sqlite3.connect(Path(folder) / "plain" / "inferpool.db")
        first = 0
        for size in (1, 4, 16, 64):
            first = measure(store, plain, size, 5 if options.short else 100, first)
        plain.close()
        store.close()


if __name__ == "__main__":
    main()
