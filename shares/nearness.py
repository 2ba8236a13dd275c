"""How near two results of a row are, where honest machines do not give the same bits.

A model in a float numerics has a tolerance: the largest distance that calibration allows honest
results (``Manifest.tolerance``). Distances are half the squared difference over the size, so 4
times the distance is twice the difference. Nobody is convicted for being just outside.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

FROM_A_RIG: Final = 2.0
"""Tolerances that two rigs' results may be apart: each is as far from the exact value as a
machine may be, in a direction of its own."""
FAR_FROM_THE_REFEREE: Final = 16.0
"""Tolerances from the referee's result that prove a falsehood: 4 times the difference that
calibration, with its margin, allows."""


class Nearness(Enum):
    """What a comparison says."""

    ALIKE = "alike"
    UNSURE = "unsure"  # nobody's fault by itself
    FAR = "far"


def nearness(distance: float, tolerance: float, *, referee: bool) -> Nearness:
    """What a ``distance`` says of two results; ``referee``: one is the referee's.

    Between two rigs nothing is far: which of them is wrong is not for them to say. Infinite and
    NaN distances are far from the referee.
    """
    if distance <= tolerance * (1.0 if referee else FROM_A_RIG):
        return Nearness.ALIKE
    if referee and not distance <= tolerance * FAR_FROM_THE_REFEREE:
        return Nearness.FAR
    return Nearness.UNSURE
