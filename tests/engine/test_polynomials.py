"""Our exp2 and GELU: within their published errors, exact where the definition says so."""

from __future__ import annotations

from hashlib import sha256
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
    grid = np.arange(1 << 18).astype(F32)
    z, x = grid * F32(-(2.0**-12)), grid * F32(2.0**-14) - F32(8)

    assert sha256(exp2(z).tobytes()).hexdigest() == EXP2_BITS
    assert sha256(gelu(x).tobytes()).hexdigest() == GELU_BITS


EXP2_BITS = "fd1ca3c4b75cecd4cb001d0fe38592095f8ae7168da8319d3c0577c1c638f1d5"
GELU_BITS = "d76c7fa31b9559c03ca4de17264959b339ef659901eb719dafbbf2baaf39e31a"
