"""Will customers have their batches in time?"""

from __future__ import annotations

from typing import Any

from panels import BLUE, GREEN, RED, YELLOW, dashboard, graph, row, tile
from queries import lately, per_second, quantile

PANELS = [
    row("Now"),
    tile(
        "Tightest deadline",
        "min(inferpool_deadline_slack_seconds)",
        "inferpool_deadline_slack_seconds: between when a batch will be done and when it must "
        "be, the "
        "least of the last day's open ones. Red below 0: docs/OPERATING.md#deadline-at-risk.",
        unit="s",
        steps=((None, RED), (0, YELLOW), (3_600, GREEN)),
    ),
    tile(
        "Open jobs",
        "sum(inferpool_queue_jobs)",
        "inferpool_queue_jobs: direct requests and batches that rigs work on, or should.",
        steps=((None, BLUE),),
    ),
    tile(
        "Oldest direct request",
        'max(inferpool_queue_age_seconds{priority="direct"})',
        "inferpool_queue_age_seconds. Red above 30 s: rigs are busy with large shares, or none has "
        "the model.",
        unit="s",
        steps=((None, GREEN), (5, YELLOW), (30, RED)),
    ),
    tile(
        "Work waiting",
        "sum(inferpool_queue_work)",
        "inferpool_queue_work: not accepted yet. Divide by the work a second for the time it "
        "takes.",
    ),
    tile(
        "Time it takes",
        "sum(inferpool_queue_work) / clamp_min(sum(inferpool_rate), 1)",
        "inferpool_queue_work over inferpool_rate. Red above a day: more rigs are wanted.",
        unit="s",
        steps=((None, GREEN), (28_800, YELLOW), (86_400, RED)),
    ),
    tile(
        "Late, 24 h",
        '(sum(increase(inferpool_batch_deadline_ratio_bucket{le="+Inf"}[24h])) or vector(0))'
        ' - (sum(increase(inferpool_batch_deadline_ratio_bucket{le="1.0"}[24h])) or vector(0))',
        "inferpool_batch_deadline_ratio: batches that took longer than they had.",
        steps=((None, GREEN), (1, RED)),
        decimals=0,
    ),
    row("Queues"),
    graph(
        "Work that waits, by priority",
        "inferpool_queue_work. Direct requests go first; a batch's end is hedged.",
        ("sum by (priority) (inferpool_queue_work)", "{{priority}}"),
        stacked=True,
    ),
    graph(
        "Age of the oldest, by priority",
        "inferpool_queue_age_seconds. See docs/OPERATING.md#queue-age.",
        ("max by (priority) (inferpool_queue_age_seconds)", "{{priority}}"),
        unit="s",
    ),
    graph(
        "Batches by state",
        "inferpool_batches. validating that only grows: intake is stuck; finalizing: the disk is "
        "full.",
        (
            "sum by (state) "
            '(inferpool_batches{state=~"validating|in_progress|finalizing|cancelling"})',
            "{{state}}",
        ),
        stacked=True,
    ),
    row("What was done"),
    graph(
        "Rows a second",
        "inferpool_rows_accepted_total, inferpool_rows_cleared_total. Accepted far above cleared "
        "for "
        "long: verdicts wait.",
        (per_second("inferpool_rows_accepted_total"), "accepted"),
        (per_second("inferpool_rows_cleared_total"), "cleared"),
    ),
    graph(
        "Time taken over time allowed",
        "inferpool_batch_deadline_ratio of completed batches. Red above 1: too late.",
        (
            "histogram_quantile(0.5, sum by (le) "
            "(rate(inferpool_batch_deadline_ratio_bucket[1h])))",
            "half",
        ),
        (
            "histogram_quantile(0.95, sum by (le) "
            "(rate(inferpool_batch_deadline_ratio_bucket[1h])))",
            "95 %",
        ),
        red_from=1,
    ),
    graph(
        "Jobs closed in 15 min",
        "inferpool_jobs_closed_total by state. expired: too late; cancelled: by their customers.",
        ("sum by (state) (increase(inferpool_jobs_closed_total[15m]))", "{{state}}"),
    ),
    row("The tail"),
    graph(
        "Hedged rows, by who won",
        "inferpool_hedges_total, inferpool_rows_hedged_total. The original wins nearly always: "
        "hedging costs more than it helps; the hedge does: some rigs are far too slow.",
        (per_second("inferpool_hedges_total", "winner"), "{{winner}} first"),
        (per_second("inferpool_rows_hedged_total"), "leased twice"),
    ),
    graph(
        "Leases that ended",
        "inferpool_leases_ended_total by state and fault. expired network: lines are bad.",
        (per_second("inferpool_leases_ended_total", "state", "fault"), "{{state}} {{fault}}"),
        stacked=True,
    ),
    graph(
        "Share time",
        "inferpool_share_seconds: from the lease to the last part. The target is 10 s; red above "
        "60.",
        (quantile(0.5, "inferpool_share_seconds"), "half"),
        (quantile(0.99, "inferpool_share_seconds"), "99 %"),
        unit="s",
        red_from=60,
    ),
    tile(
        "Batches completed, 24 h",
        lately("inferpool_jobs_closed_total", '{state="completed"}', "24h"),
        "inferpool_jobs_closed_total.",
        decimals=0,
    ),
]

BOARD: dict[str, Any] = dashboard(
    "inferpool-jobs",
    "inferpool: jobs",
    "Will customers have their batches in time?",
    PANELS,
    [],
)
