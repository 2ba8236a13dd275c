"""How far apart two results of the float numerics may be.

Honest machines differ in the order of their sums, in their library functions, and, in ``float16``
and ``bfloat16``, in whether they round vectors between operations. A machine that computes
something else (weights of fewer bits, a token left out) is farther away than all of these, for
each row by itself; so a row is judged alone, and no mean over rows can hide one.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

MARGINS: Final = {"float32": 8.0, "float16": 4.0, "bfloat16": 2.0}
"""Tolerance over the largest distance that calibration found. Weights of 8 bits are 170 times as
far away as honest float16 is (all-MiniLM-L6-v2), but only 3 times as far as bfloat16, which can
hide them in other models; nothing less than equality of bits finds everything."""

LEAST: Final = {"float32": 1e-9, "float16": 1e-7, "bfloat16": 1e-6}
"""No tolerance is below this: library functions that calibration did not try differ as well."""


def distance(a: Floats, b: Floats, operation: str = "embed") -> NDArray[np.float64]:
    """How far the rows of ``a`` and ``b`` [rows, width] are apart: float64 [rows], 0 if equal.

    ``embed``: ½·|a − b|² / (|a|·|b|). For vectors of one length this is 1 − cosine, without the
    cancellation; and unlike the cosine it sees a vector that is scaled. ``score`` and
    ``classify``: ½·max (a − b)² / (1 + max|a|·max|b|), because a difference of logits counts as it
    is where they are small, and relative to them where they are large. Infinite where a value is
    not finite, and where one vector of two is zero.
    """
    with np.errstate(all="ignore"):
        a, b = a.astype(np.float64), b.astype(np.float64)
        if operation == "embed":
            apart = np.square(a - b).sum(axis=1)
            size = np.sqrt(np.square(a).sum(axis=1)) * np.sqrt(np.square(b).sum(axis=1))
        else:
            apart = np.square(a - b).max(axis=1)
            size = 1 + np.abs(a).max(axis=1) * np.abs(b).max(axis=1)
        found: NDArray[np.float64] = np.where(apart == 0, 0.0, 0.5 * apart / size)
    found[~np.isfinite(found)] = np.inf
    return found


def agrees(a: Floats, b: Floats, tolerance: float, operation: str = "embed") -> NDArray[np.bool_]:
    """Which rows [rows] are within a model's tolerance of each other; see ``distance``."""
    near: NDArray[np.bool_] = distance(a, b, operation) <= tolerance
    return near


def tolerance_for(numerics: str, largest: float) -> float:
    """A tolerance from the largest honest distance: times the margin, up to a power of two.

    The power of two makes nearly every machine find the same number for the same model.
    """
    wanted = max(largest * MARGINS[numerics], LEAST[numerics])
    return float(2.0 ** np.ceil(np.log2(wanted)))
