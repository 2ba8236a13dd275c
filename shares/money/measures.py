"""What a scheme means to a miner: pay by account, and how much it varies from span to span."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean, pvariance

from shares.money.price import PPM
from shares.money.schemes import Outcome
from shares.money.sharelog import ShareLog


@dataclass(frozen=True, slots=True)
class AccountPay:
    """One account under one scheme. Variance is of units per unit of work, and so squared."""

    account: str
    work: int  # of all its shares
    units: int
    variance: float | None  # None with work in fewer than two spans

    @property
    def per_unit(self) -> float:
        """Units for a unit of work."""
        return self.units / self.work


def pay_by_account(log: ShareLog, outcome: Outcome, spans: int) -> list[AccountPay]:
    """Every account that worked, most work first.

    The log's time is cut into ``spans`` equal ones; the variance is that of pay in a span per unit
    of work in it, over the spans in which the account worked. Raises ``ValueError`` for ``spans``
    below 1.
    """
    if spans < 1:
        raise ValueError(f"spans must be at least 1, not {spans}")
    pay = outcome.pay()
    work = log.work_by_account()
    varied = _variances(log, outcome, spans)
    ordered = sorted(work, key=lambda account: (-work[account], account))
    return [AccountPay(name, work[name], pay.get(name, 0), varied[name]) for name in ordered]


def _variances(log: ShareLog, outcome: Outcome, spans: int) -> dict[str, float | None]:
    start, stop = _extent(log, outcome)
    length = (stop - start) / spans

    def span(at: float) -> int:
        # A span holds its end, so that pay at a round's end stays beside the round's work.
        return min(spans - 1, max(0, math.ceil((at - start) / length) - 1)) if length else 0

    work: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    units: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for share in log.shares:
        work[share.account][span(share.at)] += share.work
    for payment in outcome.payments:
        units[payment.account][span(payment.at)] += payment.units
    return {
        account: pvariance(units[account][number] / done for number, done in by_span.items())
        if len(by_span) > 1
        else None
        for account, by_span in work.items()
    }


def _extent(log: ShareLog, outcome: Outcome) -> tuple[float, float]:
    moments = [share.at for share in log.shares] + [one.at for one in outcome.payments]
    return (min(moments), max(moments)) if moments else (0.0, 0.0)


def mean_variance(accounts: list[AccountPay]) -> float | None:
    """Over the accounts that have one."""
    found = [one.variance for one in accounts if one.variance is not None]
    return fmean(found) if found else None


@dataclass(frozen=True, slots=True)
class Risk:
    """What the reserve risks with a share under pps: arguments of ``shares.money.ruin``.

    The loss is the largest share's pay, and the chance such that the mean loss is the log's: of all
    losses up to the largest with that mean this is the riskiest.
    """

    chance: float
    loss: int  # units
    income: float  # units a share


def risk(log: ShareLog, income_ppm: int) -> Risk | None:
    """As the log has it; None without shares."""
    if not log.shares:
        return None
    count = len(log.shares)
    largest = max(share.units for share in log.shares)
    lost = sum(share.units for share in log.shares if not share.cleared)
    paid = sum(share.units for share in log.shares)
    chance = lost / (largest * count) if largest else 0.0
    return Risk(chance, largest, paid * income_ppm / PPM / count)
