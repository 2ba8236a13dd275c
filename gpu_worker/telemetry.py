"""What a rig counts, and how Prometheus reads it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


@dataclass(slots=True)
class Telemetry:
    """Counters since the rig started, and gauges of now."""

    rows: int = 0
    """Rows computed."""
    tokens: int = 0
    """Tokens of the rows computed."""
    shares_taken: int = 0
    """Shares that the pool sent."""
    shares_done: int = 0
    """Shares of which the pool acknowledged every part."""
    shares_lost: Counter[str] = field(default_factory=Counter)
    """Shares that ended otherwise, by why: ``cancelled``, ``refused``, ``released``, ``stale``."""
    parts_accepted: int = 0
    """Parts that the pool acknowledged."""
    parts_refused: Counter[str] = field(default_factory=Counter)
    """Parts that the pool refused, by its reason code."""
    busy_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds spent by stage: ``download``, ``load``, ``compute``, ``acknowledge``."""
    sessions: int = 0
    """Sessions that the pool authorised."""
    connected: bool = False
    """Whether a session is open."""
    pool: str = ""
    """The pool that is or was last dialled."""
    difficulty: int = 0
    """Work per share, as the pool said last."""
    shares_in_hand: int = 0
    """Shares leased to this rig now."""
    unacknowledged_bytes: int = 0
    """Bytes of results that the pool has not acknowledged."""


_REASONS_KEPT = 32


def count_reason(counter: Counter[str], reason: str) -> None:
    """Count under ``reason``; a pool that invents ever new ones does not grow the counter."""
    known = reason in counter or len(counter) < _REASONS_KEPT
    counter[reason if known else "other"] += 1


class TelemetryCollector:
    """Exposes a ``Telemetry`` to the registry that it is registered with."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[Metric]:
        """Yield every counter and gauge as a metric family."""
        now = self._telemetry
        for name, words, value in (
            ("rows", "Rows computed", now.rows),
            ("tokens", "Tokens of the rows computed", now.tokens),
            ("shares_taken", "Shares that the pool sent", now.shares_taken),
            ("shares_done", "Shares acknowledged in full", now.shares_done),
            ("parts_accepted", "Parts that the pool acknowledged", now.parts_accepted),
            ("sessions", "Sessions that the pool authorised", now.sessions),
        ):
            yield CounterMetricFamily(f"inferpool_rig_{name}", words, value=value)
        counters: tuple[tuple[str, str, str, Mapping[str, float]], ...] = (
            ("shares_lost", "reason", "Shares that ended without pay", now.shares_lost),
            ("parts_refused", "reason", "Parts that the pool refused", now.parts_refused),
            ("busy_seconds", "stage", "Seconds spent by stage", now.busy_seconds),
        )
        for name, label, words, counter in counters:
            family = CounterMetricFamily(f"inferpool_rig_{name}", words, labels=[label])
            for key, count in sorted(counter.items()):
                family.add_metric([key], count)
            yield family
        for name, words, gauge in (
            ("connected", "1 while a session is open", int(now.connected)),
            ("difficulty", "Work per share, as the pool said last", now.difficulty),
            ("shares_in_hand", "Shares leased to this rig", now.shares_in_hand),
            (
                "unacknowledged_bytes",
                "Bytes of results not acknowledged by the pool",
                now.unacknowledged_bytes,
            ),
        ):
            yield GaugeMetricFamily(f"inferpool_rig_{name}", words, value=gauge)


def serve_metrics(registry: CollectorRegistry, port: int, host: str = "127.0.0.1") -> int:
    """Answer Prometheus on ``host:port`` from a thread; returns the bound port (0 picks one)."""
    server, _ = start_http_server(port, addr=host, registry=registry)
    return int(server.server_port)
