"""Is the pool's own machine fast enough, and who knocks at its doors?"""

from __future__ import annotations

from typing import Any

from panels import GREEN, RED, YELLOW, dashboard, graph, row, tile
from queries import per_second, quantile

PANELS = [
    row("Now"),
    tile(
        "Event loop lag",
        "max(inferpool_event_loop_lag_seconds)",
        "inferpool_event_loop_lag_seconds. Red above 0.25 s: docs/OPERATING.md#event-loop-lag.",
        unit="s",
        steps=((None, GREEN), (0.05, YELLOW), (0.25, RED)),
    ),
    tile(
        "Commit, 99 %",
        "histogram_quantile(0.99, sum by (le) (rate(inferpool_commit_seconds_bucket[5m])))",
        "inferpool_commit_seconds. Red above 0.25 s: docs/OPERATING.md#commit-latency.",
        unit="s",
        steps=((None, GREEN), (0.1, YELLOW), (0.25, RED)),
    ),
    tile(
        "Leasing paused",
        "max(inferpool_leasing_paused)",
        "inferpool_leasing_paused: too much waits for the disk. Red: "
        "docs/OPERATING.md#leasing-paused.",
        steps=((None, GREEN), (1, RED)),
    ),
    tile(
        "Processor",
        'sum(rate(process_cpu_seconds_total{job="inferpool"}[1m]))',
        "process_cpu_seconds_total: processors that the pool's own process uses; it has one "
        "loop. Red "
        "near 1: the gateway is at its limit.",
        steps=((None, GREEN), (0.6, YELLOW), (0.9, RED)),
        decimals=2,
    ),
    tile(
        "Memory",
        'sum(process_resident_memory_bytes{job="inferpool"})',
        "process_resident_memory_bytes of the pool's own process.",
        unit="bytes",
    ),
    tile(
        "On the disk",
        "sum(inferpool_store_bytes)",
        "inferpool_store_bytes: all that the pool keeps.",
        unit="bytes",
    ),
    row("Durability"),
    graph(
        "Commit",
        "inferpool_commit_seconds: making a group durable. Red above 0.25 s: the disk is too slow.",
        (quantile(0.5, "inferpool_commit_seconds"), "half"),
        (quantile(0.99, "inferpool_commit_seconds"), "99 %"),
        unit="s",
        red_from=0.25,
    ),
    graph(
        "Records in a commit group",
        "inferpool_commit_group_records. Large groups: the disk is the limit.",
        (quantile(0.5, "inferpool_commit_group_records"), "half"),
        (quantile(0.99, "inferpool_commit_group_records"), "99 %"),
    ),
    graph(
        "Waiting for the disk",
        "inferpool_waiting_bytes. At commit_high_water_bytes no more shares are cut.",
        ("sum(inferpool_waiting_bytes)", "bytes"),
        unit="bytes",
    ),
    graph(
        "On the disk, by what it is",
        "inferpool_store_bytes. See docs/OPERATING.md#store-grows.",
        ("sum by (what) (inferpool_store_bytes)", "{{what}}"),
        unit="bytes",
        stacked=True,
    ),
    graph(
        "Blocks in memory",
        "inferpool_blocks. It follows the open jobs; growing alone: tell the developers.",
        ("sum(inferpool_blocks)", "blocks"),
        ("sum(inferpool_leases)", "leases"),
    ),
    graph(
        "Parts a second",
        "inferpool_parts_accepted_total: each is a frame, a digest and a row of the store.",
        (per_second("inferpool_parts_accepted_total"), "parts"),
    ),
    row("Doors"),
    graph(
        "Connections",
        "inferpool_connections, inferpool_sessions. Far more connections than sessions: strangers.",
        ("sum(inferpool_connections)", "connections"),
        ("sum(inferpool_sessions)", "sessions"),
    ),
    graph(
        "Opened and refused",
        "inferpool_connections_opened_total, inferpool_connections_refused_total. Refused by "
        "address: "
        "one machine opens too many.",
        (per_second("inferpool_connections_opened_total"), "opened"),
        (
            "(sum(rate(inferpool_connections_refused_total[$__rate_interval])) or vector(0))",
            "refused",
        ),
    ),
    graph(
        "Authorisations",
        "inferpool_authorisations_total by outcome. Many wrong tokens: somebody guesses, or a "
        "token "
        "was changed.",
        (
            "sum by (outcome) (increase(inferpool_authorisations_total[15m]))",
            "{{outcome}}",
        ),
    ),
    graph(
        "Protocol errors in 15 min",
        "inferpool_protocol_errors_total, inferpool_malformed_parts_total by reason "
        "(docs/PROTOCOL.md). Many of one kind: a broken client.",
        (
            "sum by (reason) (increase(inferpool_protocol_errors_total[15m]))"
            " or sum by (reason) (increase(inferpool_malformed_parts_total[15m])) or vector(0)",
            "{{reason}}",
        ),
    ),
    graph(
        "Bytes",
        "inferpool_received_bytes_total, inferpool_sent_bytes_total.",
        (per_second("inferpool_received_bytes_total"), "from rigs"),
        (per_second("inferpool_sent_bytes_total"), "to rigs"),
        unit="Bps",
    ),
    graph(
        "Frames",
        "inferpool_received_frames_total, inferpool_sent_frames_total.",
        (per_second("inferpool_received_frames_total"), "from rigs"),
        (per_second("inferpool_sent_frames_total"), "to rigs"),
    ),
]

BOARD: dict[str, Any] = dashboard(
    "inferpool-internals",
    "inferpool: internals",
    "Is the pool's own machine fast enough, and who knocks at its doors?",
    PANELS,
    [],
)
