"""Work, segments and digests: the small rules that everything else is counted in."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from shares.blocks import Kind, Segment
from shares.results import DIGEST_BYTES, part_digest, row_digests
from shares.work import WorkShape

MINILM = WorkShape(
    per_token=6 * (4 * 384 * 384 + 2 * 384 * 1536),
    per_pair=2 * 6 * 384,
)


def test_work_is_macs_in_millions_rounded_up() -> None:
    """A 64-token row of MiniLM is 698.3 million multiply-accumulates: 699 work."""
    assert MINILM.macs(64) == 64 * 10_616_832 + 64 * 64 * 4_608
    assert MINILM.work(64) == 699


def test_a_row_is_worth_at_least_one() -> None:
    """Rows of a model without matrices still count."""
    assert WorkShape(0, 0).work(1) == 1


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=50))
def test_works_of_many_rows_are_works_of_each(lengths: list[int]) -> None:
    """The array form gives the same integers."""
    works = MINILM.works(np.array(lengths, np.int32))

    assert works.dtype == np.int64
    assert works.tolist() == [MINILM.work(length) for length in lengths]


def test_a_segment_counts_its_rows() -> None:
    assert Segment(1, 2, 10, 25, Kind.CHECK).rows == 15


def test_row_digests_depend_on_bytes_and_on_failure() -> None:
    """A failed row and a row of zeros differ; equal rows are equal."""
    data = memoryview(bytes(8) + b"abcdefgh" + bytes(8) + b"abcdefgh")
    digests = row_digests(data, 8, failed=(2,))
    rows = [digests[DIGEST_BYTES * row :][:DIGEST_BYTES] for row in range(4)]

    assert rows[1] == rows[3]
    assert rows[0] != rows[2]


def test_row_digests_refuse_half_a_row() -> None:
    with pytest.raises(ValueError, match="not a whole number of rows"):
        row_digests(memoryview(bytes(9)), 8)


def test_row_digests_take_views_of_numbers() -> None:
    """A float32 view digests as its bytes."""
    values = np.arange(6, dtype="<f4")

    assert row_digests(memoryview(values), 12) == row_digests(memoryview(values.tobytes()), 12)


def test_a_part_digest_names_the_rows_in_order() -> None:
    assert part_digest(b"a" * 16 + b"b" * 16) != part_digest(b"b" * 16 + b"a" * 16)
    assert len(part_digest(b"")) == 32
