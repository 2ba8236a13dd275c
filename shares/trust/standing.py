"""What is known of one rig, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shares.policy import PPM, Policy
from shares.trust.sampling import rates_ppm

_RECENT_ROWS = 1_000  # an ordinary row is the mean over the work of this many


@dataclass(slots=True)
class Standing:
    """One rig's record. Money in units, times in seconds since the epoch."""

    account: str
    rig: str
    held: int = 0  # cleared and not yet available: what it stands to lose
    accepted_rows: int = 0
    accepted_work: int = 0
    cleared_shares: int = 0  # since its last offence
    cleared_work: int = 0
    rejected_shares: int = 0
    isolated: int = 0  # isolated wrong rows so far
    offences: int = 0
    banned_until: float = 0.0
    row_work: int = 0  # its ordinary row: mean over its recent work, in thousandths
    forfeits: int = 0  # how often held pay of it was forfeited
    proved: dict[str, int] = field(default_factory=dict)  # {model: others' work it cleared}

    def established(self, policy: Policy, model: str) -> bool:
        """Past probation with a model. What was done of other models says nothing of it."""
        return self.proved.get(model, 0) >= policy.probation_work

    def proven(self, policy: Policy) -> bool:
        """Past probation with any model."""
        need = policy.probation_work
        return not need or any(work >= need for work in self.proved.values())

    @property
    def blank(self) -> bool:
        """Nothing is known of it."""
        return not (self.accepted_rows or self.offences or self.isolated or self.held)

    def accepted(self, works: NDArray[np.int64]) -> None:
        """A part was accepted, ``works`` int64 [rows]: counts, and its ordinary row.

        That is the mean of its rows, each weighted by its work, over the work of a thousand rows
        of the larger kind. So rows that bring little work weigh little: to make the minimum hold
        that follows from it small, a rig must do as much work as made it large. And what is
        sampled at the floor costs the floor's part of the work, whatever the mixture of rows.
        """
        work = int(works.sum())
        if not work:
            return  # after a restart nobody knows the work of rows whose job is over
        mean = _squares(works) * 1000 // work
        recent = max(self.row_work, mean) * _RECENT_ROWS // 1000
        kept = min(self.accepted_work, max(0, recent - work))
        self.row_work = (self.row_work * kept + mean * work) // (kept + work)
        self.accepted_rows += len(works)
        self.accepted_work += work

    def rates(self, why: str, price: int, policy: Policy) -> tuple[int, int]:
        """Sampling rates of its next part, in parts per million: by rigs, by the referee.

        ``why``: one of ``sampling.REASONS``.
        """
        return rates_ppm(
            why,
            self.held,
            price,
            self.row_work,
            policy.kappa,
            policy.check_floor_ppm,
            policy.referee_floor_ppm,
            policy.neighbour_floor_ppm,
        )

    def fine(self, why: str, price: int, policy: Policy, *, by_referee: bool) -> int:
        """Units of its hold that a first, isolated wrong row costs.

        Where rows are found with the chance p, whoever is found once expects to have made up 1/p
        of them. So their pay is what forgiveness costs, or else one wrong row in each share would
        pay until the first is found. ``by_referee``: its sample found it, and p is that sample's;
        with any other p the checkers' silence, who may all be in league, would make it cheap. As
        p >= κ/h, a fine is never more than 1/κ of the hold. ``why``: as for ``rates``.
        """
        by_rigs, own = self.rates(why, price, policy)
        rate = own if by_referee else by_rigs
        return min(self.held, -(-price * self.row_work * PPM // (1_000 * rate)))

    def offend(self, at: float, policy: Policy, *, before: int) -> int:
        """An offence is confirmed: ban it, return it to probation; returns the units it held.

        ``before``: offences of all rigs of its account until now; each doubles the ban.
        """
        self.offences += 1
        self.banned_until = at + policy.ban_seconds * 2**before
        self.cleared_shares = 0
        self.proved.clear()
        units, self.held = self.held, 0
        return units


def _squares(works: NDArray[np.int64]) -> int:
    """Sum of the squares, exactly."""
    if int(works.max()) ** 2 * len(works) < 1 << 63:
        return int(np.dot(works, works))
    return sum(work * work for work in works.tolist())
