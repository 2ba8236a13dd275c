"""Float32 values as the shortest decimals that read back as the same float32, many at once.

A value is rounded to 6, 7, 8 or 9 significant digits in float64, and the fewest digits that give
the same float32 win. A decimal of so few digits is what any JSON writer prints for the float64
nearest to it; that float64 comes out of one correctly rounded division of an integer by a power
of ten. Nine digits always suffice for a float32, and six always survive it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Powers of ten up to here are exact in float64, so the division is correctly rounded.
_POWERS = 10.0 ** np.arange(23)
_SMALLEST, _LARGEST = -13, 5  # decimal exponents that nine digits and 10**22 can serve
# {biased binary exponent: decimal exponent of its power of two, and where the next one begins}
_EXPONENT = np.floor(np.log10(2.0 ** (np.arange(256) - 127.0))).astype(np.int64)
_NEXT = 10.0 ** (_EXPONENT + 1.0)


def shortest_decimals(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The float64 nearest to each value's shortest decimal: float32 [n] to float64 [n].

    Values must be finite. Writing the answer as shortest JSON numbers gives what
    ``str(numpy.float32(x))`` gives.
    """
    exact = values.astype(np.float64)
    size = np.abs(exact)
    binary = (values.view(np.uint32) >> np.uint32(23)) & np.uint32(0xFF)
    exponent = _EXPONENT[binary] + (size >= _NEXT[binary])
    slow = ((exponent < _SMALLEST) | (exponent > _LARGEST)) & (size != 0)
    exponent[slow | (size == 0)] = 0

    def rounded(digits: int, at: NDArray[np.int64]) -> NDArray[np.float64]:
        scale = _POWERS[digits - 1 - exponent[at]]
        return np.asarray(np.rint(exact[at] * scale) / scale)

    everything = np.arange(len(values))
    decimals = rounded(8, everything)
    survives = decimals.astype(np.float32) == values
    longer = np.flatnonzero(~survives)
    decimals[longer] = rounded(9, longer)
    shorter = np.flatnonzero(survives)
    for digits in (7, 6):
        candidate = rounded(digits, shorter)
        good = candidate.astype(np.float32) == values[shorter]
        shorter = shorter[good]
        decimals[shorter] = candidate[good]
    for at in np.flatnonzero(slow):
        decimals[at] = float(str(values[at]))
    return decimals
