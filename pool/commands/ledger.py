"""``inferpool ledger``: the ledger, recomputed from nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import click

from pool.commands.common import config_option, echo_json, echo_table, json_option, open_store
from pool.store.ledger import LedgerError, head, ledger_totals
from pool.store.ledgeraudit import LedgerAudit

_NOTE = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")


def _read_notes(
    _context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> dict[int, bytes]:
    notes = {}
    for value in values:
        match = _NOTE.fullmatch(value)
        if match is None:
            raise click.BadParameter(
                f"{value!r}: write NUMBER:HASH, as `inferpool ledger verify` and "
                "/api/v1/ledger tell the last entry"
            )
        notes[int(match[1])] = bytes.fromhex(match[2])
    return notes


@click.group(epilog="Example:  inferpool ledger verify")
def ledger() -> None:
    """Look into the ledger: every unit that came in, moved and went out."""


@ledger.command(epilog="Example:  inferpool ledger verify --noted 1042:9f86d0… --config ~/my-pool")
@click.option(
    "--noted",
    "notes",
    multiple=True,
    metavar="NUMBER:HASH",
    callback=_read_notes,
    help="An entry as you noted it before: it must still be there and be the same; may be given"
    " several times.",
)
@config_option
@json_option
def verify(notes: dict[int, bytes], config_path: Path, as_json: bool) -> None:
    """Recompute chain, transactions and balances from nothing.

    Each entry is chained by its hash to the one before, each transaction adds up to zero, no code
    but external is below zero after any of them, and the balances are what the entries add up to.
    Note NUMBER:HASH of the last entry elsewhere: with --noted it proves later that nothing before
    it was changed. It exits with 1 at the first thing that is wrong, and names it.
    """
    audit = LedgerAudit(noted=notes)
    with open_store(config_path) as store, store.database.read() as connection:
        try:
            audit.follow(connection)
        except LedgerError as error:
            raise click.ClickException(f"the ledger is not right: {error}") from None
        last, totals = head(connection), ledger_totals(connection)
    noted = f"{last.seq}:{audit.head.hex()}"
    if as_json:
        facts = {"entries": audit.seq, "transactions": audit.transactions, "last": noted}
        echo_json({**facts, "at": last.at, "noted": len(notes), "ledger": totals})
        return
    echo_table(["WHERE", "UNITS"], [[name, units] for name, units in totals.items()])
    click.echo(f"{audit.seq} entries in {audit.transactions} transactions: all of it is right")
    if notes:
        click.echo(f"{len(notes)} noted entries are there as they were noted")
    if last.seq:
        moment = datetime.fromtimestamp(last.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        click.echo(f"the last entry, of {moment}:")
        click.echo(noted)
