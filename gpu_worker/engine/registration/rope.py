"""Tables of rotary positions: correctly rounded sines and cosines of float32 angles.

No library's last bit matters: frequencies come from 60 decimal digits, angles from one float32
product, and sines and cosines from float64 operations of our own, with 60 digits again wherever
those are too close to a rounding boundary.
"""

from __future__ import annotations

from decimal import Context, Decimal, localcontext
from math import factorial
from typing import Final

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_DIGITS: Final = Context(prec=60)
_HALF_PI: Final = Decimal("1.57079632679489661923132169163975144209858469968755291048747229615391")
# π/2 in three parts; the first two have 33 bits each, so that products with whole numbers below
# 2^20 are exact in float64.
_HALF_PI_1: Final = float.fromhex("0x1.921fb544p+0")
_HALF_PI_2: Final = float.fromhex("0x1.0b4611a6p-34")
_HALF_PI_3: Final = float.fromhex("0x1.3198a2e037073p-69")
_TURN: Final = float.fromhex("0x1.45f306dc9c883p-1")
"""2/π"""
_SINE: Final = tuple((1 - 2 * (n & 1)) / factorial(2 * n + 1) for n in range(1, 9))  # r³ to r¹⁷
_COSINE: Final = tuple((1 - 2 * (n & 1)) / factorial(2 * n) for n in range(1, 10))  # r² to r¹⁸
_DOUBT: Final = 2.0**-48
"""More than the error of the float64 evaluation: relative, and absolute after a reduction."""


def rope_tables(theta: float, head_width: int, positions: int) -> tuple[F32, F32]:
    """Cosines and sines [positions, head_width/2] of position · inverse frequency."""
    places = np.arange(positions, dtype=np.float32)
    angles = places[:, None] * inverse_frequencies(theta, head_width)
    return _cosines_and_sines(angles)


def inverse_frequencies(theta: float, head_width: int) -> F32:
    """1 / theta^(2i/head_width) for i below half of the width: each step rounded to float32."""
    exponents = np.arange(0, head_width, 2).astype(np.float32) / np.float32(head_width)
    with localcontext(_DIGITS):
        logarithm = Decimal(theta).ln()
        powers = [_to_float32((Decimal(float(e)) * logarithm).exp()) for e in exponents]
    return np.float32(1) / np.array(powers, np.float32)


def _cosines_and_sines(angles: F32) -> tuple[F32, F32]:
    """Of float32 angles from 0 to 2^20, any shape; correctly rounded."""
    x = angles.astype(np.float64)
    turns = np.rint(x * _TURN)
    rest = ((x - turns * _HALF_PI_1) - turns * _HALF_PI_2) - turns * _HALF_PI_3
    square = rest * rest
    sine = rest + rest * (square * _horner(_SINE, square))
    cosine = np.float64(1) + square * _horner(_COSINE, square)
    quarter = turns.astype(np.int64) & 3
    odd = (quarter & 1) == 1
    cosines = np.where(odd, sine, cosine) * np.where((quarter == 1) | (quarter == 2), -1.0, 1.0)
    sines = np.where(odd, cosine, sine) * np.where(quarter >= 2, -1.0, 1.0)
    return _settle(angles, turns, cosines, False), _settle(angles, turns, sines, True)


def _horner(coefficients: tuple[float, ...], x: F64) -> F64:
    value = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


def _settle(angles: F32, turns: F64, values: F64, is_sine: bool) -> F32:
    """Round to float32; values whose rounding is in doubt are computed with 60 digits."""
    doubt = (np.abs(values) + (turns != 0)) * _DOUBT
    result: F32 = values.astype(np.float32)
    unsure = (values - doubt).astype(np.float32) != (values + doubt).astype(np.float32)
    for place in zip(*np.nonzero(unsure), strict=True):
        result[place] = _settled(float(angles[place]), is_sine)
    return result


def _settled(angle: float, is_sine: bool) -> np.float32:
    with localcontext(_DIGITS):
        turns = int((Decimal(angle) / _HALF_PI).to_integral_value())
        rest = Decimal(angle) - turns * _HALF_PI
        quarter = (turns + (0 if is_sine else 1)) % 4  # cos(x) = sin(x + π/2)
        # The series of the cosine in odd quarters, of the sine in even ones.
        power, term = (0, Decimal(1)) if quarter & 1 else (1, rest)
        total = Decimal(0)
        while total + term != total:
            total += term
            term *= -rest * rest / ((power + 1) * (power + 2))
            power += 2
        return _to_float32(total if quarter < 2 else -total)


def _to_float32(value: Decimal) -> np.float32:
    """The nearest float32."""
    near = np.float32(float(value))
    around = (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, -np.float32(np.inf)))
    return min(around, key=lambda candidate: abs(Decimal(float(candidate)) - value))
