"""Cutting rows into micro-batches: few enough tokens for the caches, enough for the products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOKENS = 1024
"""Tokens of a micro-batch; a longer row makes one by itself."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows ``start`` to ``stop`` and their tokens, ``first_token`` to ``last_token``."""

    start: int
    stop: int
    first_token: int
    last_token: int


def micro_batches(
    lengths: NDArray[np.uint32], threads: int, tokens: int = TOKENS
) -> Iterator[MicroBatch]:
    """Consecutive rows of about ``tokens`` tokens; fewer where that keeps all threads busy.

    The cut has no influence on any result.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if ends.size else 0
    batches = max(1, -(-total // tokens))
    batches = -(-batches // threads) * threads
    target = max(1, -(-total // batches))
    start = first = 0
    while start < ends.size:
        stop = int(np.searchsorted(ends, first + target, side="right"))
        stop = max(stop, start + 1)
        # Half a row too many is closer to the target than half a row too few.
        if stop < ends.size and 2 * (first + target) > int(ends[stop - 1]) + int(ends[stop]):
            stop += 1
        last = int(ends[stop - 1])
        yield MicroBatch(start, stop, first, last)
        start, first = stop, last
