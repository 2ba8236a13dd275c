"""Blocks and segments: how a job's rows are named once they are packed.

Inside a block rows are sorted by length, longest first; a *row* in a segment is a position in
that order. The block's stored permutation leads back to the customer's order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

MAX_BLOCK_ROWS = 16_384
MAX_BLOCK_INPUT_BYTES = 64 << 20
MAX_BLOCK_RESULT_BYTES = 64 << 20


class Kind(StrEnum):
    """Why a row is in a share. Never on the wire."""

    ROW = "row"  # computed for the customer
    HEDGE = "hedge"  # a second lease of a row that a slower rig still holds
    CHECK = "check"  # a row of somebody else's accepted share, computed again


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows ``start`` to ``stop`` (exclusive) of one block, in a share for one reason."""

    job: int
    block: int
    start: int
    stop: int
    kind: Kind

    @property
    def rows(self) -> int:
        """How many rows."""
        return self.stop - self.start


def offsets_of(segments: Iterable[Segment]) -> tuple[int, ...]:
    """Row of the share where each segment begins, and where the last one ends."""
    return (0, *accumulate(segment.rows for segment in segments))


def pieces(
    segments: Sequence[Segment], first: int, stop: int, offsets: Sequence[int] | None = None
) -> Iterator[tuple[Segment, int, int, int]]:
    """The segments under rows ``first:stop`` of a share, each as (segment, start and stop inside
    its block, row of the share where it begins). ``offsets``: of ``offsets_of``, if at hand.
    """
    if first >= stop:
        return
    offsets = offsets_of(segments) if offsets is None else offsets
    begin = bisect_right(offsets, first) - 1
    for number in range(max(0, begin), len(segments)):
        segment, offset = segments[number], offsets[number]
        if offset >= stop:
            return
        low, high = max(first, offset), min(stop, offset + segment.rows)
        shift = segment.start - offset
        yield segment, low + shift, high + shift, low
