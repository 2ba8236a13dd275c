"""``inferpool statement``: what an account earned or spent, day by day and job by job."""

from __future__ import annotations

import csv
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pool.commands.asking import Asking, pool_options
from pool.commands.common import echo_json, echo_table, json_option

_WORDS = {
    "released": "held pay became available",
    "held_forfeited": "held pay was forfeited",
    "made_good": "given back after an appeal",
    "pooled": "held pay went to the round's pot",
    "pot_divided": "your part of a round's pot",
    "advanced": "paid at once, out of the reserve",
    "repaid": "the reserve got it back from cleared pay",
    "payout_finalised": "paid out",
    "payout_returned": "a payout that came back",
}


@click.command(
    epilog="Example:  inferpool statement --url http://127.0.0.1:8080 --token-file alice.token"
    " --from 2026-11-01"
)
@pool_options
@click.option("--from", "first", metavar="YYYY-MM-DD", help="The first day (UTC).")
@click.option("--to", "end", metavar="YYYY-MM-DD", help="The day after the last.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table for a spreadsheet.")
@json_option
def statement(
    url: str, token_file: Path, first: str | None, end: str | None, as_csv: bool, as_json: bool
) -> None:
    """Show what your account earned (a miner's) or spent (a customer's).

    By default of the last 30 days. A miner sees, for each day and job, shares by verdict, work,
    what it was paid for it and what became of the pay; the sums equal those that
    `inferpool verify` makes of the receipts and credits of the same time.
    """
    query = {name: day for name, day in (("from", first), ("to", end)) if day is not None}
    found = Asking(url, token_file).get("/api/v1/accounts/me/statement", **query)
    lines: list[dict[str, Any]] = found["data"]
    if as_json:
        echo_json(found)
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, found["columns"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    elif found["role"] == "customer":
        _show_customer(found)
    else:
        _show_miner(found)


def _show_miner(found: dict[str, Any]) -> None:
    columns = {
        "DAY": "day",
        "JOB": "job",
        "PRICE": "price",
        "SHARES": "shares",
        "CLEARED": "shares_cleared",
        "REJECTED": "shares_rejected",
        "WORK": "work",
        "CHECKS": "check_work",
        "PENDING": "pending",
        "PAID": "cleared",
        "LOST": "lost",
        "FEE ON TOP": "fee",
    }
    rows = [
        one | {"job": str(one["job"]), "lost": one["rejected"] + one["forfeited"]}
        for one in found["data"]
    ]
    totals = found["totals"]
    rows.append(
        totals
        | {"day": "", "job": "", "price": "", "lost": totals["rejected"] + totals["forfeited"]}
    )
    _show_head(found)
    echo_table(list(columns), [[row[name] for name in columns.values()] for row in rows])
    click.echo("shares and work in numbers, the rest in units; LOST: of rejected shares")
    if found["movements"]:
        click.echo()
        echo_table(
            ["DAY", "WHAT", "UNITS"],
            [
                [one["day"], _WORDS.get(one["kind"], one["kind"]), one["units"]]
                for one in found["movements"]
            ],
        )
    now = found["now"]
    click.echo()
    echo_table(["NOW", "UNITS"], [[name.replace("_", " "), units] for name, units in now.items()])


def _show_customer(found: dict[str, Any]) -> None:
    _show_head(found)
    echo_table(
        ["WHEN", "WHAT", "BATCH", "WORK", "DONE", "UNITS", "BALANCE"],
        [
            [
                datetime.fromtimestamp(one["at"], UTC).strftime("%Y-%m-%d %H:%M"),
                {"completed": "returned"}.get(one["kind"], one["kind"]),
                one["batch"],
                one["work"],
                one["work_done"],
                one["units"],
                one["balance"],
            ]
            for one in found["data"]
        ],
    )


def _show_head(found: dict[str, Any]) -> None:
    click.echo(f"{found['account']}, from {found['from']} to before {found['to']} (UTC)")
