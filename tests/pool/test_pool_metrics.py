"""What is counted of the records that became durable."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pool.metrics import PoolMetrics
from pool.rigwatch import row_chance, rows_until_drawn
from shares.blocks import Kind, Segment
from shares.board.effects import (
    CreditEarned,
    HeldForfeited,
    LeaseEnded,
    LeaseIssued,
    PartAccepted,
    ShareJudged,
    Won,
)


def _part(why: str, **more: object) -> PartAccepted:
    fields: dict[str, object] = {
        name: 0 for name in PartAccepted.__dataclass_fields__ if name != "least"
    }
    fields |= {"rows": 10, "why": why, "check_rows": (1, 4, 5, 9), "referee_rows": (0,)}
    return PartAccepted(**(fields | more))  # type: ignore[arg-type]


def test_drawn_rows_are_counted_by_why() -> None:
    """Rows of a job with assurance are apart, but for rigs of which all is checked anyway."""
    registry = CollectorRegistry()
    metrics = PoolMetrics(registry, list)
    least = ((4, 6, 250_000),)
    metrics.committed([_part("held"), _part("held", least=least), _part("probation", least=least)])

    def drawn(by: str, why: str) -> float | None:
        labels = {"by": by, "why": why}
        return registry.get_sample_value("inferpool_rows_drawn_total", labels)

    assert drawn("rig", "held") == 4 + 2
    assert drawn("rig", "assurance") == 2
    assert drawn("rig", "probation") == 4
    assert drawn("referee", "held") == 2
    assert drawn("referee", "probation") == 1


def test_shares_are_timed_from_their_lease_to_the_last_part_and_to_the_verdict() -> None:
    """One that ends without a result is not, and takes no memory."""
    registry = CollectorRegistry()
    metrics = PoolMetrics(registry, list)
    leases = [
        LeaseIssued(n, "alice", "rig", "m", "embed", (), 10, 10, 10, 100.0, 160.0) for n in (1, 2)
    ]
    metrics.committed([*leases, _part("held", lease=1)])
    metrics.committed(
        [LeaseEnded(1, "done", "none", 112.0), LeaseEnded(2, "expired", "rig", 160.0)]
    )
    metrics.committed([ShareJudged(1, "cleared", "matched", False, 140.0)])

    def value(name: str) -> float | None:
        return registry.get_sample_value(name)

    assert (value("inferpool_share_seconds_count"), value("inferpool_share_seconds_sum")) == (1, 12)
    assert value("inferpool_verdict_seconds_sum") == 40
    assert (metrics._issued, metrics._accepted) == ({}, {})
    assert value("inferpool_rows_cleared_total") == 10


def test_work_is_counted_by_what_was_judged_of_it() -> None:
    registry = CollectorRegistry()
    metrics = PoolMetrics(registry, list)
    for lease, work in ((1, 30), (1, 12), (2, 5)):
        metrics.committed([CreditEarned(lease, 0, 1, "row", "pay", "a", "r", work, work)])
    metrics.committed(
        [
            ShareJudged(1, "cleared", "sampled", False, 1.0),
            ShareJudged(2, "rejected", "wrong_row", False, 1.0),
        ]
    )

    def work_of(verdict: str, reason: str) -> float | None:
        labels = {"verdict": verdict, "reason": reason}
        return registry.get_sample_value("inferpool_work_judged_total", labels)

    assert (work_of("cleared", "sampled"), work_of("rejected", "wrong_row")) == (42, 5)
    assert metrics._credited == {}


def test_rejected_rows_are_not_cleared_ones() -> None:
    registry = CollectorRegistry()
    metrics = PoolMetrics(registry, list)
    for lease, state in ((1, "rejected"), (2, "void"), (3, "cleared")):
        metrics.committed([_part("held", lease=lease), _part("held", lease=lease)])
        metrics.committed([ShareJudged(lease, state, "", False, 1.0)])
    assert registry.get_sample_value("inferpool_rows_cleared_total") == 20


def test_hedged_rows_are_counted_by_whose_result_came_first() -> None:
    """Rows 10:30 of the block are leased twice; 5 rows of the first part win, then none."""
    registry = CollectorRegistry()
    metrics = PoolMetrics(registry, list)
    segments = (Segment(7, 0, 0, 10, Kind.ROW), Segment(7, 0, 10, 30, Kind.HEDGE))
    issued = LeaseIssued(1, "a", "r", "m", "embed", segments, 30, 30, 30, 0.0, 60.0)
    first = _part("held", lease=1, first_row=0, rows=20, won=(Won(7, 0, 0, 15, 0),))
    second = _part("held", lease=1, first_row=20, rows=10, won=())
    metrics.committed([issued, first, second, LeaseEnded(1, "done", "none", 5.0)])
    metrics.committed([_part("held", lease=2, first_row=0, rows=20, won=(Won(7, 0, 0, 15, 0),))])

    def hedges(winner: str) -> float | None:
        return registry.get_sample_value("inferpool_hedges_total", {"winner": winner})

    assert registry.get_sample_value("inferpool_rows_hedged_total") == 20
    assert (hedges("hedge"), hedges("original")) == (5, 15)
    assert metrics._hedges._hedged == {}


def test_a_slow_share_leads_to_its_log_lines() -> None:
    registry = CollectorRegistry()
    metrics = PoolMetrics(registry, list)
    metrics.committed(
        [
            LeaseIssued(17, "alice", "rig", "m", "embed", (), 10, 10, 10, 100.0, 160.0),
            _part("held", lease=17),
            LeaseEnded(17, "done", "none", 190.0),
            ShareJudged(17, "cleared", "matched", False, 200.0),
        ]
    )
    text = generate_latest(registry).decode()
    found = {
        (family.name, sample.labels["le"]): sample.exemplar.labels
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert found == {
        ("inferpool_share_seconds", "120.0"): {"lease": "17"},
        ("inferpool_verdict_seconds", "120.0"): {"lease": "17"},
    }


@pytest.mark.parametrize(("closed", "counted"), [("completed", 1), ("cancelled", 0)])
def test_a_completed_batch_is_timed_against_its_deadline(closed: str, counted: int) -> None:
    registry = CollectorRegistry()
    metrics = PoolMetrics(registry, list)
    batch = SimpleNamespace(closed=closed, created=100.0, expires_at=200.0)
    metrics.batch_over(cast(Any, batch), 190.0)

    def under(le: str) -> float | None:
        return registry.get_sample_value("inferpool_batch_deadline_ratio_bucket", {"le": le})

    assert (under("0.75"), under("0.9"), under("1.0")) == (0, counted, counted)


def test_the_bound_of_detection_is_the_chance_that_no_row_is_drawn() -> None:
    chance = row_chance(10_000, 1_000)
    assert chance == pytest.approx(1 - 0.99 * 0.999)
    rows = rows_until_drawn(chance, 0.95)
    assert (1 - chance) ** rows <= 0.05 < (1 - chance) ** (rows - 1)
    assert rows_until_drawn(1.0, 0.95) == 1
    assert rows_until_drawn(0.0, 0.95) == float("inf")


def test_an_offence_counts_also_where_nothing_is_held() -> None:
    registry = CollectorRegistry()
    metrics = PoolMetrics(registry, list)
    for what in ("wrong_row", "offence", "offence"):
        metrics.noted(what)
    metrics.committed([HeldForfeited("a", "r", 5, 1, "offence", 1, 0.0)])
    assert registry.get_sample_value("inferpool_offences_total") == 2
    assert registry.get_sample_value("inferpool_forfeited_units_total") == 5


def test_the_first_rejection_is_an_increase() -> None:
    """Prometheus sees no increase in a counter that begins with 1."""
    registry = CollectorRegistry()
    metrics = PoolMetrics(registry, list)

    def rejected() -> float | None:
        labels = {"verdict": "rejected", "reason": "wrong_row"}
        return registry.get_sample_value("inferpool_shares_total", labels)

    assert rejected() == 0
    metrics.committed([ShareJudged(1, "rejected", "wrong_row", False, 1.0)])
    assert rejected() == 1
