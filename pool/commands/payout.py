"""``inferpool payout``: where a miner is paid, and what it was paid."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from pool.commands.asking import Asking, pool_options
from pool.commands.common import echo_json, echo_table, json_option

_PATH = "/api/v1/accounts/me/payout"


@click.command(
    epilog="Example:  inferpool payout --url http://127.0.0.1:8080"
    " --token-file alice.payout-token --address 0x52908400098527886E0F7030069857D2E4169EE7"
)
@pool_options
@click.option("--address", help="Be paid there from now on (with the payout token).")
@click.option("--minimum", type=int, help="Be paid no less than this at once, in units (the same).")
@json_option
def payout(
    url: str, token_file: Path, address: str | None, minimum: int | None, as_json: bool
) -> None:
    """Show, or change, where your account is paid; and list its payouts.

    Changing takes the account's payout token, which the operator gives you once: the token that
    your rigs use only reads. A changed address is used after a day or what the operator has set,
    and your rigs say that it was changed.
    """
    pool = Asking(url, token_file)
    changes = {"address": address, "minimum": minimum}
    wanted = {name: value for name, value in changes.items() if value is not None}
    settings = pool.put(_PATH, wanted) if wanted else pool.get(_PATH)
    payouts = pool.pages(_PATH + "s")
    if as_json:
        echo_json(settings | {"payouts": payouts})
        return
    usable = settings["usable_at"]
    waits = f", used from {_minute(usable)} on" if usable and usable > time.time() else ""
    click.echo(f"{settings['account']} is paid at {settings['address'] or '(no address)'}{waits}")
    if settings["carrier"] == "none":
        click.echo("this pool makes no payouts by itself: ask its operator")
    else:
        click.echo(f"from {settings['minimum']:,} units on, by {settings['carrier']}")
    if settings["waiting"]:
        click.echo(f"not paid yet: {settings['waiting']}")
    if payouts:
        click.echo()
        echo_table(
            ["PAYOUT", "WHEN", "UNITS", "STATE", "ADDRESS", "REFERENCE"],
            [
                [
                    one["payout"],
                    _minute(one["created"]),
                    one["units"],
                    one["state"],
                    one["address"],
                    one["reference"] or one["reason"] or "",
                ]
                for one in payouts
            ],
        )


def _minute(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
