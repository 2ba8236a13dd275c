"""A rig as a process: signals, metrics, and the live table around ``Rig.run``."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import structlog
import trio
from prometheus_client import CollectorRegistry
from rich.console import Console

from gpu_worker.console import show
from gpu_worker.rig import Rig
from gpu_worker.telemetry import TelemetryCollector, serve_metrics

log = structlog.get_logger()


async def run_until_signalled(
    rig: Rig, *, console: Console | None = None, metrics_port: int | None = None
) -> None:
    """Run a rig until SIGTERM or SIGINT, then let it drain; a second signal ends the process.

    With ``console``, a live table is shown there. With ``metrics_port``, Prometheus is answered
    on that port of the loopback (0 picks one and logs it). Raises ``OSError`` when it is taken.
    """
    if metrics_port is not None:
        registry = CollectorRegistry()
        registry.register(TelemetryCollector(rig.telemetry))
        log.info("metrics", port=serve_metrics(registry, metrics_port))
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_when_signalled, signals, rig)
            if console is not None:
                nursery.start_soon(show, rig.config.user, rig.telemetry, console)
            await rig.run()
            nursery.cancel_scope.cancel()


async def _stop_when_signalled(signals: AsyncIterator[int], rig: Rig) -> None:
    stopping = False
    async for number in signals:
        if stopping:
            # Whatever holds the rig up (a thread that computes, say) is not waited for.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stopping = True
        log.info("signal received", signal=signal.Signals(number).name)
        rig.stop()
