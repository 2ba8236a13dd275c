"""Reward schemes: pure functions from a share log to pay. Whole units; what comes in goes out.

    proportional  each unit of verified work has its job's price: bounty / work of the job
    pplns         what was cleared in a round is divided over the last N units of verified work
    pps           each accepted share is paid at once by the reserve, rejected later or not

Fee and levy come on top of a bounty, so no scheme takes anything from pay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from shares.money.apportion import PARTS, apportion, close_out, due
from shares.money.price import PPM
from shares.money.sharelog import ShareLog, ShareRecord


@dataclass(frozen=True, slots=True)
class Payment:
    """Units that an account was paid."""

    at: float
    account: str
    units: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where every unit of a log went under one scheme."""

    brought: int  # by customers, as bounties
    payments: tuple[Payment, ...]
    returned: int  # to customers whose job ended, for work that was not verified
    open: int  # still reserved for jobs that run
    carried: Mapping[str, int] = field(default_factory=dict)  # {account: PARTS of a unit}
    reserve: int = 0  # what the reserve gained; below zero: lost
    income: int = 0  # units of levies that came into the reserve

    @property
    def fractions(self) -> int:
        """Units kept behind carried fractions."""
        return sum(self.carried.values()) // PARTS

    @property
    def missing(self) -> int:
        """Units that came in and are nowhere: always 0."""
        out = sum(payment.units for payment in self.payments)
        return (
            self.brought
            + self.income
            - (out + self.returned + self.open + self.fractions + self.reserve)
        )

    def pay(self) -> dict[str, int]:
        """{account: units it was paid}."""
        units: dict[str, int] = defaultdict(int)
        for payment in self.payments:
            units[payment.account] += payment.units
        return dict(units)

    def closed(self, at: float, key: bytes) -> Outcome:
        """The same, with carried fractions given out as when a pool ends."""
        last = close_out(self.carried, key)
        payments = [Payment(at, account, units) for account, units in last.items()]
        return Outcome(
            brought=self.brought,
            payments=(*self.payments, *payments),
            returned=self.returned,
            open=self.open,
            reserve=self.reserve,
            income=self.income,
        )


class Scheme(Protocol):
    """A way to divide what customers brought."""

    @property
    def name(self) -> str:
        """As the settings and the lab call it."""

    def replay(self, log: ShareLog) -> Outcome:
        """Pay everybody in the log. Raises ``ValueError`` for a log that cannot be paid so."""

    def worth(self, share: ShareRecord) -> int:
        """Units of a share at its job's price, if it is of a kind that this scheme pays."""


@dataclass(frozen=True, slots=True)
class Proportional:
    """A fixed price for each unit of verified work; the surplus goes back to the customer.

    The price of a job is ``bounty / work``. Its whole units are paid as work is cleared. Where it
    is not whole, what is left of it is divided when the job ends, by work. In a job of which all
    work was verified this is the proportional division of its bounty, ``bounty · w / work``.
    """

    key: bytes = b""
    name: str = "proportional"

    def replay(self, log: ShareLog) -> Outcome:
        """Pay at clearing, and what a fractional price leaves at each job's end."""
        payments: list[Payment] = []
        work: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for share in _cleared(log):
            job = log.jobs[share.job]
            units = job.bounty // job.work * share.work
            payments.append(Payment(share.at, share.account, units))
            work[share.job][share.account] += share.work
        carried: dict[str, int] = {}
        returned = still_open = 0
        for job in log.jobs.values():
            verified = sum(work[job.job].values())
            if job.ended is None:
                still_open += job.bounty - (job.bounty // job.work * verified if verified else 0)
            else:
                returned += job.bounty - due(job.bounty, verified, job.work)
        for job in log.ended_jobs():
            weights = work[job.job]
            verified = sum(weights.values())
            if not verified:
                continue
            rest = due(job.bounty, verified, job.work) - job.bounty // job.work * verified
            found = apportion(rest, weights, carried, self.key)
            carried = found.carried
            assert job.ended is not None
            payments += _paid(job.ended, found.units)
        return Outcome(log.bounty, tuple(payments), returned, still_open, carried)

    def worth(self, share: ShareRecord) -> int:
        """Its units once it is cleared."""
        return _verified_units(share)


def pplns_weights(newest_first: Iterable[tuple[str, int]], window: int) -> dict[str, int]:
    """{account: work} of the last ``window`` units of work.

    ``newest_first``: (account, verified work), read no further than needed. The share on the
    window's boundary counts in part. Where there is less work than the window has room for, all of
    it counts: the pot is divided over the work that there is. Raises ``ValueError`` for a window
    below 1 and negative work.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1 unit of work, not {window}")
    weights: dict[str, int] = defaultdict(int)
    room = window
    for account, work in newest_first:
        if work < 0:
            raise ValueError(f"work of {account} is negative: {work}")
        weights[account] += min(work, room)
        room -= work
        if room <= 0:
            break
    return dict(weights)


@dataclass(frozen=True, slots=True)
class Pplns:
    """Pay per last N units of work.

    What was cleared in a round is a pot; at the round's end it is divided over the last ``window``
    units of verified work, whichever round they are of (see ``pplns_weights``). A round is
    ``round_seconds`` long, counted from the epoch. What was not verified goes back to the customer.
    """

    window: int  # units of work
    round_seconds: int = 3600
    key: bytes = b""
    name: str = "pplns"

    def replay(self, log: ShareLog) -> Outcome:
        """Pay at the end of each round in which something was cleared."""
        payments: list[Payment] = []
        carried: dict[str, int] = {}
        so_far: list[tuple[str, int]] = []
        pots: dict[int, list[ShareRecord]] = defaultdict(list)
        for share in _cleared(log):
            pots[int(share.at // self.round_seconds)].append(share)
        for number, shares in pots.items():
            so_far += ((share.account, share.work) for share in shares)
            pot = sum(share.units for share in shares)
            weights = pplns_weights(reversed(so_far), self.window)
            found = apportion(pot, weights, carried, self.key)
            carried = found.carried
            payments += _paid(float((number + 1) * self.round_seconds), found.units)
        returned, still_open = _unused(log)
        return Outcome(log.bounty, tuple(payments), returned, still_open, carried)

    def worth(self, share: ShareRecord) -> int:
        """Its units once it is cleared."""
        return _verified_units(share)


@dataclass(frozen=True, slots=True)
class Pps:
    """Pay per share: the reserve pays at acceptance and carries the risk of a later rejection.

    The bounty repays the reserve for what is cleared. ``income_ppm`` of what it pays comes to it
    from the levies, in whole units of the sum. ``shares.money.ruin`` bounds its risk.
    """

    income_ppm: int = 0
    name: str = "pps"

    def replay(self, log: ShareLog) -> Outcome:
        """Pay every share when it is accepted."""
        payments = tuple(Payment(share.at, share.account, share.units) for share in log.shares)
        returned, still_open = _unused(log)
        paid = sum(payment.units for payment in payments)
        income = paid * self.income_ppm // PPM
        repaid = sum(share.units for share in _cleared(log))
        reserve = repaid + income - paid
        return Outcome(log.bounty, payments, returned, still_open, reserve=reserve, income=income)

    def worth(self, share: ShareRecord) -> int:
        """Its units, cleared or not."""
        return share.units


@dataclass(frozen=True, slots=True)
class Classic:
    """What mining pools did first, and no pool should: for contrast only.

    All of a round's bounty is divided over the work in it, however much that is. Where the length
    of a round is not known beforehand, early work is worth more than late work, and a hopper lives
    on the others: M. Rosenfeld, Analysis of Bitcoin Pooled Mining Reward Systems (2011), section
    on proportional pools.
    """

    key: bytes = b""
    name: str = "classic"

    def replay(self, log: ShareLog) -> Outcome:
        """Divide each job's bounty when it ends."""
        payments: list[Payment] = []
        carried: dict[str, int] = {}
        work: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for share in _cleared(log):
            work[share.job][share.account] += share.work
        returned = 0
        for job in log.ended_jobs():
            if not work[job.job]:
                returned += job.bounty
                continue
            found = apportion(job.bounty, work[job.job], carried, self.key)
            carried = found.carried
            assert job.ended is not None
            payments += _paid(job.ended, found.units)
        still_open = sum(job.bounty for job in log.jobs.values() if job.ended is None)
        return Outcome(log.bounty, tuple(payments), returned, still_open, carried)

    def worth(self, share: ShareRecord) -> int:
        """Its units once it is cleared."""
        return _verified_units(share)


def _cleared(log: ShareLog) -> Iterable[ShareRecord]:
    return (share for share in log.shares if share.cleared)


def _verified_units(share: ShareRecord) -> int:
    return share.units if share.cleared else 0


def _paid(at: float, units: Mapping[str, int]) -> list[Payment]:
    return [Payment(at, account, paid) for account, paid in sorted(units.items()) if paid]


def _unused(log: ShareLog) -> tuple[int, int]:
    """Of the bounties, what was not cleared: of jobs that ended, and of those that run."""
    units: dict[str, int] = defaultdict(int)
    for share in _cleared(log):
        units[share.job] += share.units
    returned = still_open = 0
    for job in log.jobs.values():
        rest = job.bounty - units[job.job]
        if rest < 0:
            raise ValueError(
                f"job {job.job}: its cleared shares have {units[job.job]} units, more than its "
                f"bounty of {job.bounty}"
            )
        if job.ended is None:
            still_open += rest
        else:
            returned += rest
    return returned, still_open
