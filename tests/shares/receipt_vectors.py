"""The examples behind docs/receipt-vectors.json.

Run as a script to write it anew; the tests fail while it differs.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shares.receipts import FIRST_PREVIOUS, Leaf, Root, tree_paths, tree_root

FILE = Path(__file__).resolve().parents[2] / "docs" / "receipt-vectors.json"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIZES = (1, 2, 3, 5, 8)
_BEGAN = 1_750_000_000_000_000  # microseconds since the epoch


def leaf(number: int) -> Leaf:
    """Leaves with small and large numbers, and accounts of any length."""
    return Leaf(
        lease=(1 << 33) * number + 7,
        part=number % 3,
        rows=1 + 100 * number,
        work=(1 << 40) * number + 1,
        at=_BEGAN + 1_000 * number,
        digest=sha256(f"part {number}".encode()).digest(),
        account="a" * (1 + 4 * number),
    )


def document() -> dict[str, Any]:
    """All of it, as JSON has it. Bytes are hex."""
    leaves = [leaf(number) for number in range(max(SIZES))]
    trees, roots = [], []
    previous = FIRST_PREVIOUS
    for sequence, size in enumerate(SIZES, 1):
        hashes = [one.hashed() for one in leaves[:size]]
        top = tree_root(hashes)
        paths = tree_paths(hashes, range(size))
        trees.append(
            {
                "leaves": list(range(size)),
                "root": top.hex(),
                "paths": [[one.hex() for one in path] for path in paths],
            }
        )
        root = Root(sequence, size, _BEGAN + 1_000_000 * sequence, top, previous)
        roots.append(_signed(root))
        previous = root.link()
    return {
        "public_key": KEY.public_key().public_bytes_raw().hex(),
        "leaves": [
            {
                "lease": one.lease,
                "part": one.part,
                "rows": one.rows,
                "work": one.work,
                "at": one.at,
                "digest": one.digest.hex(),
                "account": one.account,
                "hash": one.hashed().hex(),
            }
            for one in leaves
        ],
        "trees": trees,
        "roots": roots,
        "refused": _refused(trees, roots),
    }


def _signed(root: Root) -> dict[str, Any]:
    return {
        "sequence": root.sequence,
        "leaves": root.leaves,
        "at": root.at,
        "root": root.root.hex(),
        "previous": root.previous.hex(),
        "message": root.message().hex(),
        "signature": KEY.sign(root.message()).hex(),
    }


def _refused(trees: list[dict[str, Any]], roots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Claims that a leaf is under a root, all of them wrong."""
    five = trees[3]
    path = five["paths"][2]
    claim = {"leaf": 2, "index": 2, "leaves": 5, "path": path, "root": five["root"]}
    changed = [*path[:-1], path[-1][:-1] + ("0" if path[-1][-1] != "0" else "1")]
    return [
        claim | {"why": "another leaf", "leaf": 3},
        claim | {"why": "another place", "index": 3},
        claim | {"why": "a place outside the tree", "index": 5},
        claim | {"why": "a tree of another size", "leaves": 4},
        claim | {"why": "a sibling is missing", "path": path[:-1]},
        claim | {"why": "a sibling too many", "path": [*path, path[0]]},
        claim | {"why": "a bit of a sibling is wrong", "path": changed},
        claim | {"why": "another root", "root": roots[4]["root"]},
    ]


def text() -> str:
    """As the file holds it."""
    return json.dumps(document(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
