"""What is known of one rig, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from shares.policy import PPM, Policy
from shares.trust.sampling import rate_ppm

_RECENT_ROWS = 1_000  # an average row is the mean over this many


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
    row_work: int = 0  # mean work of its recent accepted rows, in thousandths
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

    def accepted(self, rows: int, work: int) -> None:
        """A part was accepted: counts, and the mean over its last 1,000 rows."""
        self.accepted_rows += rows
        self.accepted_work += work
        window = min(_RECENT_ROWS, self.accepted_rows)
        fresh = min(rows, window)
        mean = work * 1000 // rows
        self.row_work = (self.row_work * (window - fresh) + mean * fresh) // window

    def rates(self, price: int, policy: Policy, *, established: bool) -> tuple[int, int]:
        """Sampling rates of its next part, in parts per million: by rigs, by the referee.

        ``established``: for the part's model.
        """
        by_referee = rate_ppm(
            self.held, price, self.row_work, policy.kappa, policy.referee_floor_ppm
        )
        if not established:
            return PPM, by_referee
        by_rigs = rate_ppm(self.held, price, self.row_work, policy.kappa, policy.check_floor_ppm)
        return by_rigs, by_referee

    def offend(self, at: float, policy: Policy) -> int:
        """An offence is confirmed: ban it, return it to probation; returns the units it held."""
        self.offences += 1
        self.banned_until = at + policy.ban_seconds * 2 ** (self.offences - 1)
        self.cleared_shares = 0
        self.proved.clear()
        units, self.held = self.held, 0
        return units
