"""The miner's dashboard, for the Prometheus beside the rig."""

from __future__ import annotations

from typing import Any

from panels import GREEN, RED, YELLOW, dashboard, graph, row, tile, variable

RATE = "[$__rate_interval]"
DEVICE = '{device=~"$device"}'

PANELS = [
    row("Now"),
    tile(
        "Connected",
        "min(inferpool_rig_connected)",
        "inferpool_rig_connected. Red: no session with a pool; it keeps dialling. See its log.",
        steps=((None, RED), (1, GREEN)),
    ),
    tile(
        "Devices ready",
        "sum(inferpool_rig_device_ready)",
        "inferpool_rig_device_ready. Red: none takes rows; run inferpool doctor.",
        steps=((None, RED), (1, GREEN)),
    ),
    tile(
        "Rows a second",
        "sum(rate(inferpool_rig_rows_total[1m]))",
        "inferpool_rig_rows_total.",
    ),
    tile(
        "Shares in hand",
        "sum(inferpool_rig_shares_in_hand)",
        "inferpool_rig_shares_in_hand. 0 while connected: the pool has no work for this rig.",
    ),
    tile(
        "Refused parts, 1 h",
        "sum(increase(inferpool_rig_parts_refused_total[1h])) or vector(0)",
        "inferpool_rig_parts_refused_total. Red: results do not arrive, or are not taken; the "
        "rig's log has the reasons.",
        steps=((None, GREEN), (1, YELLOW), (10, RED)),
    ),
    tile(
        "Waiting for an answer",
        "sum(inferpool_rig_unacknowledged_bytes)",
        "inferpool_rig_unacknowledged_bytes. It grows when the line or the pool is slow.",
        unit="bytes",
        steps=((None, GREEN), (4 << 20, YELLOW), (64 << 20, RED)),
    ),
    row("Work"),
    graph(
        "Rows a second by device",
        "inferpool_rig_device_rows_total. One far below its like: it is throttled or shared.",
        (f"sum by (device) (rate(inferpool_rig_device_rows_total{DEVICE}{RATE}))", "{{device}}"),
        stacked=True,
    ),
    graph(
        "Tokens a second by device",
        "inferpool_rig_device_tokens_total.",
        (f"sum by (device) (rate(inferpool_rig_device_tokens_total{DEVICE}{RATE}))", "{{device}}"),
        stacked=True,
    ),
    graph(
        "Shares",
        "inferpool_rig_shares_taken_total, inferpool_rig_shares_done_total. Taken far above done: "
        "shares are lost.",
        (f"sum(rate(inferpool_rig_shares_taken_total{RATE}))", "taken"),
        (f"sum(rate(inferpool_rig_shares_done_total{RATE}))", "done"),
    ),
    graph(
        "Time between runs",
        "inferpool_rig_device_idle_seconds_total by why. no_share: the pool sent none in time; "
        "handover: the rig is at fault.",
        (
            f"sum by (device, why) (rate(inferpool_rig_device_idle_seconds_total{DEVICE}{RATE}))",
            "{{device}} {{why}}",
        ),
        unit="percentunit",
    ),
    graph(
        "Time computing",
        "inferpool_rig_device_busy_seconds_total: 1 is all the time.",
        (
            f"sum by (device) (rate(inferpool_rig_device_busy_seconds_total{DEVICE}{RATE}))",
            "{{device}}",
        ),
        unit="percentunit",
    ),
    graph(
        "Time by stage of the rig",
        "inferpool_rig_busy_seconds_total. acknowledge high: the line or the pool is slow.",
        (f"sum by (stage) (rate(inferpool_rig_busy_seconds_total{RATE}))", "{{stage}}"),
        unit="percentunit",
    ),
    row("Machine"),
    graph(
        "Power",
        "inferpool_rig_device_power_watts. Without sensors (nvidia-ml-py) there is none.",
        (f"sum by (device) (inferpool_rig_device_power_watts{DEVICE})", "{{device}}"),
        unit="watt",
    ),
    graph(
        "Temperature",
        "inferpool_rig_device_temperature_celsius. Above 85 most GPUs slow down: see to the air.",
        (f"max by (device) (inferpool_rig_device_temperature_celsius{DEVICE})", "{{device}}"),
        unit="celsius",
        red_from=85,
    ),
    graph(
        "Rows a joule",
        "inferpool_rig_device_rows_total over inferpool_rig_device_energy_joules_total.",
        (
            f"sum by (device) (rate(inferpool_rig_device_rows_total{DEVICE}{RATE}))"
            f" / sum by (device) (rate(inferpool_rig_device_energy_joules_total{DEVICE}{RATE}))",
            "{{device}}",
        ),
    ),
    graph(
        "Memory",
        "inferpool_rig_device_memory_used_bytes of inferpool_rig_device_memory_bytes.",
        (f"sum by (device) (inferpool_rig_device_memory_used_bytes{DEVICE})", "{{device}} used"),
        (f"sum by (device) (inferpool_rig_device_memory_bytes{DEVICE})", "{{device}} all"),
        unit="bytes",
    ),
    graph(
        "Utilisation",
        "inferpool_rig_device_utilisation_ratio, as the driver tells it.",
        (f"max by (device) (inferpool_rig_device_utilisation_ratio{DEVICE})", "{{device}}"),
        unit="percentunit",
    ),
    row("What went wrong"),
    graph(
        "Parts",
        "inferpool_rig_device_parts_accepted_total and inferpool_rig_device_parts_refused_total.",
        (f"sum(rate(inferpool_rig_device_parts_accepted_total{DEVICE}{RATE}))", "accepted"),
        (f"sum(rate(inferpool_rig_device_parts_refused_total{DEVICE}{RATE}))", "refused"),
    ),
    graph(
        "Sessions and restarts",
        "inferpool_rig_sessions_total, inferpool_rig_device_restarts_total, in an hour. Many: the "
        "line breaks, or a device dies.",
        ("sum(increase(inferpool_rig_sessions_total[1h]))", "sessions"),
        (
            f"sum by (device) (increase(inferpool_rig_device_restarts_total{DEVICE}[1h]))",
            "{{device}} restarts",
        ),
    ),
    graph(
        "Difficulty",
        "inferpool_rig_difficulty: work in a share; the pool makes it follow the rig's speed.",
        ("max(inferpool_rig_difficulty)", "work a share"),
    ),
]

BOARD: dict[str, Any] = dashboard(
    "inferpool-rig",
    "inferpool: rig",
    "What a miner's rig does, and what keeps it from doing more.",
    PANELS,
    [variable("device", "Device", "inferpool_rig_device_ready")],
)
