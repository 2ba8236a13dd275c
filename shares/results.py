"""Digests of results: what equality is decided on, computed by the pool itself."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b

DIGEST_BYTES = 16
_OK = b"\x00"
_FAILED = b"\x01"


def row_digests(data: memoryview, row_bytes: int, failed: Collection[int] = ()) -> bytes:
    """Digest each row of a part's result.

    ``data`` holds the rows' bytes one after the other, ``row_bytes`` each; rows in ``failed``
    (positions in the part) have no result: the model gave a non-finite value, the same on every
    machine, and their bytes must be zero. Returns 16 bytes a row: BLAKE2b-128 over a status byte
    (0 done, 1 failed) and the row's bytes.
    """
    view = data.cast("B") if data.format != "B" else data
    if len(view) % row_bytes:
        raise ValueError(f"{len(view)} bytes are not a whole number of rows of {row_bytes} bytes")
    digests = []
    for row, offset in enumerate(range(0, len(view), row_bytes)):
        digest = blake2b(_FAILED if row in failed else _OK, digest_size=DIGEST_BYTES)
        digest.update(view[offset : offset + row_bytes])
        digests.append(digest.digest())
    return b"".join(digests)


def part_digest(digests: bytes) -> bytes:
    """Digest a part: BLAKE2b-256 over its rows' digests. The sampling draw is bound to it."""
    return blake2b(digests, digest_size=32).digest()
