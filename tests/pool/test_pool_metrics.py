"""What is counted of the records that became durable."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from pool.metrics import PoolMetrics
from shares.board.effects import LeaseEnded, LeaseIssued, PartAccepted, ShareJudged


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
    assert (metrics._issued, metrics._accepted) == ({}, set())
