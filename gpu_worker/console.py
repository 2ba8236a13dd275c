"""What the miner sees: log lines, and on a terminal a live table of the devices under them."""

from __future__ import annotations

import sys
from typing import TextIO, cast

import structlog
import trio
from rich import box
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.table import Table

from gpu_worker.telemetry import DeviceTelemetry, Telemetry
from stratum.logs import Sinks, configure

log = structlog.get_logger()

_REFRESH = 0.5
_REPORT = 60.0
_SMOOTHING = 0.2


def configure_logs(level: str, console: Console | None) -> Sinks:
    """Log to stderr: through ``console``, above its live table, or as JSON, one line an event.

    Returns what changes the level.
    """
    output = sys.stderr if console is None else cast(TextIO, FileProxy(console, sys.stderr))
    # A rig sees token ids and no text: what its exceptions say quotes no customer.
    return configure(level, output, terminal=console is not None, failure_words=True, lasting=False)


def render(user: str, telemetry: Telemetry, rates: Rates) -> Table:
    """The live table: a line for each device, and for the rig what it has in hand."""
    state = "online" if telemetry.connected else "offline"
    table = Table(
        title=f"{user} · {telemetry.pool} · {state}",
        caption=(
            f"difficulty {telemetry.difficulty:,} · shares in hand {telemetry.shares_in_hand} · "
            f"done {telemetry.shares_done:,} · lost {telemetry.shares_lost.total():,}"
        ),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for heading in ("device", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("rows/s", "tokens/s", "accepted", "rejected", "power", "°C", "idle"):
        table.add_column(heading, justify="right", no_wrap=True)
    for device in telemetry.devices:
        rows, tokens = rates.of(device)
        idle = device.idle_share
        table.add_row(
            device.name,
            device.state,
            f"{rows:,.1f}",
            f"{tokens:,.0f}",
            f"{device.parts_accepted:,}",
            f"{device.parts_refused:,}",
            "-" if device.power_watts is None else f"{device.power_watts:.0f} W",
            "-" if device.temperature is None else f"{device.temperature:.0f}",
            "-" if idle is None else f"{idle:.1%}",
        )
    return table


class Rates:
    """Rows and tokens a second of each device, smoothed over some readings."""

    def __init__(self, telemetry: Telemetry, *, smoothing: float) -> None:
        self._telemetry = telemetry
        self._smoothing = smoothing
        self._at = trio.current_time()
        self._counted = self._count()  # {device: (rows, tokens)} at the last reading
        self._rates: dict[str, tuple[float, float]] = {}

    def of(self, device: DeviceTelemetry) -> tuple[float, float]:
        """Rows and tokens a second."""
        return self._rates.get(device.name, (0.0, 0.0))

    def update(self) -> None:
        """Read the counters again."""
        now, counted = trio.current_time(), self._count()
        seconds = now - self._at
        if seconds <= 0:
            return
        for name, (rows, tokens) in counted.items():
            rows_before, tokens_before = self._counted.get(name, (0, 0))
            old_rows, old_tokens = self._rates.get(name, (0.0, 0.0))
            self._rates[name] = (
                old_rows + self._smoothing * ((rows - rows_before) / seconds - old_rows),
                old_tokens + self._smoothing * ((tokens - tokens_before) / seconds - old_tokens),
            )
        self._at, self._counted = now, counted

    def _count(self) -> dict[str, tuple[int, int]]:
        return {device.name: (device.rows, device.tokens) for device in self._telemetry.devices}


async def show(user: str, telemetry: Telemetry, console: Console) -> None:
    """Keep the live table up to date until cancelled."""
    rates = Rates(telemetry, smoothing=_SMOOTHING)
    with Live(render(user, telemetry, rates), console=console, auto_refresh=False) as live:
        while True:
            await trio.sleep(_REFRESH)
            rates.update()
            live.update(render(user, telemetry, rates), refresh=True)


async def report(telemetry: Telemetry) -> None:
    """Where there is no terminal: log a line for each device every minute, until cancelled."""
    rates = Rates(telemetry, smoothing=1.0)
    while True:
        await trio.sleep(_REPORT)
        rates.update()
        for device in telemetry.devices:
            rows, tokens = rates.of(device)
            known = {
                "power_watts": device.power_watts,
                "temperature": device.temperature,
                "idle": None if device.idle_share is None else round(device.idle_share, 4),
            }
            log.info(
                "working",
                device=device.name,
                state=device.state,
                rows_per_second=round(rows, 1),
                tokens_per_second=round(tokens),
                accepted=device.parts_accepted,
                rejected=device.parts_refused,
                pool=telemetry.pool if telemetry.connected else "",
                difficulty=telemetry.difficulty,
                **{name: value for name, value in known.items() if value is not None},
            )
