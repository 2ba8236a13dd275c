"""The numbers by which shares are cut, checked, cleared and punished.

Rates that touch money or sampling are integers (parts per million); times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Policy:
    """Settings of the board. The defaults are those of the published trust policy.

    Raises ``ValueError`` naming the field and the remedy when a number makes no sense.
    """

    version: int = 3  # stored with every part, so that its draw can be recomputed

    # ── sampling ──
    kappa: int = 2  # a rig that holds the pay of h ordinary rows is sampled at κ/h
    check_floor_ppm: int = 10_000  # λ: never less by other accounts
    referee_floor_ppm: int = 1_000  # ρ: never less by the referee
    probation_shares: int = 8  # first shares' worth of a model cleared: established for it
    check_patience_seconds: float = 20.0  # then a drawn row goes to the referee
    newcomer_patience_seconds: float = 2.0  # the same, when an idle rig on probation waits for it
    assured_patience_seconds: float = 600.0  # the same, when a customer paid rigs for it
    referee_cap_ppm: int = 500_000  # most of a job's check budget that referee runs may cost

    separate_groups: bool = True  # nobody checks a rig of their own network block
    neighbour_floor_ppm: int = 100_000  # in place of λ where a neighbour was banned
    neighbour_seconds: float = 86_400.0  # for so long after it
    trusted: frozenset[str] = frozenset()  # ACCOUNT or ACCOUNT.RIG: jobs may ask for these only

    # ── clearing and punishment ──
    clearing_seconds: float = 10.0  # after the last part, when no row was drawn
    hold_seconds: float = 86_400.0  # cleared pay is held this long
    ban_seconds: float = 3_600.0  # for the first offence; doubles with each

    # ── trials ──
    witnesses: int = 5  # most rigs of other accounts and the same kind that are asked for a row
    trial_seconds: float = 60.0  # for their answers
    direct_trial_seconds: float = 10.0  # the same, where an interactive request waits

    # ── the size of shares ──
    target_share_seconds: float = 10.0
    initial_difficulty: int = 10_000
    min_difficulty: int = 1_000
    max_difficulty: int = 1 << 40
    probation_factor: int = 4  # on probation difficulty is at most initial times this
    window_seconds: float = 15.0  # work in a rig's hands below which it gets another share
    max_share_rows: int = 8_192
    max_share_input_bytes: int = 2 << 20
    max_share_result_bytes: int = 32 << 20
    rate_memory_seconds: float = 60.0  # the measured rate is an average over this much busy time
    retarget_band_ppm: int = 300_000  # difficulty stays while the target is this near
    retarget_step: int = 4  # largest factor of one change

    # ── leases ──
    lease_min_seconds: float = 30.0
    lease_factor: int = 4  # a deadline is this many times the expected time
    disconnect_grace_seconds: float = 15.0
    restart_grace_seconds: float = 60.0  # for rigs to find a restarted pool
    late_seconds: float = 60.0  # an expired lease's rows that are still open are taken this long
    cancel_grace_seconds: float = 5.0  # what was on its way when a lease was cancelled
    rest_seconds: float = 60.0  # longest pause for a rig whose shares keep coming to nothing
    hedge_margin_seconds: float = 1.0  # a second lease must be expected to gain this much
    concentration_ppm: int = 250_000  # of a job's remaining work that one account may hold
    admission_ppm: int = 10_000  # of all leased work that all rigs on probation may hold together

    # ── blocks in memory ──
    open_blocks: int = 2  # with rows to lease, for each job that is being worked on
    max_open_blocks: int = 16

    def __post_init__(self) -> None:
        for name in ("kappa", "check_floor_ppm", "referee_floor_ppm", "open_blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in (
            "check_floor_ppm",
            "referee_floor_ppm",
            "neighbour_floor_ppm",
            "referee_cap_ppm",
            "admission_ppm",
        ):
            if not 0 <= getattr(self, name) <= PPM:
                raise ValueError(f"{name} must be between 0 and {PPM}, not {getattr(self, name)}")
        for name in (
            "target_share_seconds",
            "window_seconds",
            "rate_memory_seconds",
            "lease_min_seconds",
            "initial_difficulty",
            "min_difficulty",
            "max_share_rows",
            "max_share_input_bytes",
            "max_share_result_bytes",
            "lease_factor",
            "retarget_step",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if not self.min_difficulty <= self.initial_difficulty <= self.max_difficulty:
            raise ValueError(
                "initial_difficulty must lie between min_difficulty and max_difficulty: "
                f"{self.min_difficulty} <= {self.initial_difficulty} <= {self.max_difficulty}"
            )
        if self.max_open_blocks < self.open_blocks:
            raise ValueError(
                f"max_open_blocks must be at least open_blocks ({self.open_blocks}), "
                f"not {self.max_open_blocks}"
            )

    def trusts(self, account: str, rig: str) -> bool:
        """Whether a rig is on the operator's list."""
        return account in self.trusted or f"{account}.{rig}" in self.trusted

    @property
    def minimum_hold_rows(self) -> int:
        """H* = κ/ρ: the pay of this many ordinary rows is never released from a rig's hold."""
        return self.kappa * PPM // self.referee_floor_ppm

    @property
    def probation_work(self) -> int:
        """Cleared work of a model before a rig counts as established for it.

        Work, for a share may be of any size; of the model, for another's may be cheap to compute.
        """
        return self.probation_shares * self.initial_difficulty

    @property
    def probation_ceiling(self) -> int:
        """The largest difficulty of a rig on probation."""
        return min(self.max_difficulty, self.initial_difficulty * self.probation_factor)
