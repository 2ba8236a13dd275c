"""How safe the reserve is that pays per share: Lundberg's inequality, and its inverse.

The reserve gains ``income`` units with each share, and loses ``loss`` units with probability
``chance``, independently of the others. Its risk is a random walk; its adjustment coefficient θ is
the positive root of

    (1 - chance) · exp(-θ · income) + chance · exp(θ · (loss - income)) = 1

and a reserve of R units is ever exhausted with probability at most exp(-θ · R): Lundberg's
inequality, as in S. Asmussen and H. Albrecher, Ruin Probabilities, 2nd edition (2010). Losses that
vary below ``loss`` and have the same mean are safer than the formula: of all losses between 0 and
``loss`` the two-point one has the largest exponential moments.

Probabilities are floats. Money is not: what is asked for is rounded up to whole units.
"""

from __future__ import annotations

import math


def ruin_bound(reserve: int, *, chance: float, loss: float, income: float) -> float:
    """An upper bound of the probability that ``reserve`` units are ever exhausted.

    1 when the expected loss of a share is not below the income: then ruin is certain sooner or
    later. 0 when a loss is no more than the income of its own share. Raises ``ValueError`` for a
    chance outside 0 to 1 and for negative units.
    """
    if reserve < 0:
        raise ValueError(f"reserve must not be negative: {reserve}")
    coefficient = adjustment_coefficient(chance=chance, loss=loss, income=income)
    if coefficient is None:
        return 1.0
    return 0.0 if math.isinf(coefficient) else math.exp(-coefficient * reserve)


def reserve_for(bound: float, *, chance: float, loss: float, income: float) -> int:
    """Units of reserve with which it is exhausted with probability ``bound`` at most.

    Raises ``ValueError`` where no reserve is enough, and unless ``0 < bound <= 1``.
    """
    if not 0 < bound <= 1:
        raise ValueError(f"bound must be above 0 and at most 1, not {bound}")
    coefficient = adjustment_coefficient(chance=chance, loss=loss, income=income)
    if coefficient is None:
        raise ValueError(
            f"no reserve is enough: a share loses {chance * loss:g} units on average and brings "
            f"{income:g}; raise the income"
        )
    return 0 if math.isinf(coefficient) else math.ceil(-math.log(bound) / coefficient)


def adjustment_coefficient(*, chance: float, loss: float, income: float) -> float | None:
    """θ per unit, rounded towards 0, so that bounds stay bounds.

    None where the expected loss is not below the income; infinite where nothing can be lost.
    Raises ``ValueError`` as ``ruin_bound`` does.
    """
    if not 0 <= chance <= 1:
        raise ValueError(f"chance must be between 0 and 1, not {chance}")
    for name, value in (("loss", loss), ("income", income)):
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be a number of units of at least 0, not {value}")
    if not chance or loss == 0:
        return math.inf
    if chance * loss >= income:
        return None
    if loss <= income:
        return math.inf

    def excess(theta: float) -> float:
        # The logarithm of the left side. It is convex, 0 at 0, and falls there.
        grown = theta * loss
        tail = math.log(chance + (1 - chance) * math.exp(-grown)) + grown
        return tail - theta * income

    low, high = 0.0, 1 / loss
    while excess(high) <= 0:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if excess(middle) <= 0:
            low = middle
        else:
            high = middle
    return low
