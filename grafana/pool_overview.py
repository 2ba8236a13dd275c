"""The operator's first dashboard: is the pool well, who works, what is wrong, where money is."""

from __future__ import annotations

from typing import Any

from panels import GREEN, RED, YELLOW, dashboard, graph, row, tile
from queries import RATE, REJECTED, quantile

PANELS = [
    row("Now"),
    tile(
        "Pool",
        'min(up{job="inferpool"})',
        "up. Red: Prometheus cannot read /metrics. See that it runs, and what it said last.",
        steps=((None, RED), (1, GREEN)),
    ),
    tile(
        "Work a second",
        "sum(inferpool_rate)",
        "inferpool_rate: what the connected rigs do, as the pool measures it. 0 with open jobs: "
        "no rig has the model.",
    ),
    tile(
        "Rigs",
        "sum(inferpool_sessions)",
        "inferpool_sessions: authorised connections. Red: nobody works.",
        steps=((None, RED), (1, GREEN)),
    ),
    tile(
        "Rejected shares, 15 min",
        REJECTED,
        "inferpool_shares_total: the part of all verdicts. Red above 5 %: see the reasons below, "
        "and docs/OPERATING.md#reject-rate.",
        unit="percentunit",
        steps=((None, GREEN), (0.01, YELLOW), (0.05, RED)),
        decimals=1,
    ),
    tile(
        "Ledger",
        "sum(inferpool_ledger_violations)",
        "inferpool_ledger_violations: always 0. Red: stop the pool, keep its folder, run inferpool "
        "ledger verify.",
        steps=((None, GREEN), (1, RED)),
    ),
    tile(
        "Event loop lag",
        "max(inferpool_event_loop_lag_seconds)",
        "inferpool_event_loop_lag_seconds. Red above 0.25 s: the machine is too busy, "
        "or something blocks the pool.",
        unit="s",
        steps=((None, GREEN), (0.05, YELLOW), (0.25, RED)),
    ),
    row("Work"),
    graph(
        "Work by what became of it",
        "inferpool_work_total, inferpool_work_judged_total. Dispatched far above accepted: rigs "
        "lose shares; see the leases.",
        (f"sum by (state) (rate(inferpool_work_total{RATE}))", "{{state}}"),
        (f"sum by (verdict) (rate(inferpool_work_judged_total{RATE}))", "{{verdict}}"),
    ),
    graph(
        "Open work and jobs",
        "inferpool_open_work, inferpool_leased_work, inferpool_jobs. Open work that only grows: "
        "too few rigs.",
        ("sum(inferpool_open_work)", "not leased"),
        ("sum(inferpool_leased_work)", "in rigs' hands"),
        ("sum(inferpool_jobs)", "jobs"),
    ),
    graph(
        "Share time",
        "inferpool_share_seconds: from the lease to the last part. The target is 10 s.",
        (quantile(0.5, "inferpool_share_seconds"), "half"),
        (quantile(0.95, "inferpool_share_seconds"), "95 %"),
        unit="s",
        red_from=60,
    ),
    row("Trust"),
    graph(
        "Shares by verdict",
        "inferpool_shares_total. Rejected: see docs/FAULTS.md for each reason.",
        (
            f"sum by (verdict, reason) (rate(inferpool_shares_total{RATE}))",
            "{{verdict}} {{reason}}",
        ),
        stacked=True,
    ),
    graph(
        "Rows computed again, by why",
        "inferpool_rows_drawn_total over inferpool_rows_accepted_total. Nothing drawn while "
        "rows are accepted: nobody is audited.",
        (
            f"sum by (by, why) (rate(inferpool_rows_drawn_total{RATE}))"
            f" / ignoring(by, why) group_left sum(rate(inferpool_rows_accepted_total{RATE}))",
            "{{by}} {{why}}",
        ),
        unit="percentunit",
        stacked=True,
    ),
    graph(
        "Checks by outcome",
        "inferpool_checks_total. guilty: a share was wrong; accuser_wrong: the checker was.",
        (
            f"sum by (checker, outcome) (rate(inferpool_checks_total{RATE}))",
            "{{checker}} {{outcome}}",
        ),
    ),
    graph(
        "Lease to verdict",
        "inferpool_verdict_seconds. It grows when checks wait: see the referee's queue.",
        (quantile(0.5, "inferpool_verdict_seconds"), "half"),
        (quantile(0.95, "inferpool_verdict_seconds"), "95 %"),
        unit="s",
        red_from=900,
    ),
    graph(
        "Referee",
        "inferpool_referee_waiting_rows, inferpool_referee_rows_total. A queue that only grows: "
        "give it more threads ([referee]).",
        ("sum(inferpool_referee_waiting_rows)", "rows that wait"),
        (f"sum(rate(inferpool_referee_rows_total{RATE}))", "rows a second"),
    ),
    row("Connections"),
    graph(
        "Connections",
        "inferpool_connections, inferpool_sessions. Far more connections than sessions: strangers.",
        ("sum(inferpool_connections)", "connections"),
        ("sum(inferpool_sessions)", "sessions"),
    ),
    graph(
        "Leases that ended",
        "inferpool_leases_ended_total by state and fault. expired network: lines are bad, or the "
        "pool is slow.",
        (
            f"sum by (state, fault) (rate(inferpool_leases_ended_total{RATE}))",
            "{{state}} {{fault}}",
        ),
        stacked=True,
    ),
    row("Money"),
    graph(
        "Where all units are",
        "inferpool_ledger_units. All but deposited add up to deposited.",
        ('sum by (place) (inferpool_ledger_units{place!="deposited"})', "{{place}}"),
        stacked=True,
    ),
    graph(
        "Payouts that are not over",
        "inferpool_payouts. manual: a person must decide (inferpool payouts list --state manual).",
        ("sum by (state) (inferpool_payouts)", "{{state}}"),
    ),
    row("Internals"),
    graph(
        "Commit",
        "inferpool_commit_seconds: making a group durable. Above 0.25 s the disk is too slow.",
        (quantile(0.5, "inferpool_commit_seconds"), "half"),
        (quantile(0.99, "inferpool_commit_seconds"), "99 %"),
        unit="s",
        red_from=0.25,
    ),
]

BOARD: dict[str, Any] = dashboard(
    "inferpool-overview",
    "inferpool: pool overview",
    "Is the pool well, who works, what is wrong, where the money is.",
    PANELS,
    [],
)
