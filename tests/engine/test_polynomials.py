"""Our exp2 and GELU: within their published errors, exact where the definition says so."""

from __future__ import annotations

from math import erf, sqrt

import numpy as np

from gpu_worker.engine.polynomials import NORMAL_CLAMP, exp2, gelu

F32 = np.float32


def test_exp2_stays_within_its_relative_error() -> None:
    """1.1e-7 relative to 2^z, over the whole domain."""
    z = np.linspace(-64, 0, 2_000_003, dtype=F32)
    error = np.abs(exp2(z).astype(np.float64) / np.exp2(z.astype(np.float64)) - 1)

    assert error.max() < 1.1e-7


def test_exp2_of_whole_numbers_is_exact() -> None:
    """The largest score of a query always gets the weight 1."""
    z = -np.arange(65, dtype=F32)

    assert np.array_equal(exp2(z), np.ldexp(F32(1), -np.arange(65)))


def test_exp2_is_clamped_below() -> None:
    """Anything below -64, infinity included, counts as -64."""
    low = np.array([-64.5, -1e4, -3e38, -np.inf], F32)

    assert (exp2(low) == F32(2.0**-64)).all()


def test_gelu_stays_within_its_absolute_error() -> None:
    """|error| is at most 2.5e-7 · |x|."""
    x = np.linspace(-12, 12, 100_001, dtype=F32)
    x = x[x != 0]
    wanted = np.array([v * 0.5 * (1 + erf(v / sqrt(2))) for v in x.astype(np.float64)])

    assert (np.abs(gelu(x) - wanted) / np.abs(x)).max() < 2.5e-7


def test_gelu_is_exact_beyond_the_clamp() -> None:
    """Far out nothing of a large negative value is left, and a positive one passes unchanged."""
    far = np.array([float(NORMAL_CLAMP), 6, 1e3, 1e18], F32)

    assert (gelu(-far) == 0).all()
    assert np.array_equal(gelu(far), far)


def test_gelu_keeps_not_a_number_and_marks_infinity() -> None:
    """Values that are not finite stay so, so that the next check finds them."""
    with np.errstate(invalid="ignore"):
        odd = gelu(np.array([np.nan, np.inf, -np.inf], F32))

    assert np.isnan(odd[0])
    assert odd[1] == np.inf
    assert np.isnan(odd[2])


def test_bits_of_both_functions_are_fixed() -> None:
    """A change of a coefficient or of the order of operations shows here."""
    z = np.array([-0.3, -0.5, -1.7, -20.25, -63.9], F32)
    x = np.array([-3.5, -0.7, 1e-3, 0.5, 2.25], F32)

    assert exp2(z).view(np.uint32).tolist() == EXP2_BITS
    assert gelu(x).view(np.uint32).tolist() == GELU_BITS


EXP2_BITS = [0x3F4FEFC6, 0x3F3504F4, 0x3E9D9624, 0x355744FD, 0x1F892FD6]
GELU_BITS = [0xBA557200, 0xBE2D7086, 0x3A032D35, 0x3EB103AF, 0x400E3D5C]
