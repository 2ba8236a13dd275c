"""The lie of the demo's cheat: a vector that looks like any other, and was never computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PERIOD = 10
FALSE = frozenset({2, 3})  # of every ten rows: one in five, and two in any share of four or more


class Falsifier:
    """Falsifies one in five of the rows that a rig computes, wherever shares and parts begin.

    The false vector is the mean of the two true ones before it, of unit length: nobody can tell
    it from a true one by looking at it.
    """

    def __init__(self) -> None:
        self.rows = 0  # seen so far
        self.falsified = 0
        self._last: list[NDArray[np.float32]] = []  # the two rows before

    def falsify(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """True ``values`` float32 [rows, width] to what the cheat hands in, of the same shape."""
        told = values.copy()
        for row, true in enumerate(values):
            if self.rows % PERIOD in FALSE:
                told[row] = between(*self._last)
                self.falsified += 1
            self.rows += 1
            self._last = [*self._last[-1:], true]
        return told


def between(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of two vectors, float32 [width], brought to unit length."""
    mean = one.astype(np.float64) + other.astype(np.float64)
    length = np.linalg.norm(mean)
    if length == 0.0:  # exactly opposite: either of them serves
        return one.copy()
    return (mean / length).astype(np.float32)
