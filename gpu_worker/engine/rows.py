"""Checking rows before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.errors import EngineError


def check_rows(
    operation: str,
    operations: Sequence[str],
    lengths: NDArray[np.uint32],
    tokens: NDArray[np.uint32],
    rows_per_chunk: int,
    max_tokens: int,
    vocabulary: int,
) -> None:
    """Raise ``EngineError`` naming the first row that is wrong, if any."""
    if operation not in operations:
        raise EngineError(
            f"operation {operation!r} is not supported; supported: {', '.join(operations)}"
        )
    if rows_per_chunk < 1:
        raise EngineError(f"rows_per_chunk is {rows_per_chunk}; it must be at least 1")
    for name, array in (("lengths", lengths), ("tokens", tokens)):
        if array.ndim != 1 or array.dtype != np.uint32:
            raise EngineError(f"{name} must be a one-dimensional uint32 array")
    if not lengths.size and not tokens.size:
        return
    total = int(lengths.sum(dtype=np.uint64))  # exact: integers
    if total != tokens.size:
        raise EngineError(f"lengths add up to {total} tokens, but {tokens.size} were given")
    if lengths.min() == 0:
        raise EngineError(f"row {int(lengths.argmin())} is empty; a row needs at least one token")
    if lengths.max() > max_tokens:
        row = int(lengths.argmax())
        raise EngineError(
            f"row {row} has {int(lengths[row])} tokens; this model takes at most {max_tokens}"
        )
    largest = int(tokens.max())
    if largest >= vocabulary:
        row = int(np.searchsorted(np.cumsum(lengths, dtype=np.int64), tokens.argmax(), "right"))
        raise EngineError(
            f"row {row} holds token {largest}; this model's vocabulary ends at {vocabulary - 1}"
        )
