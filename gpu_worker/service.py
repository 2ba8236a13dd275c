"""A rig as a process: signals and the live table around ``Rig.run``."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from itertools import cycle

import structlog
import trio
from rich.console import Console

from gpu_worker.console import report, show
from gpu_worker.rig import Rig
from stratum.logs import Sinks

log = structlog.get_logger()


async def run_until_signalled(
    rig: Rig, *, console: Console | None = None, sinks: Sinks | None = None, level: str = "info"
) -> None:
    """Run a rig until SIGTERM or SIGINT, then let it drain; a second signal ends the process.

    SIGUSR2 takes the log of ``sinks`` from ``level`` to debug, the next one back. With
    ``console``, a live table is shown there; without, a line is logged now and then. Raises
    ``NoDevices``.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_when_signalled, signals, rig, console)
            if sinks is not None and hasattr(signal, "SIGUSR2"):
                await nursery.start(_toggle_debug, sinks, level)
            if console is not None:
                nursery.start_soon(show, rig.config.user, rig.telemetry, console)
            else:
                nursery.start_soon(report, rig.telemetry)
            await rig.run()
            nursery.cancel_scope.cancel()


async def _toggle_debug(
    sinks: Sinks, level: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGUSR2) as signals:
        task_status.started()
        levels = cycle(("debug", level))
        async for _ in signals:
            now = next(levels)
            sinks.set_levels({"": now})
            log.warning("log levels", levels={"all": now})


async def _stop_when_signalled(
    signals: AsyncIterator[int], rig: Rig, console: Console | None
) -> None:
    stopping = False
    async for number in signals:
        if stopping:
            # Whatever holds the rig up (a thread that computes, say) is not waited for.
            if console is not None:
                console.show_cursor()
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stopping = True
        log.info("signal received", signal=signal.Signals(number).name)
        rig.stop()
