"""``inferpool account``: who may come in, and with what money."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from pool.accounts import ROLES, AccountError
from pool.commands.common import config_option, echo_json, echo_table, json_option, load, open_store
from pool.store.accounts import (
    audit_lines,
    create_account,
    need_account,
    renew_payout_token,
)
from pool.store.escrow import deposit, statements
from pool.store.payees import attest, payee_of, set_payout_address
from shares.money.addresses import AddressError


@click.group(epilog="Example:  inferpool account create alice --role miner --config ~/my-pool")
def account() -> None:
    """Make, credit, list and close accounts. Works beside a running pool, or without one."""


@account.command(epilog="Example:  inferpool account create alice --role miner")
@click.argument("name")
@click.option("--role", required=True, type=click.Choice(ROLES), help="What the account is for.")
@config_option
@json_option
def create(name: str, role: str, config_path: Path, as_json: bool) -> None:
    """Make the account NAME and print its token, this once: only its hash is kept.

    A miner's token lets rigs named NAME.RIG connect; a customer's is the key of the HTTP API.
    """
    with open_store(config_path) as store:
        try:
            token = create_account(store.database, name, role, time.time())
        except AccountError as error:
            raise click.ClickException(str(error)) from None
    if as_json:
        echo_json({"account": name, "role": role, "token": token})
        return
    click.echo(token)
    click.echo(f"This is the token of {name} ({role}). It is not shown again.", err=True)


@account.command(epilog="Example:  inferpool account credit carol 1000000000")
@click.argument("name")
@click.argument("units", type=int)
@config_option
@json_option
def credit(name: str, units: int, config_path: Path, as_json: bool) -> None:
    """Give the customer NAME money, in units. The name "reserve" seeds the pool's reserve."""
    with open_store(config_path) as store:
        try:
            balance = deposit(store.database, name, units, time.time())
        except AccountError as error:
            raise click.ClickException(str(error)) from None
    if as_json:
        echo_json({"account": name, "credited": units, "balance": balance})
    else:
        click.echo(f"{name} was credited {units:,} units and has {balance:,}")


@account.command("list", epilog="Example:  inferpool account list --json")
@config_option
@json_option
def list_accounts(config_path: Path, as_json: bool) -> None:
    """List all accounts, closed ones too. Customers' balances are free to spend."""
    with open_store(config_path) as store, store.database.read() as connection:
        found = statements(connection)
    if as_json:
        echo_json(
            [
                {
                    "account": one.name,
                    "role": one.role,
                    "created": one.created,
                    "closed": one.closed,
                    "balance": one.balance,
                    "reserved": one.reserved,
                    "pending": one.pending,
                    "held": one.held,
                    "available": one.available,
                }
                for one in found
            ]
        )
        return
    echo_table(
        ["ACCOUNT", "ROLE", "CREATED", "CLOSED", "BALANCE", "EARNED"],
        [
            [
                one.name,
                one.role,
                _day(one.created),
                "" if one.closed is None else _day(one.closed),
                one.balance,
                one.pending + one.held + one.available,
            ]
            for one in found
        ],
    )


@account.command(
    "payout-address", epilog="Example:  inferpool account payout-address alice 0x52908400098527886E"
)
@click.argument("name")
@click.argument("address", required=False)
@config_option
@json_option
def payout_address_command(
    name: str, address: str | None, config_path: Path, as_json: bool
) -> None:
    """Note where the miner NAME wants to be paid, or, without ADDRESS, print it.

    What an address is, [payouts] in the settings says. A changed one is used only after
    payouts.address_hold_seconds, and the account's rigs are told. Accounts with one payout address
    count as one person's: their rigs never check one another. A rig that is connected is known by
    the new address when it connects again.
    """
    config, _ = load(config_path)
    with open_store(config_path) as store:
        try:
            if address is not None:
                set_payout_address(
                    store.database,
                    name,
                    config.payouts.address,
                    address,
                    time.time(),
                    hold_seconds=config.payouts.address_hold_seconds,
                )
            with store.database.read() as connection:
                need_account(connection, name)
                found = payee_of(connection, name)
        except (AccountError, AddressError) as error:
            raise click.ClickException(str(error)) from None
    if as_json:
        echo_json(
            {
                "account": name,
                "payout_address": found and found.address,
                "kind": found and found.kind,
                "usable": found and found.usable,
            }
        )
    elif found is None:
        click.echo(f"{name} has no payout address")
    else:
        waits = f"  (used from {_minute(found.usable)} on)" if found.usable > time.time() else ""
        click.echo(found.address + waits)


@account.command("payout-token", epilog="Example:  inferpool account payout-token alice")
@click.argument("name")
@config_option
@json_option
def payout_token(name: str, config_path: Path, as_json: bool) -> None:
    """Print a fresh payout token for the miner NAME, this once; an older one is void.

    It says where the miner is paid and opens nothing else: rigs need none, and who steals a rig's
    token cannot lead its pay elsewhere.
    """
    with open_store(config_path) as store:
        try:
            token = renew_payout_token(store.database, name, time.time())
        except AccountError as error:
            raise click.ClickException(str(error)) from None
    if as_json:
        echo_json({"account": name, "payout_token": token})
        return
    click.echo(token)
    click.echo(f"This is the payout token of {name}. It is not shown again.", err=True)


@account.command(
    "attest", epilog="Example:  inferpool account attest alice --reference case-17 --hash 9f86d0…"
)
@click.argument("name")
@click.option("--reference", required=True, help="Where it is written down: a case's number.")
@click.option("--hash", "digest", required=True, help="SHA-256 of the paper, in hex.")
@config_option
def attest_command(name: str, reference: str, digest: str, config_path: Path) -> None:
    """Note that you know who owns the account NAME, for payout policies that ask for it.

    Nothing personal is kept: only where the paper lies, and its hash.
    """
    with open_store(config_path) as store:
        try:
            attest(store.database, name, reference, digest, time.time())
        except AccountError as error:
            raise click.ClickException(str(error)) from None
    click.echo(f"{name} is attested: {reference}")


@account.command("log", epilog="Example:  inferpool account log --last 20 --config ~/my-pool")
@click.option("--last", default=50, show_default=True, type=click.IntRange(1, 100_000))
@config_option
@json_option
def log_command(last: int, config_path: Path, as_json: bool) -> None:
    """Show who did what: accounts, money, payout addresses, and what policies decided."""
    with open_store(config_path) as store, store.database.read() as connection:
        found = audit_lines(connection, last)
    if as_json:
        echo_json([{"at": at, "actor": actor, "what": what} for at, actor, what in found])
        return
    for at, actor, what in found:
        click.echo(f"{_minute(at)}  {actor}: {what}")


@account.command(epilog="Example:  inferpool account close alice")
@click.argument("name")
@config_option
@json_option
def close(name: str, config_path: Path, as_json: bool) -> None:
    """Close the account NAME: its token opens nothing any more.

    Nothing of a miner's may wait for a verdict. What it holds is released when the time of
    every hold is over, by a running pool.
    """
    from pool.closing import close_account
    from pool.settlement import settlement_policy

    config, _ = load(config_path)
    with open_store(config_path) as store:
        try:
            held = close_account(store.database, name, settlement_policy(config), time.time())
        except AccountError as error:
            raise click.ClickException(str(error)) from None
    if as_json:
        echo_json({"account": name, "closed": True, "held": held})
        return
    until = _minute(time.time() + config.trust.hold_seconds)
    click.echo(f"{name} is closed" + (f"; {held:,} units are held until {until}" if held else ""))


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def _minute(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
