"""Can a cheat get away with it, is an honest rig troubled, and what does checking cost?"""

from __future__ import annotations

from typing import Any

from panels import GREEN, RED, YELLOW, dashboard, graph, row, tile
from queries import REJECTED, lately, per_second, quantile

PANELS = [
    row("Now"),
    tile(
        "Rows checked",
        "inferpool_check_ratio",
        "inferpool_check_ratio: the chance of an ordinary row to be computed again, mean over the "
        "rigs. Red at 0: nobody is audited; see docs/OPERATING.md#no-audits.",
        unit="percentunit",
        steps=((None, RED), (0.0001, GREEN)),
        decimals=2,
    ),
    tile(
        "Wrong rows until one is drawn",
        "inferpool_detection_rows",
        "inferpool_detection_rows: of the rig that is checked least, with 95 %. What its held pay "
        "must outweigh; raise trust.floor_ppm if it does not.",
        steps=((None, GREEN), (1_000, YELLOW), (10_000, RED)),
    ),
    tile(
        "Bans",
        "inferpool_bans",
        "inferpool_bans: rigs that are banned now. Several within minutes: see "
        "docs/OPERATING.md#fraud-spike.",
        steps=((None, GREEN), (1, YELLOW), (10, RED)),
    ),
    tile(
        "Offences, 1 h",
        lately("inferpool_offences_total", span="1h"),
        "inferpool_offences_total. Red above 3: one liar with many names, or a fault of an engine "
        "that trials did not find; look at inferpool quarantine list.",
        steps=((None, GREEN), (1, YELLOW), (4, RED)),
        decimals=0,
    ),
    tile(
        "Rejected shares, 15 min",
        REJECTED,
        "inferpool_shares_total: the part of all verdicts. Red above 5 %: see the reasons below.",
        unit="percentunit",
        steps=((None, GREEN), (0.01, YELLOW), (0.05, RED)),
        decimals=1,
    ),
    tile(
        "Checking costs, 1 h",
        lately("inferpool_work_total", '{state="accepted_check"}', "1h")
        + ' / clamp_min(sum(increase(inferpool_work_total{state="accepted_row"}[1h])), 1)',
        "inferpool_work_total: work of checks over work for customers. About 2 % of established "
        "rigs; far more while new rigs join. It is paid by the levy, then by the reserve.",
        unit="percentunit",
        steps=((None, GREEN), (0.1, YELLOW), (0.3, RED)),
        decimals=1,
    ),
    row("Who is checked"),
    graph(
        "Rows drawn, by why",
        "inferpool_rows_drawn_total over inferpool_rows_accepted_total. held: its rig's pay "
        "answers "
        "for it; probation: new rigs; suspect: was wrong once.",
        (
            "sum by (by, why) (rate(inferpool_rows_drawn_total[$__rate_interval]))"
            " / ignoring(by, why) group_left"
            " sum(rate(inferpool_rows_accepted_total[$__rate_interval]))",
            "{{by}} {{why}}",
        ),
        unit="percentunit",
        stacked=True,
    ),
    graph(
        "Rows until a wrong one is drawn",
        "inferpool_detection_rows, inferpool_check_ratio. It grows as rigs hold more, by design: "
        "what they hold grows with it.",
        ("inferpool_detection_rows", "of the rig checked least"),
    ),
    graph(
        "Checks open",
        "inferpool_checks_open, inferpool_referee_waiting_rows. Growing without end: too few "
        "unrelated rigs, and a referee that is too slow.",
        ("sum(inferpool_checks_open)", "open"),
        ("sum(inferpool_referee_waiting_rows)", "rows at the referee"),
    ),
    row("What was found"),
    graph(
        "Checks by outcome",
        "inferpool_checks_total. guilty: a share was wrong; accuser_wrong: the checker was.",
        (per_second("inferpool_checks_total", "checker", "outcome"), "{{checker}} {{outcome}}"),
    ),
    graph(
        "Rejected, by reason",
        "inferpool_shares_total. docs/FAULTS.md says what each reason costs, and whose fault it "
        "is.",
        (
            'sum by (reason) (rate(inferpool_shares_total{verdict="rejected"}[$__rate_interval]))',
            "{{reason}}",
        ),
        stacked=True,
    ),
    graph(
        "Offences and forfeits",
        "inferpool_offences_total, inferpool_forfeited_units_total.",
        (lately("inferpool_offences_total"), "offences in 15 min"),
        (lately("inferpool_forfeited_units_total"), "units in 15 min"),
    ),
    row("The court"),
    graph(
        "Referee",
        "inferpool_referee_rows_total, inferpool_referee_seconds_total. Busy all the time: give it "
        "threads, or rigs of your own ([referee]).",
        (per_second("inferpool_referee_rows_total"), "rows a second"),
        (per_second("inferpool_referee_seconds_total"), "seconds a second"),
    ),
    graph(
        "Lease to verdict",
        "inferpool_verdict_seconds. Red above 15 minutes: checks wait. An exemplar names a share; "
        "its log lines say why.",
        (quantile(0.5, "inferpool_verdict_seconds"), "half"),
        (quantile(0.95, "inferpool_verdict_seconds"), "95 %"),
        unit="s",
        red_from=900,
    ),
    graph(
        "Reserve for checks",
        "inferpool_reserve_units. At 0 the referee checks unpaid: inferpool account credit "
        "reserve.",
        ("sum(inferpool_reserve_units)", "units"),
    ),
]

BOARD: dict[str, Any] = dashboard(
    "inferpool-validation",
    "inferpool: validation and trust",
    "Can a cheat get away with it, is an honest rig troubled, what does checking cost?",
    PANELS,
    [],
)
