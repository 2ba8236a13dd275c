"""What the best cheat may expect, exactly: by the pool's own rates, over its best choices.

A rig computes shares of equal rows, one after the other, each cleared before the next; in every
share it falsifies as many rows as it likes. It knows its hold and its rates, not the draw. The
value of its best policy is found backwards from the last share.
"""

from __future__ import annotations

from dataclasses import dataclass

from shares.policy import PPM, Policy
from shares.trust.sampling import rate_ppm


@dataclass(frozen=True, slots=True)
class Expected:
    """Gain of the best cheat over honest work, in rows of pay, from its first share on."""

    clean: float  # its account was never wrong: a first isolated wrong row costs its share only
    spent: float  # its account was forgiven once


def best_gain(
    share_rows: int, shares: int, *, colluding: bool, policy: Policy | None = None
) -> Expected:
    """The best cheat's expectation over so many shares.

    ``colluding``: all other rigs are in league with it, so that only the referee finds anything.
    """
    policy = policy or Policy()
    clean = spent = 0.0
    for share in range(shares - 1, -1, -1):
        hold = min(share * share_rows, policy.minimum_hold_rows)
        missed = 1.0 - chance(hold, policy, colluding=colluding)
        # Caught with several wrong rows: the share, the hold and all to come are lost.
        best_clean, best_spent = clean, spent
        for false in range(1, share_rows + 1):
            unseen = missed**false
            ruin = -(share_rows - false) - hold
            best_spent = max(best_spent, unseen * (false + spent) + (1 - unseen) * ruin)
            first = spent - (share_rows - 1) if false == 1 else ruin
            best_clean = max(best_clean, unseen * (false + clean) + (1 - unseen) * first)
        clean, spent = best_clean, best_spent
    return Expected(clean, spent)


def chance(hold_rows: int, policy: Policy, *, colluding: bool) -> float:
    """That one false row of an established rig is computed again by somebody honest."""
    by_referee = rate_ppm(hold_rows, 1, 1_000, policy.kappa, policy.referee_floor_ppm) / PPM
    by_rigs = rate_ppm(hold_rows, 1, 1_000, policy.kappa, policy.check_floor_ppm) / PPM
    return by_referee if colluding else 1 - (1 - by_referee) * (1 - by_rigs)
