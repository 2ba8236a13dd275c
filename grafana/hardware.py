"""How much the rigs do, how busy they are, and what it costs in energy."""

from __future__ import annotations

from typing import Any

from panels import GREEN, RED, YELLOW, dashboard, graph, row, tile
from queries import per_second

PANELS = [
    row("The pool's rigs"),
    tile(
        "Work a second",
        "sum(inferpool_rate)",
        "inferpool_rate: measured over all connected rigs.",
    ),
    tile(
        "Rigs at work",
        'sum(inferpool_sessions{state="working"})',
        "inferpool_sessions. Red at 0: nobody has a share; see docs/OPERATING.md#nobody-works.",
        steps=((None, RED), (1, GREEN)),
    ),
    tile(
        "Work per rig",
        "sum(inferpool_rate) / clamp_min(sum(inferpool_sessions), 1)",
        "inferpool_rate over inferpool_sessions.",
    ),
    graph(
        "Rigs by state",
        "inferpool_sessions. Idle while work waits: they have not the model, or are in quarantine.",
        ("sum by (state) (inferpool_sessions)", "{{state}}"),
        stacked=True,
    ),
    graph(
        "Declared and measured",
        "inferpool_rate, inferpool_declared_rate: what rigs suggest themselves is a wish; shares "
        "are sized, and pay follows, by what is measured.",
        ("sum(inferpool_rate)", "measured"),
        ("sum(inferpool_declared_rate)", "declared"),
    ),
    graph(
        "Accepted work a second",
        "inferpool_work_total by what it was for.",
        (
            'sum by (state) (rate(inferpool_work_total{state=~"accepted.*"}[$__rate_interval]))',
            "{{state}}",
        ),
        stacked=True,
    ),
    row("Rigs that this Prometheus reads (your own)"),
    tile(
        "Tokens per joule",
        "sum(rate(inferpool_rig_device_tokens_total[5m]) and on (instance, device)"
        " inferpool_rig_device_energy_joules_total)"
        " / sum(rate(inferpool_rig_device_energy_joules_total[5m]))",
        "inferpool_rig_device_tokens_total, inferpool_rig_device_energy_joules_total: what decides "
        "who earns. Compare with GET /api/v1/hardware of the pool.",
        decimals=2,
    ),
    tile(
        "Power",
        "sum(inferpool_rig_device_power_watts)",
        "inferpool_rig_device_power_watts of all devices.",
        unit="watt",
    ),
    tile(
        "Throttled",
        "sum(inferpool_rig_device_throttled)",
        "inferpool_rig_device_throttled: devices kept slow by heat or power. Red: "
        "docs/OPERATING.md#rig-throttled.",
        steps=((None, GREEN), (1, RED)),
    ),
    tile(
        "Hottest",
        "max(inferpool_rig_device_temperature_celsius)",
        "inferpool_rig_device_temperature_celsius. Red above 85 °C: docs/OPERATING.md#rig-hot.",
        unit="celsius",
        steps=((None, GREEN), (75, YELLOW), (85, RED)),
    ),
    graph(
        "Tokens per joule, by device",
        "inferpool_rig_device_tokens_total over inferpool_rig_device_energy_joules_total.",
        (
            "sum by (instance, device) (rate(inferpool_rig_device_tokens_total[5m]))"
            " / sum by (instance, device) (rate(inferpool_rig_device_energy_joules_total[5m]))",
            "{{instance}} {{device}}",
        ),
    ),
    graph(
        "Busy, by device",
        "inferpool_rig_device_busy_seconds_total. Below 80 % with work waiting: see idle time.",
        (
            per_second("inferpool_rig_device_busy_seconds_total", "instance", "device"),
            "{{instance}} {{device}}",
        ),
        unit="percentunit",
    ),
    graph(
        "Idle between shares",
        "inferpool_rig_device_idle_seconds_total. no_share: raise --credit, or the pool has no "
        "work; "
        "handover: the processor is too slow for the GPU.",
        (per_second("inferpool_rig_device_idle_seconds_total", "why"), "{{why}}"),
        unit="percentunit",
        stacked=True,
    ),
    graph(
        "Memory in use",
        "inferpool_rig_device_memory_used_bytes.",
        (
            "sum by (instance, device) (inferpool_rig_device_memory_used_bytes)",
            "{{instance}} {{device}}",
        ),
        unit="bytes",
    ),
]

BOARD: dict[str, Any] = dashboard(
    "inferpool-hardware",
    "inferpool: hardware",
    "How much the rigs do, how busy they are, what it costs in energy.",
    PANELS,
    [],
)
