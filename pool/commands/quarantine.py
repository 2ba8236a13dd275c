"""``inferpool quarantine``: kinds of devices that compute a model wrongly, kept from it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from pool.bundles import replay_bundle
from pool.commands.common import config_option, echo_json, echo_table, json_option, load, open_store
from pool.models import Models
from pool.store import Store
from pool.store.appeals import ROWS_GONE
from pool.store.database import StoreError
from pool.store.quarantines import QuarantineError, lift, open_excuses, quarantine, quarantines


@click.group("quarantine", epilog='Example:  inferpool quarantine add "NVIDIA H200" minilm')
def quarantine_command() -> None:
    """Keep a kind of device from a model, list and lift. Works beside a running pool, or without.

    Rigs with a device of the kind get no rows of the model, and are told so. KIND is what rigs call
    their device. The pool puts a kind into quarantine by itself when unrelated accounts, one of
    them established, give equal wrong rows.
    """


@quarantine_command.command(
    epilog='Example:  inferpool quarantine add "NVIDIA H200" minilm --why "driver 580"'
)
@click.argument("kind")
@click.argument("model")
@click.option("--why", default="", help="A note for yourself.")
@config_option
def add(kind: str, model: str, why: str, config_path: Path) -> None:
    """Keep devices of KIND from MODEL. Shares in their hands are called off; nobody is charged."""
    with open_store(config_path) as store:
        digest = _digest(_models(store, config_path), model)
        quarantine(store.database, kind, model=digest, why=why, at=time.time())
    click.echo(f"{kind} is kept from {model}")


@quarantine_command.command(
    "lift", epilog='Example:  inferpool quarantine lift "NVIDIA H200" minilm'
)
@click.argument("kind")
@click.argument("model")
@click.option(
    "--guilty",
    is_flag=True,
    help="Replays gave the pool's digests: who was excused answers for the wrong rows.",
)
@config_option
def lift_command(kind: str, model: str, *, guilty: bool, config_path: Path) -> None:
    """Let devices of KIND compute MODEL again, and decide on the rigs that were excused for it.

    Their held pay is released as ever, unless --guilty: then they are fined or banned.
    """
    with open_store(config_path) as store:
        digest = _digest(_models(store, config_path), model)
        try:
            decided = lift(store.database, kind, digest, guilty=guilty)
        except QuarantineError as error:
            raise click.ClickException(str(error)) from None
    click.echo(f"{kind} may compute {model} again")
    if decided:
        click.echo(f"{'guilty' if guilty else 'innocent'}: {decided} excused shares")


@quarantine_command.command("list", epilog="Example:  inferpool quarantine list --json")
@config_option
@json_option
def list_command(config_path: Path, as_json: bool) -> None:
    """List what is in quarantine, and the shares whose wrong rows were put down to a kind."""
    with open_store(config_path) as store:
        models = _models(store, config_path)
        with store.database.read() as connection:
            kinds, excuses = quarantines(connection), open_excuses(connection)
    if as_json:
        echo_json(
            {
                "kinds": [
                    {
                        "kind": one.kind,
                        "model": _name(models, one.model),
                        "since": one.since,
                        "why": one.why,
                    }
                    for one in kinds
                ],
                "excused": [
                    {
                        "lease": one.lease,
                        "account": one.account,
                        "rig": one.rig,
                        "kind": one.kind,
                        "model": _name(models, one.model),
                        "rows": one.rows,
                        "since": one.at,
                    }
                    for one in excuses
                ],
            }
        )
        return
    echo_table(
        ["KIND", "MODEL", "SINCE", "WHY"],
        [[one.kind, _name(models, one.model), _moment(one.since), one.why] for one in kinds],
    )
    if excuses:
        click.echo("\nExcused; their held pay waits for inferpool quarantine lift:")
        echo_table(
            ["LEASE", "RIG", "KIND", "MODEL", "WRONG ROWS", "SINCE"],
            [
                [
                    str(one.lease),
                    f"{one.account}.{one.rig}",
                    one.kind,
                    _name(models, one.model),
                    str(one.rows),
                    _moment(one.at),
                ]
                for one in excuses
            ],
        )


@quarantine_command.command(epilog="Example:  inferpool quarantine bundle 17 > bundle.json")
@click.argument("lease", type=int)
@config_option
def bundle(lease: int, config_path: Path) -> None:
    """Print the replay bundle of an excused share.

    inferpool replay runs it on a device of the kind that you trust.
    """
    with open_store(config_path) as store:
        with store.database.read() as connection:
            excuses = {one.lease: one for one in open_excuses(connection)}
        if lease not in excuses:
            raise click.ClickException(
                f"share {lease} is not excused: see inferpool quarantine list"
            )
        try:
            found = replay_bundle(store, _models(store, config_path), excuses[lease].account, lease)
        except (FileNotFoundError, StoreError):
            raise click.ClickException(ROWS_GONE) from None
    echo_json(found)


def _models(store: Store, config_path: Path) -> Models:
    config, _ = load(config_path)
    return Models(store, builtin=config.builtin_models)


def _name(models: Models, digest: str) -> str:
    return models.by_digest(digest).name


def _digest(models: Models, name: str) -> str:
    model = models.ever(name)
    if model is None:
        raise click.ClickException(f"no model {name!r}: see inferpool model list")
    return model.digest


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"
