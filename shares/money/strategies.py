"""What a log would be had one account not worked honestly: a hopper, a splitter, a withholder.

A replay cannot tell how a pool would have gone on. It takes the least that follows: rows that the
account does not hand in are computed by whoever handed in the share before, at the same time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from shares.money.schemes import Scheme
from shares.money.sharelog import ShareLog, ShareRecord, share_log


@dataclass(frozen=True, slots=True)
class Deviation:
    """A log in which one account, perhaps under several names, did something else."""

    log: ShareLog
    names: frozenset[str]  # under which it is paid
    elsewhere: tuple[ShareRecord, ...] = ()  # shares that it computed for another pool instead


@dataclass(frozen=True, slots=True)
class Gain:
    """What a deviation brings beside honest work with the same machines.

    Shares that were computed elsewhere bring there what they bring honest work here on average.
    """

    honest: int  # units for honest work
    units: int  # units from this pool for the deviation
    elsewhere: Fraction  # units from elsewhere

    @property
    def gained(self) -> Fraction:
        """Units more than by honest work."""
        return self.units + self.elsewhere - self.honest

    @property
    def relative(self) -> float:
        """The same as a fraction of honest pay."""
        return float(self.gained / self.honest) if self.honest else 0.0


def gain(scheme: Scheme, log: ShareLog, account: str, deviation: Deviation) -> Gain:
    """Compare the account's pay for ``deviation`` with its pay in ``log``.

    Raises ``ValueError`` when the account has no shares in the log.
    """
    own = [share for share in log.shares if share.account == account]
    if not own:
        raise ValueError(f"account {account} has no shares in this log")
    honest = scheme.replay(log).pay().get(account, 0)
    pay = scheme.replay(deviation.log).pay()
    units = sum(pay.get(name, 0) for name in deviation.names)
    worth = sum(scheme.worth(share) for share in own)
    gone = sum(scheme.worth(share) for share in deviation.elsewhere)
    return Gain(honest, units, Fraction(honest * gone, worth) if worth else Fraction())


# ── who is when in a job or a round ──────────────────────────────────────────

Position = Callable[[ShareRecord], float]
"""Where in its period a share was handed in: 0 at the beginning, 1 where the end is expected."""


def by_round(round_seconds: int) -> Position:
    """Position in a round of fixed length."""
    return lambda share: share.at % round_seconds / round_seconds


def by_job(log: ShareLog) -> Position:
    """Position in a job of this log, by the work verified before, beside that of an average job.

    It may pass 1: a hopper knows how long jobs are on average, and not how long this one is.
    """
    expected = sum(job.work for job in log.jobs.values()) / max(1, len(log.jobs))
    before: dict[str, int] = defaultdict(int)
    at: dict[int, float] = {}
    for share in log.shares:
        at[id(share)] = before[share.job] / expected
        before[share.job] += share.work if share.cleared else 0
    return lambda share: at[id(share)]


# ── what they do ─────────────────────────────────────────────────────────────


def hopper(
    log: ShareLog, account: str, position: Position, *, start: float = 0.0, stop: float
) -> Deviation:
    """It works only from ``start`` to before ``stop`` of each job or round."""
    shares, gone = _without(log, account, lambda share: not start <= position(share) < stop)
    return Deviation(_rebuilt(log, shares), frozenset([account]), gone)


def splitter(log: ShareLog, account: str, pieces: int) -> Deviation:
    """It hands in its shares under ``pieces`` names in turn. Raises ``ValueError`` below 2."""
    if pieces < 2:
        raise ValueError(f"pieces must be at least 2, not {pieces}")
    mark = "~"
    while any(share.account.startswith(account + mark) for share in log.shares):
        mark += "~"  # names that nobody has
    names = [f"{account}{mark}{number}" for number in range(1, pieces + 1)]
    own = [share for share in log.shares if share.account == account]
    shares = [replace(share, account=names[at % pieces]) for at, share in enumerate(own)]
    others = [share for share in log.shares if share.account != account]
    return Deviation(_rebuilt(log, others + shares), frozenset(names))


def withholder(log: ShareLog, account: str, *, every: int, late: float | None = None) -> Deviation:
    """It computes each ``every``-th of its shares and keeps it: for ever, or ``late`` seconds.

    A share that comes after its job ended is worth nothing: somebody else had computed it again.
    Raises ``ValueError`` for ``every`` below 1 and a ``late`` that is negative or not finite.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, not {every}")
    if late is not None and not 0 <= late < math.inf:
        raise ValueError(f"late must be a number of seconds from 0 on, not {late}")
    own = [share for share in log.shares if share.account == account]
    kept = {id(share) for share in own[::every]}

    def lost(share: ShareRecord) -> bool:
        if id(share) not in kept:
            return False
        ended = log.jobs[share.job].ended
        return late is None or (ended is not None and share.at + late > ended)

    shares, _ = _without(log, account, lost)
    if late is not None:
        shares = [
            replace(share, at=share.at + late) if id(share) in kept else share for share in shares
        ]
    return Deviation(_rebuilt(log, shares), frozenset([account]))


def _without(
    log: ShareLog, account: str, dropped: Callable[[ShareRecord], bool]
) -> tuple[list[ShareRecord], tuple[ShareRecord, ...]]:
    """All shares, the account's dropped ones handed in by others; and those that were dropped."""
    other = next((share.account for share in log.shares if share.account != account), None)
    shares, gone = [], []
    for share in log.shares:
        if share.account != account:
            other = share.account
            shares.append(share)
        elif not dropped(share):
            shares.append(share)
        else:
            gone.append(share)
            if other is not None:
                shares.append(replace(share, account=other))
    return shares, tuple(gone)


def _rebuilt(log: ShareLog, shares: Iterable[ShareRecord]) -> ShareLog:
    return share_log(shares, log.jobs.values())
