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

    clean: float  # its account was never wrong: a first isolated wrong row costs share and fine
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
        by_rigs, by_referee = chances(hold, policy, colluding=colluding)
        missed = (1.0 - by_rigs) * (1.0 - by_referee)
        # What a first wrong row costs, by who found it: see shares.trust.standing.
        fines = by_referee * min(hold, 1 / by_referee)
        if by_rigs:
            fines += (1 - by_referee) * by_rigs * min(hold, 1 / by_rigs)
        # Caught with several wrong rows: the share, the hold and all to come are lost.
        best_clean, best_spent = clean, spent
        for false in range(1, share_rows + 1):
            unseen = missed**false
            ruin = -(share_rows - false) - hold
            best_spent = max(best_spent, unseen * (false + spent) + (1 - unseen) * ruin)
            seen = (1 - unseen) * ruin
            if false == 1:
                seen = (1 - unseen) * (spent - (share_rows - 1)) - fines
            best_clean = max(best_clean, unseen * (false + clean) + seen)
        clean, spent = best_clean, best_spent
    return Expected(clean, spent)


def chances(hold_rows: int, policy: Policy, *, colluding: bool) -> tuple[float, float]:
    """That a row of an established rig is computed again: by honest checkers, by the referee."""
    by_referee = rate_ppm(hold_rows, 1, 1_000, policy.kappa, policy.referee_floor_ppm) / PPM
    by_rigs = rate_ppm(hold_rows, 1, 1_000, policy.kappa, policy.check_floor_ppm) / PPM
    return 0.0 if colluding else by_rigs, by_referee
