"""Arrays on the wire: NumPy dtype, shape and little-endian bytes; packed and checked here."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratum.errors import ArrayError
from stratum.messages import Array, Outcome, Rows

MAX_PART_BYTES = 1 << 20
"""Bytes of values that a part may have when it has more than one row."""
_UINT32 = "<u4"


def pack(values: NDArray[Any]) -> Array:
    """An array for the wire. Copies only what is not contiguous and little-endian already.

    The values must not change until the message is encoded. Numbers and booleans only.
    """
    if values.dtype.kind not in "biuf":
        raise ValueError(f"dtype {values.dtype} cannot be sent: use integers or floats")
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    flat = little.reshape(-1).view(np.uint8)
    return Array(little.dtype.str, values.shape, flat.data)


def unpack(
    array: Array,
    dtype: str,
    *,
    dimensions: int = 1,
    shape: tuple[int | None, ...] | None = None,
) -> NDArray[Any]:
    """A read-only view of the bytes as NumPy values, without a copy.

    ``dtype`` is the exact spelling expected, such as ``<f4`` or ``|u1``. ``dimensions`` is how
    many there must be; ``shape``, when given, says it instead, None standing for any size.
    Raises ``ArrayError`` with the reason ``wrong_dtype``, ``wrong_shape`` or ``wrong_length``.
    """
    if array.dtype != dtype:
        raise ArrayError("wrong_dtype", f"the dtype is {array.dtype!r} and must be {dtype!r}")
    wanted = shape if shape is not None else (None,) * dimensions
    fits = len(array.shape) == len(wanted) and all(
        want is None or have == want for have, want in zip(array.shape, wanted, strict=True)
    )
    if not fits:
        text = "[" + ", ".join("any" if size is None else str(size) for size in wanted) + "]"
        raise ArrayError("wrong_shape", f"the shape is {list(array.shape)} and must be {text}")
    item = np.dtype(dtype).itemsize
    size = prod(array.shape) * item
    if array.data.nbytes != size:
        raise ArrayError(
            "wrong_length",
            f"{array.data.nbytes} bytes: shape {list(array.shape)} of {dtype} takes {size}",
        )
    if size == 0:
        return np.zeros(array.shape, dtype)
    return np.frombuffer(array.data, dtype).reshape(array.shape)


def pack_rows(lengths: NDArray[Any], tokens: NDArray[Any]) -> Rows:
    """Rows for ``mining.notify``: ``lengths`` [rows] and ``tokens`` [sum(lengths)], as uint32.

    Raises ``ValueError`` when they do not fit together.
    """
    if len(lengths) and int(lengths.min()) < 1:
        raise ValueError("every row needs at least one token")
    if int(lengths.sum(dtype=np.int64)) != len(tokens):
        raise ValueError(f"{len(tokens)} tokens are not the sum of the rows' lengths")
    return Rows(pack(lengths.astype(_UINT32, copy=False)), pack(tokens.astype(_UINT32, copy=False)))


def unpack_rows(rows: Rows) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """``lengths`` uint32 [rows], ``tokens`` uint32 [sum(lengths)], both read-only.

    Raises ``ArrayError``: as ``unpack``, and ``wrong_length`` when a length is 0 or they do not
    add up to the number of tokens.
    """
    lengths = unpack(rows.lengths, _UINT32)
    tokens = unpack(rows.tokens, _UINT32)
    if len(lengths) and int(lengths.min()) < 1:
        raise ArrayError("wrong_length", "every row needs at least one token")
    if int(lengths.sum(dtype=np.int64)) != len(tokens):
        raise ArrayError(
            "wrong_length", f"{len(tokens)} tokens are not the sum of the rows' lengths"
        )
    return lengths, tokens


def pack_outcome(values: NDArray[Any], failed: tuple[int, ...] = ()) -> Outcome:
    """A part's result: ``values`` [rows, width]; rows in ``failed`` must be zero."""
    return Outcome(pack(values), failed)


def unpack_outcome(
    outcome: Outcome, dtype: str, width: int
) -> tuple[NDArray[Any], tuple[int, ...]]:
    """``values`` [rows, width] (read-only) and the failed rows, structurally valid.

    Raises ``ArrayError``: as ``unpack``; ``wrong_shape`` for no rows at all; ``part_too_large``
    for several rows of more than ``MAX_PART_BYTES``; ``not_finite``; ``bad_failed_rows`` when they
    are not ascending positions in the part, or not zero.
    """
    values = unpack(outcome.values, dtype, shape=(None, width))
    rows = len(values)
    if rows == 0:
        raise ArrayError("wrong_shape", "a part has at least one row")
    if rows > 1 and values.nbytes > MAX_PART_BYTES:
        raise ArrayError(
            "part_too_large",
            f"{values.nbytes} bytes in {rows} rows: at most {MAX_PART_BYTES}, or one row",
        )
    before = -1
    for row in outcome.failed:
        if not before < row < rows:
            raise ArrayError(
                "bad_failed_rows", f"failed rows must ascend and be below {rows}, not {row}"
            )
        before = row
    if outcome.failed and values[list(outcome.failed)].view(np.uint8).any():
        raise ArrayError("bad_failed_rows", "a failed row's values must be zero bytes")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ArrayError("not_finite", "a value is NaN or infinite: report its row as failed")
    return values, outcome.failed
