"""Where a share's rows are: by row of the share, and by row of a block."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from shares.blocks import Kind, Segment
from shares.board.state import Lease, Rig
from shares.trust.standing import Standing


def _share(segments: list[Segment]) -> Lease:
    rows = sum(segment.rows for segment in segments)
    return Lease(
        lease=1,
        rig=Rig(("anna", "r"), Standing("anna", "r")),
        model="m",
        operation="embed",
        segments=tuple(segments),
        rows=rows,
        work=rows,
        difficulty=rows,
        issued=0.0,
        deadline=1.0,
        latest=1.0,
        direct=False,
        works=np.ones(rows, np.int64),
        left=rows,
    )


@st.composite
def _shares(draw: st.DrawFn) -> tuple[Lease, list[tuple[int, int, int]]]:
    """A share of runs of rows, in any order, and the row of a block that each of its rows is."""
    segments = []
    for job, block in draw(st.permutations([(1, 0), (1, 3), (2, 0)])):
        bounds = sorted(draw(st.sets(st.integers(0, 40), max_size=8)))
        pairs = list(zip(bounds[::2], bounds[1::2], strict=False))
        segments += [Segment(job, block, start, stop, Kind.ROW) for start, stop in pairs]
    segments = draw(st.permutations(segments))
    keys = [(s.job, s.block, row) for s in segments for row in range(s.start, s.stop)]
    return _share(segments), keys


@given(_shares(), st.integers(0, 60), st.integers(0, 60))
def test_pieces_cover_exactly_the_rows_that_are_asked_for(
    share: tuple[Lease, list[tuple[int, int, int]]], first: int, stop: int
) -> None:
    lease, keys = share
    found = []
    for segment, start, end, share_row in lease.pieces(first, stop):
        assert segment.start <= start < end <= segment.stop
        assert share_row == first + len(found)
        found += [(segment.job, segment.block, row) for row in range(start, end)]

    assert found == keys[first:stop]


@given(_shares())
def test_every_row_is_found_and_no_other(
    share: tuple[Lease, list[tuple[int, int, int]]],
) -> None:
    lease, keys = share
    for job in (1, 2):
        for block in (0, 3):
            for row in range(42):
                key = (job, block, row)
                if key in keys:
                    assert lease.find(key) == keys.index(key)
                else:
                    with pytest.raises(KeyError):
                        lease.find(key)
