"""Where every unit is, who waits for it, and whether the pool lives on what it takes."""

from __future__ import annotations

from typing import Any

from panels import BLUE, GREEN, RED, YELLOW, dashboard, graph, row, tile

PLACE = 'sum(inferpool_ledger_units{place="%s"})'

PANELS = [
    row("Now"),
    tile(
        "Ledger",
        "max(inferpool_ledger_violations)",
        "inferpool_ledger_violations: always 0. Red: docs/OPERATING.md#ledger-imbalance.",
        steps=((None, GREEN), (1, RED)),
    ),
    tile(
        "In minus everywhere",
        'sum(inferpool_ledger_units{place="deposited"})'
        ' - sum(inferpool_ledger_units{place!="deposited"})',
        "inferpool_ledger_units: what came in, less where it all is. Red when not 0.",
        steps=((None, RED), (0, GREEN), (1, RED)),
    ),
    tile(
        "Owed to miners",
        'sum(inferpool_ledger_units{place=~"pending|held|available|in_flight|pot"})',
        "inferpool_ledger_units: pending, held, available, in the pot, on its way.",
        steps=((None, BLUE),),
    ),
    tile(
        "Customers' balances",
        PLACE % "customers",
        "inferpool_ledger_units{place=customers}: free to spend. It is theirs.",
    ),
    tile(
        "Reserve",
        "sum(inferpool_reserve_units)",
        "inferpool_reserve_units: free for checks. Red at 0: inferpool account credit reserve.",
        steps=((None, RED), (1, YELLOW), (10_000, GREEN)),
    ),
    tile(
        "Payouts for a person",
        'sum(inferpool_payouts{state="manual"})',
        "inferpool_payouts{state=manual}. Red: inferpool payouts list --state manual; see "
        "docs/OPERATING.md#payouts-stuck.",
        steps=((None, GREEN), (1, RED)),
    ),
    row("Where it is"),
    graph(
        "All units, by place",
        "inferpool_ledger_units. All but deposited add up to deposited.",
        ('sum by (place) (inferpool_ledger_units{place!="deposited"})', "{{place}}"),
        stacked=True,
    ),
    graph(
        "Earned and not paid out",
        "inferpool_ledger_units. Available that only grows: payouts do not run ([payouts] "
        "carrier).",
        (PLACE % "pending", "pending"),
        (PLACE % "held", "held"),
        (PLACE % "available", "available"),
        stacked=True,
    ),
    graph(
        "The operator's fee and forfeits",
        "inferpool_ledger_units: what the pool has taken, and what cheats have lost.",
        (PLACE % "operator", "fee"),
        (PLACE % "forfeits", "forfeits"),
    ),
    row("Payouts"),
    graph(
        "Payouts that are not over",
        "inferpool_payouts by state. submitting for hours: the far side does not answer.",
        ("sum by (state) (inferpool_payouts)", "{{state}}"),
        stacked=True,
    ),
    graph(
        "Units on their way",
        "inferpool_payout_units by state, and inferpool_ledger_units{place=in_flight}, its equal.",
        ("sum by (state) (inferpool_payout_units)", "{{state}}"),
        (PLACE % "in_flight", "in flight on the ledger"),
    ),
    graph(
        "Paid, ever",
        "inferpool_ledger_units{place=paid}. A flat line over a payout's interval: "
        "docs/REWARDS.md.",
        (PLACE % "paid", "units"),
    ),
    row("What is spent on truth"),
    graph(
        "Forfeited units in 1 h",
        "inferpool_forfeited_units_total: it pays for the rows that were done again.",
        ("sum(increase(inferpool_forfeited_units_total[1h]))", "units"),
    ),
    graph(
        "Ledger entries",
        "inferpool_ledger_entries that were recomputed. Flat while work is accepted: settlement "
        "hangs.",
        ("sum(inferpool_ledger_entries)", "entries"),
    ),
]

BOARD: dict[str, Any] = dashboard(
    "inferpool-money",
    "inferpool: money",
    "Where every unit is, who waits for it, and whether the pool lives on what it takes.",
    PANELS,
    [],
)
