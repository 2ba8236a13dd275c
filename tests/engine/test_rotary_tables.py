"""Rotary tables: correctly rounded, whatever any library's last bit is."""

from __future__ import annotations

from fractions import Fraction
from math import cos, sin

import numpy as np
import pytest

from gpu_worker.engine.registration import rope
from gpu_worker.engine.registration.rope import inverse_frequencies, rope_tables


def series(angle: Fraction, first: int) -> Fraction:
    """The sine (``first`` 1) or cosine (0) by its series, exact up to a tail below 2^-80."""
    term, total, power = (angle if first else Fraction(1)), Fraction(0), first
    while abs(term) > Fraction(1, 2**80):
        total += term
        term *= -angle * angle / ((power + 1) * (power + 2))
        power += 2
    return total


@pytest.mark.parametrize(("theta", "width"), [(10_000.0, 64), (160_000.0, 12), (500.0, 6)])
def test_every_entry_is_the_nearest_float32(theta: float, width: int) -> None:
    """Against exact rational arithmetic on the float32 angle."""
    cosines, sines = rope_tables(theta, width, 12)
    angles = np.arange(12, dtype=np.float32)[:, None] * inverse_frequencies(theta, width)
    for place, angle in np.ndenumerate(angles):
        for table, first in ((cosines, 0), (sines, 1)):
            exact = series(Fraction(float(angle)), first)
            got = table[place]
            steps = [np.nextafter(got, np.float32(way)) for way in (-np.inf, np.inf)]
            errors = [abs(Fraction(float(value)) - exact) for value in (got, *steps)]

            assert errors[0] == min(errors)


def test_far_positions_agree_with_the_library_to_its_last_bits() -> None:
    """8,192 positions reduced by multiples of π/2: float64 sines and cosines rounded once."""
    cosines, sines = rope_tables(10_000.0, 32, 8192)
    angles = np.arange(8192, dtype=np.float32)[:, None] * inverse_frequencies(10_000.0, 32)
    for row in (1, 2, 3, 1000, 5001, 8191):
        assert [float(v) for v in cosines[row]] == [float(np.float32(cos(a))) for a in angles[row]]
        assert [float(v) for v in sines[row]] == [float(np.float32(sin(a))) for a in angles[row]]


def test_doubtful_roundings_are_settled_with_sixty_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were every tenth entry in doubt, the tables would be the same."""
    wanted = rope_tables(10_000.0, 16, 3000)
    settled = []
    real = rope._settled

    def counted(angle: float, is_sine: bool) -> np.float32:
        settled.append(angle)
        return real(angle, is_sine)

    monkeypatch.setattr(rope, "_settled", counted)
    monkeypatch.setattr(rope, "_DOUBT", 2.0**-28)
    got = rope_tables(10_000.0, 16, 3000)

    assert len(settled) > 1000
    assert [table.tobytes() for table in got] == [table.tobytes() for table in wanted]


def test_frequencies_are_rounded_step_by_step() -> None:
    """float32 exponent, nearest float32 power, float32 quotient."""
    assert inverse_frequencies(160_000.0, 4).tolist() == [1.0, np.float32(1) / np.float32(400)]
    assert inverse_frequencies(2.0, 6).tolist() == [
        float(np.float32(1) / np.float32(2 ** (float(np.float32(n) / np.float32(6)))))
        for n in (0, 2, 4)
    ]
