"""Arrays on the wire: nothing is copied that need not be, and everything is checked."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from stratum.arrays import (
    pack,
    pack_outcome,
    pack_rows,
    unpack,
    unpack_outcome,
    unpack_rows,
)
from stratum.errors import REASONS, ArrayError
from stratum.messages import Array, Outcome, Rows


def _wired(value: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type(value))


def _array(dtype: str, shape: tuple[int, ...], data: bytes) -> Array:
    return Array(dtype, shape, memoryview(data))


@given(
    npst.arrays(
        st.sampled_from(["<f4", ">f4", "<u4", ">i8", "|u1", "|b1", "<f2"]),
        npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
def test_any_array_comes_back_as_it_was(values: np.ndarray[Any, Any]) -> None:
    packed = pack(values)
    back = unpack(_wired(packed), packed.dtype, shape=values.shape)

    assert packed.dtype[0] in "<|"
    assert back.shape == values.shape
    assert back.tobytes() == values.astype(packed.dtype).tobytes()


def test_views_that_are_not_contiguous_are_packed_right() -> None:
    values = np.arange(12, dtype="<u4").reshape(3, 4)[:, ::2]
    assert (unpack(pack(values), "<u4", dimensions=2) == values).all()


def test_unpacking_does_not_copy_and_the_view_is_read_only() -> None:
    data = bytes(64)
    values = unpack(_array("<f4", (4, 4), data), "<f4", dimensions=2)

    assert not values.flags.writeable
    assert not values.flags.owndata


def test_objects_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="integers or floats"):
        pack(np.array([object()]))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (_array("<f8", (2, 2), bytes(32)), "wrong_dtype"),
        (_array("float32", (2, 2), bytes(16)), "wrong_dtype"),
        (_array(">f4", (2, 2), bytes(16)), "wrong_dtype"),
        (_array("O", (2, 2), bytes(16)), "wrong_dtype"),
        (_array("<f4", (4,), bytes(16)), "wrong_shape"),
        (_array("<f4", (2, 3), bytes(24)), "wrong_shape"),
        (_array("<f4", (), bytes(4)), "wrong_shape"),
        (_array("<f4", (2, 2), bytes(15)), "wrong_length"),
        (_array("<f4", (2, 2), bytes(17)), "wrong_length"),
        (_array("<f4", (2**62, 2), bytes(16)), "wrong_length"),
        (_array("<f4", (0, 2), b""), "wrong_shape"),
        (_array("<f4", (1, 2), np.array([1, np.nan], "<f4").tobytes()), "not_finite"),
        (_array("<f4", (1, 2), np.array([-np.inf, 1], "<f4").tobytes()), "not_finite"),
    ],
)
def test_a_result_that_is_not_what_was_agreed_has_its_reason(array: Array, reason: str) -> None:
    with pytest.raises(ArrayError) as caught:
        unpack_outcome(Outcome(array), "<f4", 2)

    assert caught.value.reason == reason
    assert reason in REASONS


def test_failed_rows_are_zero_ascending_and_in_the_part() -> None:
    values = np.ones((3, 2), "<f4")
    values[1] = 0
    found, failed = unpack_outcome(_wired(pack_outcome(values, (1,))), "<f4", 2)
    assert failed == (1,)
    assert (found == values).all()

    for bad in ((0,), (1, 1), (3,), (1, 0)):
        with pytest.raises(ArrayError) as caught:
            unpack_outcome(pack_outcome(values, bad), "<f4", 2)
        assert caught.value.reason == "bad_failed_rows"
    values[1] = -0.0  # equal to zero, but not zero bytes
    with pytest.raises(ArrayError):
        unpack_outcome(pack_outcome(values, (1,)), "<f4", 2)


def test_a_part_is_at_most_a_mebibyte_or_one_row() -> None:
    row = np.zeros((1, 1 << 20), "<f4")
    assert len(unpack_outcome(pack_outcome(row), "<f4", 1 << 20)[0]) == 1
    full = np.zeros((1 << 15, 32), "|u1")
    assert len(unpack_outcome(pack_outcome(full), "|u1", 32)[0]) == 1 << 15
    with pytest.raises(ArrayError, match="part_too_large"):
        unpack_outcome(pack_outcome(np.zeros(((1 << 15) + 1, 32), "|u1")), "|u1", 32)


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5), max_size=6))
def test_rows_come_back_as_they_were(rows: list[list[int]]) -> None:
    lengths = np.array([len(row) for row in rows], np.uint32)
    tokens = np.array([token for row in rows for token in row], np.uint32)
    back_lengths, back_tokens = unpack_rows(_wired(pack_rows(lengths, tokens)))

    assert back_lengths.dtype == back_tokens.dtype == np.uint32
    assert back_lengths.tolist() == lengths.tolist()
    assert back_tokens.tolist() == tokens.tolist()


@pytest.mark.parametrize("lengths", [[2, 0], [1], [2, 2], [2**32 - 1, 2**32 - 1]])
def test_rows_whose_lengths_do_not_fit_are_refused(lengths: list[int]) -> None:
    packed = Rows(pack(np.array(lengths, np.uint32)), pack(np.arange(2, dtype=np.uint32)))
    with pytest.raises(ArrayError, match="wrong_length"):
        unpack_rows(packed)
    with pytest.raises(ValueError):
        pack_rows(np.array(lengths, np.uint32), np.arange(2, dtype=np.uint32))
