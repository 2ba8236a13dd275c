"""``inferpool payouts``: what the pool owes, and to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa

from pool.commands.common import config_option, echo_json, echo_table, json_option, open_store
from pool.store.escrow import statements
from pool.store.ledger import LedgerError, balances, check_ledger
from shares.money import posting


@click.command(epilog="Example:  inferpool payouts --config ~/my-pool/pool.toml")
@config_option
@json_option
def payouts(config_path: Path, as_json: bool) -> None:
    """Show what each miner has pending, held and available, and where all money is.

    Pending pay waits for a share's verdict, held pay for the end of its hold, and available pay
    to be paid out. The ledger is added up again on the way; it exits with 1 if that fails.
    """
    with open_store(config_path) as store, store.database.read() as connection:
        miners = [
            {
                "account": one.name,
                "pending": one.pending,
                "held": one.held,
                "available": one.available,
                "closed": one.closed is not None,
            }
            for one in statements(connection)
            if one.role == "miner"
        ]
        totals = ledger_totals(connection)
        try:
            check_ledger(connection)
        except LedgerError as error:
            raise click.ClickException(f"the ledger is not in balance: {error}") from None
    if as_json:
        echo_json({"miners": miners, "ledger": totals, "balanced": True})
        return
    _show(miners, totals)


def ledger_totals(connection: sa.Connection) -> dict[str, int]:
    """Units in each kind of place; ``deposited`` is what came in, and all others add up to it."""
    totals = {
        "deposited": 0,
        "customers": 0,
        "escrow": 0,
        "pending": 0,
        "held": 0,
        "available": 0,
        "operator": 0,
        "reserve": 0,
        "forfeits": 0,
    }
    for code, units in balances(connection).items():
        if code == posting.EXTERNAL:
            totals["deposited"] -= units
        else:
            kind = code.partition(":")[0].partition(".")[0]
            totals["customers" if kind == "customer" else kind] += units
    return totals


def _show(miners: list[dict[str, Any]], totals: dict[str, int]) -> None:
    echo_table(
        ["MINER", "PENDING", "HELD", "AVAILABLE", ""],
        [
            [
                one["account"],
                one["pending"],
                one["held"],
                one["available"],
                "closed" if one["closed"] else "",
            ]
            for one in miners
        ],
    )
    click.echo()
    echo_table(["LEDGER", "UNITS"], [[name, units] for name, units in totals.items()])
    click.echo()
    click.echo("Every transaction and every balance adds up.")
