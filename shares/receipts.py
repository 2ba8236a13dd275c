"""Receipts: what a pool accepted, in Merkle trees whose signed roots form a chain.

A tree is that of RFC 6962 (2.1): SHA-256 with a different first byte for leaves and for nodes, a
node without a sibling goes up unchanged. Integers are unsigned and big-endian.

    leaf     00 "inferpool.leaf.1"  lease 8, part 4, rows 4, work 8, at 8, digest 32, account
    node     01 left 32, right 32
    message  02 "inferpool.root.1"  sequence 8, leaves 4, at 8, root 32, previous 32

The Ed25519 signature is over the message; ``previous`` is the SHA-256 of the message before, and
zeros in the first. Times are microseconds since the epoch by the pool's clock; ``account`` is
UTF-8 to the end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Any

HASH_BYTES = 32
FIRST_PREVIOUS = bytes(HASH_BYTES)  # what the first root names as the one before

_LEAF = b"\x00inferpool.leaf.1"
_NODE = b"\x01"
_ROOT = b"\x02inferpool.root.1"

Verify = Callable[[bytes, bytes], bool]  # (signature, message): whether the pool's key made it


@dataclass(frozen=True, slots=True)
class Leaf:
    """One accepted part. ``work``: what was credited with it; ``digest``: of its row digests."""

    lease: int
    part: int
    rows: int
    work: int
    at: int  # microseconds
    digest: bytes
    account: str

    def hashed(self) -> bytes:
        """The leaf's hash in the tree."""
        numbers = struct.pack(">QIIQQ", self.lease, self.part, self.rows, self.work, self.at)
        return sha256(_LEAF + numbers + self.digest + self.account.encode()).digest()


@dataclass(frozen=True, slots=True)
class Root:
    """What is signed once a commit group."""

    sequence: int  # from 1, without gaps
    leaves: int
    at: int  # microseconds
    root: bytes
    previous: bytes

    def message(self) -> bytes:
        """The bytes that the signature is over."""
        numbers = struct.pack(">QIQ", self.sequence, self.leaves, self.at)
        return _ROOT + numbers + self.root + self.previous

    def link(self) -> bytes:
        """What the next root names as ``previous``."""
        return sha256(self.message()).digest()


@dataclass(frozen=True, slots=True)
class SignedRoot:
    """A root and its signature, 64 bytes."""

    root: Root
    signature: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """A leaf, its place, the hashes beside its way up, and the root as it was signed."""

    leaf: Leaf
    index: int
    path: tuple[bytes, ...]
    signed: SignedRoot


@dataclass(slots=True)
class Verdict:
    """What ``check`` found. ``failures``: a sentence each, about a root or a leaf."""

    receipts: int = 0
    roots: int = 0
    failures: list[str] = field(default_factory=list)
    totals: dict[str, tuple[int, int]] = field(default_factory=dict)  # {account: (rows, work)}


def tree_root(hashes: Sequence[bytes]) -> bytes:
    """The root over at least one leaf hash."""
    return _levels(hashes)[-1][0]


def tree_paths(hashes: Sequence[bytes], wanted: Sequence[int]) -> list[tuple[bytes, ...]]:
    """For each wanted leaf the siblings on its way up, lowest first."""
    levels = _levels(hashes)
    paths = []
    for leaf in wanted:
        index = leaf
        path = []
        for level in levels[:-1]:
            if index ^ 1 < len(level):
                path.append(level[index ^ 1])
            index >>= 1
        paths.append(tuple(path))
    return paths


def root_of_path(leaf: bytes, index: int, leaves: int, path: Sequence[bytes]) -> bytes | None:
    """The root that a path leads to; ``None`` when a path there cannot have this length."""
    if not 0 <= index < leaves:
        return None
    siblings = iter(path)
    current, last = leaf, leaves - 1
    while last:
        if index ^ 1 <= last:
            sibling = next(siblings, None)
            if sibling is None:
                return None
            pair = sibling + current if index & 1 else current + sibling
            current = sha256(_NODE + pair).digest()
        index >>= 1
        last >>= 1
    return current if next(siblings, None) is None else None


def check(receipts: Sequence[Receipt], roots: Sequence[SignedRoot], verify: Verify) -> Verdict:
    """Compare receipts with the published roots, given in their order.

    Every root must be signed and name the one before; there may be no gap. Rows and work are
    summed over the leaves that hold; a leaf that comes twice counts once.
    """
    verify = cache(verify)  # many receipts come under one root
    verdict = Verdict(receipts=len(receipts), roots=len(roots))
    published = _check_chain(roots, verify, verdict.failures)
    seen: set[tuple[int, int]] = set()
    for receipt in receipts:
        leaf, root = receipt.leaf, receipt.signed.root
        fault = _fault(receipt, published, verify)
        if fault is not None:
            name = f"lease {leaf.lease} part {leaf.part} of {leaf.account} (root {root.sequence})"
            verdict.failures.append(f"{name}: {fault}")
        elif (leaf.lease, leaf.part) not in seen:
            seen.add((leaf.lease, leaf.part))
            rows, work = verdict.totals.get(leaf.account, (0, 0))
            verdict.totals[leaf.account] = (rows + leaf.rows, work + leaf.work)
    return verdict


@dataclass(frozen=True, slots=True)
class Pay:
    """What the pool says a part earned. ``work`` in units of work, ``price`` in units of money a
    unit of work, ``amount`` in units of money."""

    lease: int
    part: int
    work: int
    price: int
    amount: int
    state: str  # pending | cleared | rejected | forfeited


def check_pay(leaves: Sequence[Leaf], pays: Sequence[Pay], failures: list[str]) -> dict[str, int]:
    """Compare leaves with what was credited for them; returns {state: units}.

    A part's credits carry at least its leaf's work (what is credited later is in no leaf), and
    each amount is its work times its price.
    """
    credited: dict[tuple[int, int], int] = {}
    sums: dict[str, int] = {}
    for pay in pays:
        key = (pay.lease, pay.part)
        credited[key] = credited.get(key, 0) + pay.work
        sums[pay.state] = sums.get(pay.state, 0) + pay.amount
        if pay.amount != pay.work * pay.price:
            failures.append(
                f"lease {pay.lease} part {pay.part}: {pay.amount} units for {pay.work} of work "
                f"at {pay.price} each, not {pay.work * pay.price}"
            )
    for leaf in {(leaf.lease, leaf.part): leaf for leaf in leaves}.values():
        work = credited.get((leaf.lease, leaf.part), 0)
        if work < leaf.work:
            failures.append(
                f"lease {leaf.lease} part {leaf.part}: {work} of work is credited, "
                f"its leaf says {leaf.work}"
            )
    return sums


def check_delivered(
    leaves: Sequence[Leaf], delivered: Sequence[tuple[int, int, int]], failures: list[str]
) -> int:
    """Whether each delivered part (lease, part, rows) has its leaf; returns how many there are."""
    known = {(leaf.lease, leaf.part): leaf.rows for leaf in leaves}
    parts = sorted(set(delivered))
    for lease, part, rows in parts:
        found = known.get((lease, part))
        if found is None:
            failures.append(
                f"lease {lease} part {part}: was acknowledged, and has no receipt here: "
                "fetch the receipts once more"
            )
        elif found != rows:
            failures.append(f"lease {lease} part {part}: {rows} rows, its leaf says {found}")
    return len(parts)


def _check_chain(
    roots: Sequence[SignedRoot], verify: Verify, failures: list[str]
) -> dict[int, SignedRoot]:
    sound = {}
    before: Root | None = None
    for signed in roots:
        root = signed.root
        expected = 1 if before is None else before.sequence + 1
        previous = FIRST_PREVIOUS if before is None else before.link()
        if root.sequence != expected:
            failures.append(f"root {expected}: missing, {root.sequence} comes in its place")
        elif root.previous != previous:
            failures.append(f"root {root.sequence}: does not follow from the one before")
        if verify(signed.signature, root.message()):
            sound[root.sequence] = signed
        else:
            failures.append(f"root {root.sequence}: the signature is wrong")
        before = root
    return sound


def _fault(receipt: Receipt, published: Mapping[int, SignedRoot], verify: Verify) -> str | None:
    root = receipt.signed.root
    if not verify(receipt.signed.signature, root.message()):
        return "the signature of its root is wrong"
    found = root_of_path(receipt.leaf.hashed(), receipt.index, root.leaves, receipt.path)
    if found != root.root:
        return "leaf and path do not lead to its root"
    if root.sequence not in published:
        return "its root is not among the published ones"
    if published[root.sequence].root != root:
        return "another root is published in the place of its own, both signed: keep them as proof"
    return None


def _levels(hashes: Sequence[bytes]) -> list[list[bytes]]:
    levels = [list(hashes)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        above = [
            sha256(_NODE + below[i] + below[i + 1]).digest() for i in range(0, len(below) - 1, 2)
        ]
        if len(below) % 2:
            above.append(below[-1])
        levels.append(above)
    return levels


# ── as JSON ───────────────────────────────────────────────────────────────────


def root_json(signed: SignedRoot) -> dict[str, Any]:
    """A signed root in plain values, bytes in hex."""
    root = signed.root
    return {
        "sequence": root.sequence,
        "leaves": root.leaves,
        "at": root.at,
        "root": root.root.hex(),
        "previous": root.previous.hex(),
        "signature": signed.signature.hex(),
    }


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """A receipt in plain values, bytes in hex."""
    leaf = receipt.leaf
    return {
        "lease": leaf.lease,
        "part": leaf.part,
        "rows": leaf.rows,
        "work": leaf.work,
        "at": leaf.at,
        "digest": leaf.digest.hex(),
        "account": leaf.account,
        "index": receipt.index,
        "path": [sibling.hex() for sibling in receipt.path],
        "root": root_json(receipt.signed),
    }


def root_from_json(value: Mapping[str, Any]) -> SignedRoot:
    """The opposite of ``root_json``. Raises ``ValueError`` for anything else."""
    root = Root(
        _number(value, "sequence", 8),
        _number(value, "leaves", 4),
        _number(value, "at", 8),
        _hash(value, "root"),
        _hash(value, "previous"),
    )
    return SignedRoot(root, _hash(value, "signature", 64))


def receipt_from_json(value: Mapping[str, Any]) -> Receipt:
    """The opposite of ``receipt_json``. Raises ``ValueError`` for anything else."""
    account, path, root = value.get("account"), value.get("path"), value.get("root")
    if not isinstance(account, str) or not isinstance(path, list) or not isinstance(root, dict):
        raise ValueError("account must be a text, path a list and root an object")  # noqa: TRY004
    leaf = Leaf(
        _number(value, "lease", 8),
        _number(value, "part", 4),
        _number(value, "rows", 4),
        _number(value, "work", 8),
        _number(value, "at", 8),
        _hash(value, "digest"),
        account,
    )
    siblings = tuple(_hash({"path": one}, "path") for one in path)
    return Receipt(leaf, _number(value, "index", 4), siblings, root_from_json(root))


def pay_from_json(value: Mapping[str, Any]) -> Pay:
    """A credit as the pool lists it. Raises ``ValueError`` for anything else."""
    state = value.get("state")
    if not isinstance(state, str):
        raise ValueError("state must be a text")  # noqa: TRY004
    return Pay(
        _number(value, "lease", 8),
        _number(value, "part", 4),
        _number(value, "work", 8),
        _number(value, "price", 8),
        _number(value, "amount", 8),
        state,
    )


def delivered_from_json(value: Mapping[str, Any]) -> tuple[int, int, int]:
    """A part that a rig wrote down: (lease, part, rows). Raises ``ValueError`` otherwise."""
    return _number(value, "lease", 8), _number(value, "part", 4), _number(value, "rows", 4)


def _number(value: Mapping[str, Any], name: str, size: int) -> int:
    found = value.get(name)
    if type(found) is not int or not 0 <= found < 1 << (8 * size):
        raise ValueError(f"{name} must be a whole number below 2^{8 * size}")
    return found


def _hash(value: Mapping[str, Any], name: str, size: int = HASH_BYTES) -> bytes:
    found = value.get(name)
    try:
        data = bytes.fromhex(found) if isinstance(found, str) else b""
    except ValueError:
        data = b""
    if len(data) != size:
        raise ValueError(f"{name} must be {size} bytes in hex")
    return data
