"""Variable difficulty: how much work one share of one rig should hold."""

from __future__ import annotations

from dataclasses import dataclass

from shares.policy import PPM, Policy

_SHORTEST = 1e-3  # seconds; a part that took no time by the clock took at least this


@dataclass(slots=True)
class Meter:
    """A rig's speed: an average over its recent busy time, so that idle time never lowers it.

    Work and busy seconds are summed; beyond ``memory`` seconds both are scaled down together,
    which forgets the past exponentially and weighs each sample by its duration.
    """

    work: float = 0.0
    seconds: float = 0.0

    def add(self, work: int, seconds: float, memory: float) -> None:
        """``work`` was done in ``seconds`` of busy time."""
        self.work += work
        self.seconds += max(seconds, _SHORTEST)
        if self.seconds > memory:
            self.work *= memory / self.seconds
            self.seconds = memory

    def slow_down(self) -> None:
        """The rig failed to deliver: believe in half its speed."""
        self.work /= 2

    @property
    def rate(self) -> float | None:
        """Work per second; ``None`` before the first sample."""
        return self.work / self.seconds if self.seconds and self.work else None


def clamp(difficulty: float, ceiling: int, policy: Policy) -> int:
    """Bring a wish within the policy's bounds and ``ceiling``."""
    return int(max(policy.min_difficulty, min(difficulty, ceiling, policy.max_difficulty)))


def retarget(current: int, rate: float, ceiling: int, policy: Policy) -> int:
    """The next difficulty of a rig that does ``rate`` work a second.

    It stays where it is while the target time's worth of work lies within the dead band, and
    moves by at most ``retarget_step`` at once.
    """
    wish = rate * policy.target_share_seconds
    low = current * (PPM - policy.retarget_band_ppm) / PPM
    high = current * (PPM + policy.retarget_band_ppm) / PPM
    if low <= wish <= high:
        return clamp(current, ceiling, policy)
    step = policy.retarget_step
    return clamp(min(max(wish, current / step), current * step), ceiling, policy)
