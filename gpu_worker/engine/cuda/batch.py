"""Packed rows as the kernels find them: one table of integers, uploaded in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.cuda.device import Array, Device
from gpu_worker.engine.ops import Batch, equal_lengths, row_positions, row_segments

GROUP = 32
"""Keys of a row that the attention kernels take at a time."""
QUERIES = 16
"""Queries of a row that one warp takes."""
STORED_GROUPS = 16
"""Groups whose scores a warp keeps in shared memory; beyond, they are computed in each pass."""
_CLASSES = (2, 4, 8, STORED_GROUPS)


@dataclass(frozen=True, slots=True)
class Run:
    """Units that are launched together. ``groups``: those that one of them sees at most."""

    first: int
    count: int
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaBatch(Batch):
    """Packed rows on the device. ``positions`` and ``segments`` are int32.

    ``starts`` and ``sizes`` int32 [rows]; ``key_groups`` int32 [groups, 2]: a group's first token
    and its tokens; ``units`` int32 [units, 4]: a row's first token, its length, the first of a
    warp's queries, the group of the row's first key.
    """

    starts: Array
    sizes: Array
    key_groups: Array
    units: Array
    runs: dict[int, tuple[Run, ...]] = field(default_factory=dict)
    """{window: what is launched}, as far as asked for."""

    def runs_of(self, window: int) -> tuple[Run, ...]:
        """The units in order, cut where rows of another size begin."""
        runs = self.runs.get(window)
        if runs is None:
            runs = self.runs[window] = _runs(np.asarray(self.lengths, np.int64), window)
        return runs


def upload_batch(
    device: Device, tokens: NDArray[np.uint32], lengths: Sequence[int], separator: int
) -> CudaBatch:
    """Take rows in; see ``Ops.batch``."""
    sizes = np.asarray(lengths, np.int64)
    starts = np.cumsum(sizes, dtype=np.int64) - sizes
    row_groups = -(-sizes // GROUP)
    first_group = np.cumsum(row_groups, dtype=np.int64) - row_groups
    row, place = _members(row_groups, first_group)
    groups = np.stack(
        [starts[row] + GROUP * place, np.minimum(GROUP, sizes[row] - GROUP * place)], axis=1
    )
    row_units = -(-sizes // QUERIES)
    row, place = _members(row_units, np.cumsum(row_units, dtype=np.int64) - row_units)
    units = np.stack([starts[row], sizes[row], QUERIES * place, first_group[row]], axis=1)
    parts: tuple[NDArray[Any], ...] = (
        tokens,
        row_positions(lengths),
        row_segments(tokens, lengths, separator),
        starts,
        sizes,
        groups,
        units,
    )
    table = device.upload(np.concatenate([part.reshape(-1).astype(np.int32) for part in parts]))
    ends = np.cumsum([part.size for part in parts], dtype=np.int64).tolist()
    found = [
        table[end - part.size : end].reshape(part.shape)
        for part, end in zip(parts, ends, strict=True)
    ]
    return CudaBatch(
        lengths=tuple(lengths),
        groups=equal_lengths(lengths),
        tokens=found[0].view(np.uint32),
        positions=found[1],
        segments=found[2],
        failed=device.zeros((tokens.shape[0],), np.bool_),
        starts=found[3],
        sizes=found[4],
        key_groups=found[5],
        units=found[6],
    )


def _members(
    counts: NDArray[np.int64], firsts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For rows that own ``counts`` things each: every thing's row and its place in the row."""
    row = np.repeat(np.arange(counts.size), counts)
    return row, np.arange(row.size) - firsts[row]


def _runs(sizes: NDArray[np.int64], window: int) -> tuple[Run, ...]:
    groups = -(-sizes // GROUP)
    if window:
        # Keys from `window` before the first of the queries to `window` behind the last.
        groups = np.minimum(groups, (2 * window + QUERIES + 30) // GROUP + 1)
    kind = np.searchsorted(_CLASSES, groups)
    units = -(-sizes // QUERIES)
    cuts = [0, *(np.flatnonzero(np.diff(kind)) + 1).tolist(), sizes.size]
    runs, first = [], 0
    for start, stop in pairwise(cuts):
        count = int(units[start:stop].sum(dtype=np.int64))
        runs.append(Run(first, count, int(groups[start:stop].max())))
        first += count
    return tuple(runs)
