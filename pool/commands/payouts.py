"""``inferpool payouts``: what the pool owes and to whom, and paying it."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa

from pool.commands.common import (
    config_option,
    echo_json,
    echo_table,
    json_option,
    load,
    open_store,
)
from pool.store import Store
from pool.store.advances import risk_of
from pool.store.database import Database
from pool.store.escrow import statements
from pool.store.ledger import LedgerError, ledger_totals
from pool.store.ledgeraudit import check_ledger
from pool.store.payouts import OPEN, STATES, Payout, list_payouts, payouts_by_state

_PAGE = 1000


@click.group(
    invoke_without_command=True,
    epilog="Example:  inferpool payouts --config ~/my-pool/pool.toml",
)
@config_option
@json_option
@click.pass_context
def payouts(context: click.Context, config_path: Path, as_json: bool) -> None:
    """Show what each miner has, and where all money is; or treat payouts by the commands below.

    Pending pay waits for a share's verdict, held pay for the end of its hold, available pay to be
    paid out; what is on its way is in flight, then paid. The ledger is added up again on the way;
    it exits with 1 if that fails. A running pool closes rounds and pays by itself, as the section
    [payouts] of its settings says.
    """
    if context.invoked_subcommand is not None:
        return
    config, _ = load(config_path)
    with open_store(config_path) as store, store.database.read() as connection:
        miners = [
            {
                "account": one.name,
                "pending": one.pending,
                "held": one.held,
                "available": one.available,
                "in_flight": one.in_flight,
                "paid": one.paid,
                "closed": one.closed is not None,
            }
            for one in statements(connection)
            if one.role == "miner"
        ]
        totals = ledger_totals(connection)
        states = payouts_by_state(connection)
        risk = risk_of(connection, time.time()) if config.money.scheme == "pps" else None
        try:
            check_ledger(connection)
        except LedgerError as error:
            raise click.ClickException(f"the ledger is not in balance: {error}") from None
    if as_json:
        facts = {state: {"payouts": n, "units": units} for state, (n, units) in states.items()}
        echo_json(
            {
                "miners": miners,
                "ledger": totals,
                "payouts": facts,
                "risk": None if risk is None else asdict(risk),
                "balanced": True,
            }
        )
        return
    _show(miners, totals, states)
    if risk is not None:
        click.echo(
            f"The reserve of {risk.reserve:,} units has {risk.advanced:,} out for shares without "
            f"their pay yet; of {risk.shares:,} shares in 30 days {risk.rejected:,} were rejected. "
            f"It is ever exhausted with a probability of at most {risk.bound:.2g}."
        )


def _show(
    miners: list[dict[str, Any]], totals: dict[str, int], states: dict[str, tuple[int, int]]
) -> None:
    echo_table(
        ["MINER", "PENDING", "HELD", "AVAILABLE", "IN FLIGHT", "PAID", ""],
        [
            [
                one["account"],
                one["pending"],
                one["held"],
                one["available"],
                one["in_flight"],
                one["paid"],
                "closed" if one["closed"] else "",
            ]
            for one in miners
        ],
    )
    click.echo()
    echo_table(["LEDGER", "UNITS"], [[name, units] for name, units in totals.items()])
    click.echo()
    if any(number for number, _ in states.values()):
        echo_table(
            ["PAYOUTS", "NUMBER", "UNITS"],
            [[state, number, units] for state, (number, units) in states.items() if number],
        )
        click.echo()
    click.echo("Every transaction and every balance adds up.")


@payouts.command("list", epilog="Example:  inferpool payouts list --state manual")
@click.option(
    "--state", "wanted", type=click.Choice(STATES), help="Only these; else all open ones."
)
@config_option
@json_option
def list_command(wanted: str | None, config_path: Path, as_json: bool) -> None:
    """List payouts that are not over, or those of one state, with why they wait."""
    states = (wanted,) if wanted else OPEN
    with open_store(config_path) as store, store.database.read() as connection:
        found = _all_payouts(connection, states)
    if as_json:
        echo_json([asdict(one) for one in found])
        return
    echo_table(
        ["PAYOUT", "ROUND", "ACCOUNT", "UNITS", "STATE", "SINCE", "ADDRESS", "WHY"],
        [
            [
                one.id,
                one.round,
                one.account,
                one.units,
                one.state,
                datetime.fromtimestamp(one.changed, UTC).strftime("%Y-%m-%d %H:%M"),
                one.address,
                one.reason or one.reference or one.document or "",
            ]
            for one in found
        ],
    )


@payouts.command("round", epilog="Example:  inferpool payouts round --config ~/my-pool")
@config_option
@json_option
def round_command(config_path: Path, as_json: bool) -> None:
    """Close a round now, and hand over what is due. Works beside a running pool, or without one.

    Each miner with enough available, a usable address and the consent of every policy is paid.
    """
    from pool.payouts.office import Office, PayoutError

    config, _ = load(config_path)
    with open_store(config_path) as store:
        try:
            office = Office(store, config.payouts, _base(config_path))
        except PayoutError as error:
            raise click.ClickException(str(error)) from None
        if office.carrier is None:
            raise click.ClickException(
                'payouts.carrier is "none": say in the settings how miners are paid'
            )
        closed = office.pay_round(time.time())
        office.carry(time.time())
        documents = _documents(store, closed.number)
    if as_json:
        echo_json(asdict(closed) | {"documents": documents})
        return
    click.echo(f"round {closed.number}: {closed.payouts} payouts of {closed.units:,} units")
    if closed.waiting:
        click.echo(f"{closed.waiting} accounts have enough and wait: their own pages say why")
    for document in documents:
        click.echo(document)


@payouts.command(epilog="Example:  inferpool payouts approve 17")
@click.argument("payout")
@config_option
def approve(payout: str, config_path: Path) -> None:
    """Hand over a payout that waits for a person. PAYOUT is its number or its key.

    Make sure that it was not made already: look at the far side first.
    """
    from pool.payouts.office import approve as say

    _treat(config_path, lambda database: say(database, payout, time.time()))


@payouts.command("return", epilog='Example:  inferpool payouts return 17 --reason "account closed"')
@click.argument("payout")
@click.option("--reason", required=True, help="Why, for the audit log and the miner.")
@config_option
def return_command(payout: str, reason: str, config_path: Path) -> None:
    """Give up a payout that waits for a person: its units are available to the miner again."""
    from pool.payouts.office import give_back

    _treat(config_path, lambda database: give_back(database, payout, time.time(), reason))


@payouts.command(epilog="Example:  inferpool payouts paid 17 --reference 2026-118")
@click.argument("payout", required=False)
@click.option("--reference", help="What proves it: a transfer's number, a transaction's hash.")
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A CSV file with the columns key and reference, as your treasurer gives it back.",
)
@click.option(
    "--round",
    "number",
    type=int,
    help="All submitted payouts of this round: a claim tree whose root is published, say.",
)
@config_option
def paid(
    payout: str | None,
    reference: str | None,
    file: Path | None,
    number: int | None,
    config_path: Path,
) -> None:
    """Note that payouts were made: their state is finalised.

    Name one PAYOUT or a --round, with --reference; or give a --file.
    """
    from pool.payouts.office import note_paid

    if sum(given is not None for given in (payout, file, number)) != 1 or (
        bool(reference) != (file is None)
    ):
        raise click.UsageError("give a PAYOUT or --round with --reference, or --file")
    if file is not None:
        found = _read_references(file)
    elif number is not None:
        with open_store(config_path) as store, store.database.read() as connection:
            found = [
                (one.key, str(reference))
                for one in _all_payouts(connection, ("submitted",))
                if one.round == number
            ]
        if not found:
            raise click.ClickException(f"no payout of round {number} is submitted")
    else:
        found = [(str(payout), str(reference))]
    failed = 0
    for key, proof in found:

        def note(database: Database, key: str = key, proof: str = proof) -> Payout:
            return note_paid(database, key, time.time(), proof)

        try:
            _treat(config_path, note)
        except click.ClickException as error:  # the others are noted all the same
            error.show()
            failed += 1
    if failed:
        raise click.exceptions.Exit(1)


def _all_payouts(connection: sa.Connection, states: tuple[str, ...]) -> list[Payout]:
    found: list[Payout] = []
    while True:
        page = list_payouts(connection, states, found[-1].id if found else 0, _PAGE)
        found += page
        if len(page) < _PAGE:
            return found


def _treat(config_path: Path, say: Callable[[Database], Payout]) -> None:
    from pool.payouts.office import PayoutError

    with open_store(config_path) as store:
        try:
            done = say(store.database)
        except PayoutError as error:
            raise click.ClickException(str(error)) from None
    click.echo(f"payout {done.id} of {done.units:,} units to {done.account} is {done.state}")


def _read_references(file: Path) -> list[tuple[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            if not {"key", "reference"} <= set(reader.fieldnames or ()):
                raise KeyError(f"its first line is {reader.fieldnames}")
            found = [(row["key"].strip(), row["reference"].strip()) for row in reader]
    except (KeyError, AttributeError, UnicodeDecodeError, csv.Error) as error:
        raise click.ClickException(
            f"{file} cannot be read ({error}): it needs the columns key and reference, "
            "divided by commas"
        ) from None
    for number, (key, reference) in enumerate(found, start=2):
        if not key or not reference:
            raise click.ClickException(f"{file}, line {number}: key or reference is empty")
    return found


def _documents(store: Store, number: int) -> list[str]:
    from pool.payouts.documents import FOLDER

    return [
        str(store.objects.local_path(name))
        for name, _ in store.objects.list(FOLDER)
        if name.startswith(f"{FOLDER}/{number}-")
    ]


def _base(config_path: Path) -> Path:
    return (config_path if config_path.is_dir() else config_path.parent).resolve()
