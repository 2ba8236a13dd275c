"""How Prometheus reads what a rig counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gpu_worker.telemetry import DeviceTelemetry, Telemetry

_PREFIX: Final = "inferpool_rig"

_Read = Callable[[DeviceTelemetry], float | None]

# (name, help, how to read it); what a device does not tell is left out.
_DEVICE_COUNTERS: Final[tuple[tuple[str, str, _Read], ...]] = (
    ("rows", "Rows computed by the device", lambda d: d.rows),
    ("tokens", "Tokens computed by the device", lambda d: d.tokens),
    ("busy_seconds", "Seconds that the device computed", lambda d: d.busy_seconds),
    (
        "parts_accepted",
        "Parts of it that the pool acknowledged",
        lambda d: d.parts_accepted,
    ),
    ("parts_refused", "Parts of it that the pool refused", lambda d: d.parts_refused),
    ("restarts", "How often the device's process was replaced", lambda d: d.restarts),
    ("energy_joules", "Energy that the device used", lambda d: d.energy_joules or None),
)
_DEVICE_GAUGES: Final[tuple[tuple[str, str, _Read], ...]] = (
    ("ready", "1 while the device takes rows", lambda d: float(d.state == "ready")),
    ("power_watts", "Power that the device draws", lambda d: d.power_watts),
    ("temperature_celsius", "Temperature of the device", lambda d: d.temperature),
    ("memory_used_bytes", "Memory of the device in use", lambda d: d.memory_used),
    ("memory_bytes", "Memory of the device", lambda d: d.memory_total),
    (
        "throttled",
        "1 while heat or power keeps the device slower than it could be",
        lambda d: None if d.throttled is None else float(d.throttled),
    ),
    ("utilisation_ratio", "The part of the time that the device is busy", lambda d: d.utilisation),
)


class TelemetryCollector:
    """Exposes a ``Telemetry`` to the registry that it is registered with."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[Metric]:
        """Yield every counter and gauge as a metric family."""
        yield from self._rig()
        yield from self._devices()

    def _rig(self) -> Iterator[Metric]:
        now = self._telemetry
        for name, words, value in (
            ("rows", "Rows computed", now.rows),
            ("tokens", "Tokens of the rows computed", now.tokens),
            ("shares_taken", "Shares that the pool sent", now.shares_taken),
            ("shares_done", "Shares acknowledged in full", now.shares_done),
            ("parts_accepted", "Parts that the pool acknowledged", now.parts_accepted),
            ("sessions", "Sessions that the pool authorised", now.sessions),
        ):
            yield CounterMetricFamily(f"{_PREFIX}_{name}", words, value=value)
        counters: tuple[tuple[str, str, str, Mapping[str, float]], ...] = (
            ("shares_lost", "reason", "Shares that ended without pay", now.shares_lost),
            ("parts_refused", "reason", "Parts that the pool refused", now.parts_refused),
            ("busy_seconds", "stage", "Seconds spent by stage", now.busy_seconds),
        )
        for name, label, words, counter in counters:
            family = CounterMetricFamily(f"{_PREFIX}_{name}", words, labels=[label])
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
            yield GaugeMetricFamily(f"{_PREFIX}_{name}", words, value=gauge)

    def _devices(self) -> Iterator[Metric]:
        families: tuple[tuple[type[Metric], tuple[tuple[str, str, _Read], ...]], ...] = (
            (CounterMetricFamily, _DEVICE_COUNTERS),
            (GaugeMetricFamily, _DEVICE_GAUGES),
        )
        for kind, readings in families:
            for name, words, read in readings:
                family = kind(f"{_PREFIX}_device_{name}", words, labels=["device"])  # type: ignore[call-arg]
                for device in self._telemetry.devices:
                    value = read(device)
                    if value is not None:
                        family.add_metric([device.name], value)  # type: ignore[attr-defined]
                yield family
        split: tuple[tuple[str, str, str, Callable[[DeviceTelemetry], Mapping[str, float]]], ...]
        split = (
            ("idle_seconds", "why", "Seconds between two runs of rows", lambda d: d.idle_seconds),
            ("stage_seconds", "stage", "Seconds by the engine's stage", lambda d: d.stage_seconds),
        )
        for name, label, words, parts in split:
            counter = CounterMetricFamily(
                f"{_PREFIX}_device_{name}", words, labels=["device", label]
            )
            for device in self._telemetry.devices:
                for key, seconds in sorted(parts(device).items()):
                    counter.add_metric([device.name, key], seconds)
            yield counter


def serve_metrics(registry: CollectorRegistry, port: int, host: str = "127.0.0.1") -> int:
    """Answer Prometheus on ``host:port`` from a thread; returns the bound port (0 picks one)."""
    server, _ = start_http_server(port, addr=host, registry=registry)
    return int(server.server_port)
