"""Results as they are kept, and their digests: what equality is decided on.

A part's record is the values of all its rows, one after the other, then the positions in the part
of the rows that failed (the model gave a value that is not finite), uint32, little-endian.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

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


class RowResult(NamedTuple):
    """One row's result; the bytes of a row that failed are zero."""

    data: bytes
    failed: bool


def part_record(data: memoryview, failed: Sequence[int]) -> bytes:
    """The record of a part whose rows' values are ``data``."""
    return bytes(data) + np.asarray(failed, "<u4").tobytes()


def split_record(record: bytes, rows: int, row_bytes: int) -> tuple[memoryview, frozenset[int]]:
    """The values of a record's ``rows`` rows, and the positions of those that failed.

    Raises ``ValueError`` when it does not hold so many rows.
    """
    values = rows * row_bytes
    if len(record) < values or (len(record) - values) % 4:
        raise ValueError(f"{len(record)} bytes do not hold {rows} rows of {row_bytes} bytes")
    failed = np.frombuffer(record, dtype="<u4", offset=values)
    return memoryview(record)[:values], frozenset(failed.tolist())


def rows_of(record: bytes, rows: int, row_bytes: int) -> tuple[RowResult, ...]:
    """Every row of a record. Raises ``ValueError`` as ``split_record`` does."""
    return tuple(row_of(record, rows, row_bytes, position) for position in range(rows))


def row_of(record: bytes, rows: int, row_bytes: int, position: int) -> RowResult:
    """One row of a record. Raises ``ValueError`` as ``split_record`` does."""
    values, failed = split_record(record, rows, row_bytes)
    start = position * row_bytes
    return RowResult(bytes(values[start : start + row_bytes]), position in failed)


def part_digest(digests: bytes) -> bytes:
    """Digest a part: BLAKE2b-256 over its rows' digests. The sampling draw is bound to it."""
    return blake2b(digests, digest_size=32).digest()
