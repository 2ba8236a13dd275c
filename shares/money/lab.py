"""The reward lab: one share log under several schemes, and what not working honestly would gain."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shares.money.measures import AccountPay, Risk, mean_variance, pay_by_account, risk
from shares.money.schemes import Classic, Outcome, Pplns, Pps, Proportional, Scheme
from shares.money.sharelog import ShareLog
from shares.money.strategies import (
    Deviation,
    Gain,
    Position,
    by_job,
    by_round,
    gain,
    hopper,
    splitter,
    withholder,
)

WINDOW_ROUNDS = 20
"""Rounds of average work that a window holds unless it is told."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a log is replayed. ``None``: what fits the log."""

    account: str | None = None  # who tries the strategies; else the one in the middle by work
    round_seconds: int = 3600
    window: int | None = None  # units of work
    income_ppm: int = 30_000  # of pay, what the levies bring the reserve under pps
    spans: int = 24
    part: float = 0.435  # of each job or round, in which the hopper works
    pieces: int = 10
    every: int = 5
    late: float = 600.0  # seconds


@dataclass(frozen=True, slots=True)
class Trial:
    """A strategy and what it gained."""

    strategy: str
    gain: Gain


@dataclass(frozen=True, slots=True)
class Result:
    """One scheme in one log."""

    scheme: Scheme
    outcome: Outcome
    accounts: list[AccountPay]
    trials: list[Trial]

    @property
    def variance(self) -> float | None:
        """The mean of the accounts'."""
        return mean_variance(self.accounts)


@dataclass(frozen=True, slots=True)
class Report:
    """All of them, and the reserve's risk under pps."""

    account: str | None  # who tried the strategies
    results: list[Result]
    risk: Risk | None  # None without shares


def schemes_for(log: ShareLog, settings: Settings) -> list[Scheme]:
    """The pool's schemes. Raises ``ValueError`` for a round below a second."""
    window = settings.window
    if window is None:
        window = max(1, WINDOW_ROUNDS * round_work(log, settings.round_seconds).mean)
    return [
        Proportional(),
        Pplns(window, settings.round_seconds),
        Pps(settings.income_ppm),
    ]


def position_worth(log: ShareLog, scheme: Pplns) -> float:
    """How far a unit's pay may be from its price, as a fraction, once the window is full.

    A unit is paid from the rounds that end within the next ``window`` units of work: these hold
    as much work as the window, give or take the busiest round's.
    """
    return round_work(log, scheme.round_seconds).most / scheme.window


@dataclass(frozen=True, slots=True)
class RoundWork:
    """Verified work in rounds that had any."""

    mean: int  # rounded up
    most: int


def round_work(log: ShareLog, round_seconds: int) -> RoundWork:
    """Raises ``ValueError`` for a round below a second."""
    if round_seconds < 1:
        raise ValueError(f"round must be at least 1 second, not {round_seconds}")
    work: dict[int, int] = defaultdict(int)
    for share in log.shares:
        if share.cleared:
            work[int(share.at // round_seconds)] += share.work
    if not work:
        return RoundWork(0, 0)
    return RoundWork(-(-sum(work.values()) // len(work)), max(work.values()))


def experiment(
    log: ShareLog, settings: Settings, schemes: Sequence[Scheme], *, close: bool = False
) -> Report:
    """Replay ``log`` under each scheme. ``close``: carried fractions are given out at its end.

    Raises ``ValueError`` for settings that make no sense and logs that cannot be paid.
    """
    account = settings.account or _in_the_middle(log)
    end = max((share.at for share in log.shares), default=0.0)
    results = []
    for scheme in schemes:
        outcome = scheme.replay(log)
        if close:
            outcome = outcome.closed(end, b"")
        accounts = pay_by_account(log, outcome, settings.spans)
        trials = [] if account is None else list(_trials(scheme, log, account, settings))
        results.append(Result(scheme, outcome, accounts, trials))
    return Report(account, results, risk(log, settings.income_ppm))


def _in_the_middle(log: ShareLog) -> str | None:
    work = log.work_by_account()
    ordered = sorted(work, key=lambda account: (work[account], account))
    return ordered[len(ordered) // 2] if ordered else None


def _trials(scheme: Scheme, log: ShareLog, account: str, settings: Settings) -> Iterable[Trial]:
    for strategy, deviation in _deviations(scheme, log, account, settings):
        yield Trial(strategy, gain(scheme, log, account, deviation))


def _deviations(
    scheme: Scheme, log: ShareLog, account: str, settings: Settings
) -> Iterable[tuple[str, Deviation]]:
    position, period = _period(scheme, log)
    part = settings.part
    if not 0 < part < 1:
        raise ValueError(f"part must be between 0 and 1, not {part}")
    percent = f"{100 * part:g} %"
    yield f"hopper: first {percent} of {period}", hopper(log, account, position, stop=part)
    yield (
        f"hopper: last {percent} of {period}",
        hopper(log, account, position, start=1 - part, stop=math.inf),
    )
    yield f"splitter: {settings.pieces} accounts", splitter(log, account, settings.pieces)
    every = f"withholder: one share in {settings.every}"
    yield f"{every}, never", withholder(log, account, every=settings.every)
    yield (
        f"{every}, {settings.late:g} s late",
        withholder(log, account, every=settings.every, late=settings.late),
    )


def _period(scheme: Scheme, log: ShareLog) -> tuple[Position, str]:
    """What a hopper goes by: the period over which the scheme divides."""
    if isinstance(scheme, Pplns):
        return by_round(scheme.round_seconds), "each round"
    return by_job(log), "each job"


def classic_experiment(log: ShareLog, settings: Settings) -> Report:
    """The contrast: rounds of unknown length, in which a hopper gains."""
    return experiment(log, settings, [Classic()])
