"""How attention on a CPU is cut into pieces that stay in the caches."""

from __future__ import annotations

from typing import Final

import numpy as np

from gpu_worker.engine.ops import Array, Group

PAIRS: Final = 65_536
"""Query-key pairs that are worked on at a time."""
NO_TABLE: Final = np.empty((0, 1), np.float32)
NO_POSITIONS: Final = np.empty((0, 1, 1), np.float32)


def blocks_of_pairs(rows: int, heads: int, length: int) -> list[tuple[slice, slice]]:
    """Slices of rows and of queries with about ``PAIRS`` pairs each, over all heads."""
    queries = min(length, max(1, PAIRS // (length * heads)))
    step = max(1, PAIRS // (length * heads * queries)) if queries == length else 1
    return [
        (slice(r, min(r + step, rows)), slice(q, min(q + queries, length)))
        for r in range(0, rows, step)
        for q in range(0, length, queries)
    ]


def seen_keys(queries: slice, length: int, window: int) -> slice:
    """The keys that any of these queries sees; ``window`` 0 for all."""
    if window == 0:
        return slice(0, length)
    return slice(max(0, queries.start - window), min(length, queries.stop + window))


def by_head(x: Array, group: Group, parts: int, heads: int) -> Array:
    """A group's rows of ``x`` [tokens, parts·heads·d] as a view [parts, rows, heads, length, d]."""
    own = x[group.start : group.start + group.rows * group.length]
    return own.reshape(group.rows, group.length, parts, heads, -1).transpose(2, 0, 3, 1, 4)
