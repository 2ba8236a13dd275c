"""What receipts cost a pool: ``python benchmarks/receipts.py [--short]``.

The seal of a commit group (its leaves hashed, the root signed and written, a row for each part)
for groups of several sizes, beside what no implementation could do without: the SHA-256 of leaves
and nodes, and one Ed25519 signature. And what a rig needs to check one receipt.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import insert

from pool.store import Store, schema
from pool.store.receipts import seal
from shares.board.effects import CreditEarned, PartAccepted
from shares.receipts import (
    FIRST_PREVIOUS,
    Leaf,
    Receipt,
    Root,
    SignedRoot,
    check,
    tree_paths,
    tree_root,
)

GROUPS = (1, 8, 64, 512)


def _part(lease: int) -> PartAccepted:
    return PartAccepted(
        lease, 0, 0, 64, 0, bytes(16 * 64), sha256(bytes([lease % 256])).digest(), 1, 10_000, 1_000,
        1_000, "held", 200, 1, ((1, 64),), (), (3,), (), 2, (), 2.0,
    )  # fmt: skip


def _leases(store: Store, numbers: range) -> None:
    facts = {
        "account": "alice", "rig": "r", "model": "m", "operation": "embed", "segments": b"\x90",
        "rows": 64, "work": 64, "difficulty": 64, "issued": 1.0, "deadline": 60.0, "state": "done",
        "verdict": "accepted",
    }  # fmt: skip
    with store.database.write() as connection:
        connection.execute(insert(schema.lease), [facts | {"id": number} for number in numbers])


def _seconds(work: Callable[[], object], times: int) -> float:
    """The median of some runs."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def measure(folder: Path, times: int) -> None:
    store = Store.open(folder)
    store.recover(lambda *_: (_ for _ in ()).throw(LookupError()))
    lease = 0
    print("parts a group   seal, ms   ms a part   hashes, ms   signature, ms   seal / these")
    for size in GROUPS:
        sealed = []
        for _ in range(times):
            parts = [_part(lease + 1 + number) for number in range(size)]
            lease += size
            _leases(store, range(parts[0].lease, lease + 1))
            earned = [
                CreditEarned(part.lease, 0, 1, "row", "pay", "alice", "r", 64, 64) for part in parts
            ]
            with store.database.write() as connection:
                began = time.perf_counter()
                seal(connection, store.signer, parts, earned)
                sealed.append(time.perf_counter() - began)
        taken = statistics.median(sealed)
        leaf = Leaf(1, 0, 64, 64, 1, bytes(32), "alice").hashed()
        block, node = bytes(85), bytes(65)

        def hashes(count: int = size, block: bytes = block, node: bytes = node) -> None:
            for _ in range(count):
                sha256(block).digest()
                sha256(node).digest()

        hashing = _seconds(hashes, times)
        signing = _seconds(lambda leaf=leaf: store.signer.sign(leaf), times)
        print(
            f"{size:13}   {1e3 * taken:8.2f}   {1e3 * taken / size:9.3f}   {1e3 * hashing:10.3f}"
            f"   {1e3 * signing:13.3f}   {taken / (hashing + signing):12.1f}"
        )
    leaves = [Leaf(n, 0, 64, 64, n, bytes(32), "alice") for n in range(1, GROUPS[-1] + 1)]
    hashes_of = [leaf.hashed() for leaf in leaves]
    root = Root(1, len(leaves), len(leaves), tree_root(hashes_of), FIRST_PREVIOUS)
    signed = SignedRoot(root, store.signer.sign(root.message()))
    paths = tree_paths(hashes_of, range(len(leaves)))
    receipts = [
        Receipt(leaf, index, path, signed)
        for index, (leaf, path) in enumerate(zip(leaves, paths, strict=True))
    ]
    key = Ed25519PublicKey.from_public_bytes(store.signer.public_key)

    def verify(signature: bytes, message: bytes) -> bool:
        key.verify(signature, message)
        return True

    began = time.perf_counter()
    verdict = check(receipts, [signed], verify)
    taken = time.perf_counter() - began
    if verdict.failures:
        raise SystemExit(verdict.failures[0])
    print(f"checking {len(receipts):,} receipts: {1e6 * taken / len(receipts):.0f} µs each")
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a second; its figures mean nothing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), 3 if arguments.short else 40)


if __name__ == "__main__":
    main()
