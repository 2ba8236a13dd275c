"""Which pool to try next, and how long to wait before it. Decides; never waits by itself."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from gpu_worker.config import PoolAddress, RigConfig

PATIENCE = 3
"""Failures in a row at one pool before the next is tried."""


@dataclass(slots=True)
class _Standing:
    """How one pool has answered of late. ``not_before`` is on the caller's clock."""

    failures: int = 0
    not_before: float = 0.0


class Failover:
    """Exponential backoff with jitter for each pool, and the order in which they are tried.

    The jitter halves the wait at most: a pool that restarts is not met by all its rigs at once.
    """

    def __init__(self, config: RigConfig, random: Random) -> None:
        self._config = config
        self._random = random
        self._standings = [_Standing() for _ in config.pools]
        self._current = 0

    @property
    def current(self) -> PoolAddress:
        """The pool to try next, or the one in use."""
        return self._config.pools[self._current]

    @property
    def on_first(self) -> bool:
        """Whether the preferred pool is the current one."""
        return self._current == 0

    def wait(self, now: float) -> float:
        """Seconds until the current pool may be tried."""
        return max(0.0, self._standings[self._current].not_before - now)

    def wait_for_first(self, now: float) -> float:
        """Seconds until the preferred pool may be tried."""
        return max(0.0, self._standings[0].not_before - now)

    def failed(self, now: float) -> None:
        """The current pool could not be reached, or dropped a session that had hardly begun."""
        standing = self._standings[self._current]
        standing.failures += 1
        # The exponent is bounded: 2.0 ** 1024 would overflow after hours of outage.
        step = min(standing.failures - 1, 16)
        longest = min(self._config.longest_backoff, self._config.first_backoff * 2.0**step)
        standing.not_before = now + self._jittered(longest)
        if standing.failures % PATIENCE == 0:
            self._move_on()

    def denied(self, now: float) -> None:
        """The current pool refused the rig's name or token: try it again slowly, others first."""
        standing = self._standings[self._current]
        standing.failures = 0
        standing.not_before = now + self._jittered(self._config.denied_backoff)
        self._move_on()

    def succeeded(self, now: float) -> None:
        """A session at the current pool was good: the next try there begins with a short wait."""
        wait = self._jittered(self._config.first_backoff)
        self._standings[self._current] = _Standing(not_before=now + wait)

    def pause(self, now: float, seconds: float) -> None:
        """The current pool asked to be left alone for ``seconds``: it gets that and a little."""
        wait = seconds + self._jittered(self._config.first_backoff)
        self._standings[self._current].not_before = now + wait

    def first_failed(self, now: float) -> None:
        """The preferred pool was probed from a lesser one and is not back."""
        self._standings[0].not_before = now + self._jittered(self._config.probe_interval)

    def return_to_first(self) -> None:
        """The preferred pool is back."""
        self._current = 0
        self._standings[0] = _Standing()

    def _move_on(self) -> None:
        self._current = (self._current + 1) % len(self._standings)

    def _jittered(self, seconds: float) -> float:
        return seconds * (0.5 + 0.5 * self._random.random())
