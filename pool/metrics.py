"""Prometheus metrics. The registry is passed in; what is durable is counted from its records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pool.hedgecount import HedgeCount
from pool.store.jobs import JobRow
from shares.board.effects import (
    CheckEnded,
    CreditEarned,
    HeldForfeited,
    JobClosed,
    LeaseEnded,
    LeaseIssued,
    PartAccepted,
    Record,
    RefereePaid,
    ShareJudged,
)
from shares.faults import LEASES, VERDICTS
from shares.trust.sampling import HELD, REASONS, least_of

_COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
# A share should take 10 s (shares.target_seconds); its verdict comes seconds or minutes later.
_SHARE_SECONDS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_VERDICT_SECONDS = (1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
_DEADLINE_RATIOS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.5, 2.0)
_GROUP_RECORDS = (1, 4, 16, 64, 256, 1024, 4096)


@dataclass(frozen=True, slots=True)
class Sample:
    """One value read when Prometheus asks: ``counter`` names end in ``_total``."""

    name: str
    help: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


class PoolMetrics:
    """Everything ``/metrics`` shows."""

    def __init__(self, registry: CollectorRegistry, read: Callable[[], list[Sample]]) -> None:
        """``read`` gives the samples that are kept elsewhere (sessions, queues, referee)."""
        self.registry = registry
        self._shares = _counter(
            registry, "inferpool_shares_total", "Shares by verdict.", "verdict", "reason"
        )
        self._leases = _counter(
            registry, "inferpool_leases_ended_total", "Leases that ended.", "state", "fault"
        )
        self._cleared = _counter(
            registry, "inferpool_rows_cleared_total", "Accepted rows of shares that were cleared."
        )
        self._hedged = _counter(
            registry, "inferpool_rows_hedged_total", "Rows leased a second time near a job's end."
        )
        self._won = _counter(
            registry,
            "inferpool_hedges_total",
            "Hedged rows that arrived a second time, by whose result came first.",
            "winner",
        )
        self._work = _counter(
            registry, "inferpool_work_total", "Work by what became of it.", "state"
        )
        self._rows = _counter(registry, "inferpool_rows_accepted_total", "Rows in accepted parts.")
        self._parts = _counter(registry, "inferpool_parts_accepted_total", "Accepted parts.")
        # Onboarding and bought assurance are apart: the rest is what established rigs cost.
        self._drawn = _counter(
            registry,
            "inferpool_rows_drawn_total",
            "Rows drawn to be computed again, by why: held (its rig's pay), neighbour, probation,"
            " assurance (its customer bought it), suspect or no_key.",
            "by",
            "why",
        )
        self._checks = _counter(
            registry, "inferpool_checks_total", "Checked rows by outcome.", "checker", "outcome"
        )
        self._referee_work = _counter(
            registry, "inferpool_referee_work_total", "Work of the referee's runs."
        )
        self._offences = _counter(registry, "inferpool_offences_total", "Confirmed offences.")
        self._forfeited = _counter(
            registry, "inferpool_forfeited_units_total", "Held pay forfeited, in units."
        )
        self._jobs = _counter(registry, "inferpool_jobs_closed_total", "Jobs closed.", "state")
        self._commit = Histogram(
            "inferpool_commit_seconds",
            "Time to make one group durable.",
            buckets=_COMMIT_SECONDS,
            registry=registry,
        )
        self._group = Histogram(
            "inferpool_commit_group_records",
            "Records in one commit group.",
            buckets=_GROUP_RECORDS,
            registry=registry,
        )
        self._share = Histogram(
            "inferpool_share_seconds",
            "From a share's lease to its last part, of those that were done.",
            buckets=_SHARE_SECONDS,
            registry=registry,
        )
        self._verdict = Histogram(
            "inferpool_verdict_seconds",
            "From a share's lease to its verdict.",
            buckets=_VERDICT_SECONDS,
            registry=registry,
        )
        self._deadline = Histogram(
            "inferpool_batch_deadline_ratio",
            "Time that a completed batch took, over the time it had: above 1 is too late.",
            buckets=_DEADLINE_RATIOS,
            registry=registry,
        )
        self._judged = _counter(
            registry,
            "inferpool_work_judged_total",
            "Credited work of shares by their verdict.",
            "verdict",
            "reason",
        )
        self._credited: dict[int, int] = {}  # {lease without a verdict: its credited work}
        self._hedges = HedgeCount()
        self._issued: dict[int, float] = {}  # {lease without a verdict: when it was issued}
        self._accepted: dict[int, int] = {}  # {such a lease: its accepted rows}
        self.loop_lag = Gauge(
            "inferpool_event_loop_lag_seconds",
            "How late the event loop woke at the last look.",
            registry=registry,
        )
        registry.register(_Reader(read))
        self._begin()

    def _begin(self) -> None:
        """Begin at 0 whatever is known to come: the first of a kind is then an increase, too."""
        for verdict, reason in VERDICTS:
            self._shares.labels(verdict, reason)
            self._judged.labels(verdict, reason)
        for state, fault in LEASES:
            self._leases.labels(state, fault)
        for state in ("dispatched", "accepted_row", "accepted_check", "accepted_hedge"):
            self._work.labels(state)
        for outcome in ("matched", "guilty", "accuser_wrong", "both_wrong", "heard", "void"):
            for checker in ("rig", "referee"):
                self._checks.labels(checker, outcome)
        for why in (*REASONS, "assurance"):
            for by in ("rig", "referee"):
                self._drawn.labels(by, why)
        for winner in ("hedge", "original"):
            self._won.labels(winner)
        for state in ("completed", "cancelled", "expired"):
            self._jobs.labels(state)

    def committed(self, records: list[Record]) -> None:
        """Count what became durable."""
        for record in records:
            match record:
                case LeaseIssued():
                    self._work.labels("dispatched").inc(record.work)
                    self._issued[record.lease] = record.issued
                    self._hedged.inc(self._hedges.issued(record))
                case LeaseEnded():
                    self._leases.labels(record.state, record.fault).inc()
                    self._ended(record)
                case PartAccepted():
                    self._parts.inc()
                    self._accepted[record.lease] = self._accepted.get(record.lease, 0) + record.rows
                    self._rows.inc(record.rows)
                    first, second = self._hedges.accepted(record)
                    self._won.labels("hedge").inc(first)
                    self._won.labels("original").inc(second)
                    self._count_draw(record)
                case CreditEarned():
                    self._work.labels(f"accepted_{record.kind}").inc(record.work)
                    work = self._credited.get(record.lease, 0)
                    self._credited[record.lease] = work + record.work
                case ShareJudged():
                    self._shares.labels(record.state, record.reason).inc()
                    work = self._credited.pop(record.lease, 0)
                    self._judged.labels(record.state, record.reason).inc(work)
                    rows = self._accepted.pop(record.lease, 0)
                    self._cleared.inc(rows if record.state == "cleared" else 0)
                    issued = self._issued.pop(record.lease, None)
                    if issued is not None:
                        self._verdict.observe(record.at - issued, _exemplar(record.lease))
                case CheckEnded():
                    by = "referee" if record.checker == "referee" else "rig"
                    self._checks.labels(by, record.outcome).inc()
                case RefereePaid():
                    self._referee_work.inc(record.work)
                case HeldForfeited():
                    self._forfeited.inc(record.units)
                case JobClosed():
                    self._jobs.labels(record.state).inc()
                case _:
                    pass

    def _ended(self, record: LeaseEnded) -> None:
        issued = self._issued.get(record.lease)
        if issued is not None and record.state == "done":
            self._share.observe(record.at - issued, _exemplar(record.lease))
        if record.lease not in self._accepted:
            self._issued.pop(record.lease, None)  # it gets no verdict
        self._hedges.ended(record)

    def _count_draw(self, part: PartAccepted) -> None:
        bought = 0
        if part.why == HELD and part.least:
            least = least_of(part.least, part.rows)
            bought = int(np.count_nonzero(least[list(part.check_rows)]))
            self._drawn.labels("rig", "assurance").inc(bought)
        self._drawn.labels("rig", part.why).inc(len(part.check_rows) - bought)
        self._drawn.labels("referee", part.why).inc(len(part.referee_rows))

    def noted(self, what: str) -> None:
        """Count what the board decided; an offence also of a rig that holds nothing."""
        self._offences.inc(what == "offence")

    def batch_over(self, batch: JobRow, at: float) -> None:
        """A batch's output is there."""
        if batch.closed == "completed" and batch.expires_at is not None:
            had = max(1.0, batch.expires_at - batch.created)
            self._deadline.observe((at - batch.created) / had)

    def group_written(self, seconds: float, records: int) -> None:
        """One commit group is durable."""
        self._commit.observe(seconds)
        self._group.observe(records)


class _Reader(Collector):
    """Turns samples into metric families at each scrape."""

    def __init__(self, read: Callable[[], list[Sample]]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for sample in self._read():
            family = families.get(sample.name)
            if family is None:
                kind = CounterMetricFamily if sample.name.endswith("_total") else GaugeMetricFamily
                family = kind(sample.name, sample.help, labels=[name for name, _ in sample.labels])
                families[sample.name] = family
            family.add_metric([value for _, value in sample.labels], sample.value)  # type: ignore[attr-defined] # both kinds have it, their base has not
        yield from families.values()


def _exemplar(lease: int) -> dict[str, str]:
    """What leads from a bucket of a histogram to the log lines of a share."""
    return {"lease": str(lease)}


def _counter(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=registry)
