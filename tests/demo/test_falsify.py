"""The cheat's lie: one row in five, plausible to look at, false to compute."""

from __future__ import annotations

import numpy as np
import pytest

from pool.demo.falsify import Falsifier, between


def unit_rows(count, width=384, seed=1):
    rows = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def changed(true, told):
    return [row for row in range(len(true)) if true[row].tobytes() != told[row].tobytes()]


def test_one_row_in_five_is_false_and_the_others_are_true():
    """Two of every ten, the first two within the first four."""
    true = unit_rows(20)

    assert changed(true, Falsifier().falsify(true)) == [2, 3, 12, 13]


@pytest.mark.parametrize("cuts", [(1,) * 20, (3, 7, 10), (2, 1, 17), (20,)])
def test_it_is_one_in_five_however_the_rows_are_cut_into_calls(cuts):
    """Small parts do not make the cheat honest, nor large ones worse."""
    true = unit_rows(sum(cuts))
    cheat = Falsifier()
    told = np.concatenate([cheat.falsify(piece) for piece in np.split(true, np.cumsum(cuts)[:-1])])

    assert changed(true, told) == [2, 3, 12, 13]
    assert (cheat.rows, cheat.falsified) == (20, 20 // 5)


def test_a_false_vector_is_the_mean_of_the_two_true_ones_before_it_at_unit_length():
    """It looks like a vector of the model: same type, same length, a plausible direction."""
    true = unit_rows(5)
    told = Falsifier().falsify(true)[2]
    mean = (true[0] + true[1]) / 2

    assert told.dtype == np.float32
    assert np.linalg.norm(told) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(told, mean / np.linalg.norm(mean), atol=1e-6)


def test_the_computed_rows_are_not_written_over():
    """The engine's own array stays true, and with it what the cheat remembers."""
    true = unit_rows(5)
    before = true.copy()
    Falsifier().falsify(true)

    np.testing.assert_array_equal(true, before)


def test_opposite_vectors_have_a_stand_in():
    """Their mean has no direction; a unit vector is told all the same."""
    row = unit_rows(1)[0]

    np.testing.assert_array_equal(between(row, -row), row)
