"""What the miner sees: log lines, and on a terminal a small live table under them."""

from __future__ import annotations

import logging
import sys
from typing import TextIO, cast

import structlog
import trio
from rich import box
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.table import Table

from gpu_worker.telemetry import Telemetry

_REFRESH = 0.5
_SMOOTHING = 0.2


def configure_logs(level: str, console: Console | None) -> None:
    """Log to stderr: through ``console``, above its live table, or as JSON, one line an event."""
    output: TextIO = sys.stderr
    renderers: list[structlog.typing.Processor]
    if console is None:
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        renderers = [structlog.dev.ConsoleRenderer()]
        output = cast(TextIO, FileProxy(console, sys.stderr))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(output),
    )


def render(user: str, telemetry: Telemetry, rows_per_second: float) -> Table:
    """The live table: one row of what matters now."""
    title = f"{user} · {telemetry.pool}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    cells = {
        "state": "online" if telemetry.connected else "offline",
        "rows/s": f"{rows_per_second:,.1f}",
        "rows": f"{telemetry.rows:,}",
        "shares": f"{telemetry.shares_done:,}",
        "in hand": str(telemetry.shares_in_hand),
        "parts ok": f"{telemetry.parts_accepted:,}",
        "refused": f"{telemetry.parts_refused.total():,}",
        "work/share": f"{telemetry.difficulty:,}",
    }
    for heading in cells:
        table.add_column(heading, justify="right")
    table.add_row(*cells.values())
    return table


async def show(user: str, telemetry: Telemetry, console: Console) -> None:
    """Keep the live table up to date until cancelled."""
    speed = 0.0
    rows, at = telemetry.rows, trio.current_time()
    with Live(render(user, telemetry, speed), console=console, auto_refresh=False) as live:
        while True:
            await trio.sleep(_REFRESH)
            seconds = trio.current_time() - at
            now = (telemetry.rows - rows) / seconds
            speed += _SMOOTHING * (now - speed)
            rows, at = telemetry.rows, trio.current_time()
            live.update(render(user, telemetry, speed), refresh=True)
