"""What the miner sees: the live table, the log lines, Prometheus."""

from __future__ import annotations

import io
import json

import trio
from prometheus_client import CollectorRegistry
from rich.console import Console

from gpu_worker.console import Rates, configure_logs, render, report
from gpu_worker.metrics import TelemetryCollector
from gpu_worker.telemetry import DeviceTelemetry, Telemetry


def two_devices() -> Telemetry:
    gpu = DeviceTelemetry(
        "gpu0",
        state="ready",
        rows=1000,
        tokens=50_000,
        busy_seconds=97.0,
        parts_accepted=67,
        parts_refused=3,
        power_watts=312.4,
        temperature=61.0,
        energy_joules=1234.5,
        memory_used=3 << 30,
        memory_total=80 << 30,
        utilisation=0.87,
        restarts=2,
    )
    gpu.idle_seconds |= {"handover": 1.0, "no_share": 2.0}
    gpu.stage_seconds |= {"attention": 4.5}
    return Telemetry(
        pool="stratum+tcp://p:1",
        connected=True,
        difficulty=8901,
        shares_in_hand=4,
        devices=[gpu, DeviceTelemetry("cpu1", state="restarting")],
    )


async def shown(telemetry: Telemetry, rates: Rates) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render("alice.rig1", telemetry, rates))
    return console.export_text()


async def test_the_live_table_has_a_line_for_each_device(autojump_clock) -> None:
    """Rate, accepted, rejected, power, temperature and idle time; pool and difficulty around."""
    telemetry = two_devices()
    rates = Rates(telemetry, smoothing=1.0)
    telemetry.devices[0].rows += 456
    telemetry.devices[0].tokens += 12_000
    await trio.sleep(10)
    rates.update()

    lines = (await shown(telemetry, rates)).splitlines()
    assert lines[0].strip() == "alice.rig1 · stratum+tcp://p:1 · online"
    [gpu] = [line.split() for line in lines if line.strip().startswith("gpu0")]
    assert gpu == ["gpu0", "ready", "45.6", "1,200", "67", "3", "312", "W", "61", "3.0%"]
    [cpu] = [line.split() for line in lines if line.strip().startswith("cpu1")]
    assert cpu == ["cpu1", "restarting", "0.0", "0", "0", "0", "-", "-", "-"]
    assert any("difficulty 8,901 · shares in hand 4" in line for line in lines)


async def test_a_rate_follows_smoothly_and_falls_when_nothing_is_computed(autojump_clock) -> None:
    """A part that arrives at once does not make the figure jump, nor a pause vanish."""
    telemetry = two_devices()
    device = telemetry.devices[0]
    rates = Rates(telemetry, smoothing=0.5)
    seen = []
    for rows in (100, 100, 0):
        device.rows += rows
        await trio.sleep(1)
        rates.update()
        seen.append(rates.of(device)[0])

    assert seen == [50.0, 75.0, 37.5]


async def test_without_a_terminal_a_line_is_logged_for_each_device(
    autojump_clock, nursery, capsys
) -> None:
    """Once a minute, in JSON, without what the device does not tell."""
    configure_logs("info", None)
    telemetry = two_devices()
    nursery.start_soon(report, telemetry)
    await trio.sleep(30)
    telemetry.devices[0].rows += 600
    await trio.sleep(31)
    nursery.cancel_scope.cancel()

    gpu, cpu = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (gpu["device"], gpu["rows_per_second"], gpu["rejected"]) == ("gpu0", 10.0, 3)
    assert (gpu["power_watts"], gpu["pool"], gpu["difficulty"]) == (
        312.4,
        "stratum+tcp://p:1",
        8901,
    )
    assert (cpu["device"], cpu["state"], "power_watts" in cpu) == ("cpu1", "restarting", False)


def test_prometheus_reads_every_device() -> None:
    """Counters and gauges by device; what a device does not tell is absent, not zero."""
    registry = CollectorRegistry()
    registry.register(TelemetryCollector(two_devices()))

    def read(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"inferpool_rig_device_{name}", labels)

    assert read("rows_total", device="gpu0") == 1000
    assert read("tokens_total", device="gpu0") == 50_000
    assert read("busy_seconds_total", device="gpu0") == 97
    assert read("idle_seconds_total", device="gpu0", why="handover") == 1
    assert read("idle_seconds_total", device="gpu0", why="no_share") == 2
    assert read("stage_seconds_total", device="gpu0", stage="attention") == 4.5
    assert read("parts_accepted_total", device="gpu0") == 67
    assert read("parts_refused_total", device="gpu0") == 3
    assert read("restarts_total", device="gpu0") == 2
    assert read("energy_joules_total", device="gpu0") == 1234.5
    assert read("power_watts", device="gpu0") == 312.4
    assert read("temperature_celsius", device="gpu0") == 61
    assert read("memory_used_bytes", device="gpu0") == 3 << 30
    assert read("memory_bytes", device="gpu0") == 80 << 30
    assert read("utilisation_ratio", device="gpu0") == 0.87
    assert [read("ready", device=name) for name in ("gpu0", "cpu1")] == [1, 0]
    assert read("power_watts", device="cpu1") is None
    assert read("energy_joules_total", device="cpu1") is None
    assert read("rows_total", device="cpu1") == 0
