"""A replay bundle: rows that were found wrong, to be computed again by anyone.

JSON, as ``GET /api/v1/accounts/me/rejections/{lease}/bundle`` gives it::

    {"object": "replay_bundle", "version": 1, "lease": …, "user": "ACCOUNT.RIG",
     "model": the manifest's SHA-256, "manifest": its text, "operation": …,
     "rows": [{"row": of the share, "tokens": [ids], "given": digest, "expected": digest,
               "result": base64}]}

Digests are those of ``shares.results.row_digests``, in hex: ``given`` of what the rig delivered,
``expected`` of what the pool's referee computed. ``result`` is what the rig delivered itself, where
honest results are not the same bits; it is empty where they are.
"""

from __future__ import annotations

import msgspec

from shares.nearness import Nearness
from shares.results import DIGEST_BYTES

BUNDLE_VERSION = 1


class BundleRow(msgspec.Struct, frozen=True):
    """One row: where it was in the share, its token ids, two digests in hex; and its bytes, where
    digests are not enough."""

    row: int
    tokens: list[int]
    given: str
    expected: str
    result: bytes = b""


class Bundle(msgspec.Struct, frozen=True):
    """See the module."""

    version: int
    lease: int
    user: str
    model: str
    manifest: str
    operation: str
    rows: list[BundleRow]


def read_bundle(data: bytes) -> Bundle:
    """Decode a bundle. Raises ``ValueError`` naming what is wrong."""
    bundle = msgspec.json.decode(data, type=Bundle)
    if bundle.version != BUNDLE_VERSION:
        raise ValueError(f"version is {bundle.version}; this inferpool reads {BUNDLE_VERSION}")
    if not bundle.rows:
        raise ValueError("rows is empty: there is nothing to compute")
    for row in bundle.rows:
        for name in ("given", "expected"):
            text = getattr(row, name)
            if len(text) != 2 * DIGEST_BYTES or not set(text) <= set("0123456789abcdef"):
                raise ValueError(f"{name} of row {row.row} must be {DIGEST_BYTES} bytes in hex")
        if not row.tokens or any(not 0 <= token < 1 << 32 for token in row.tokens):
            raise ValueError(f"tokens of row {row.row} must be one or more ids below 2^32")
    return bundle


# What a replay of one row says.
AS_EXPECTED = "as expected"  # this machine agrees with the referee
AS_GIVEN = "as given"  # this machine agrees with the rig
NEITHER = "neither"


def agrees(row: BundleRow, computed: bytes) -> str:
    """Whom a machine that computed ``computed`` (a digest) agrees with, to the bit."""
    found = computed.hex()
    if found == row.expected:
        return AS_EXPECTED
    return AS_GIVEN if found == row.given else NEITHER


def agrees_nearly(nearness: Nearness) -> str:
    """Whom a machine agrees with whose result is so near to what was given."""
    if nearness is Nearness.FAR:
        return AS_EXPECTED
    return AS_GIVEN if nearness is Nearness.ALIKE else NEITHER
