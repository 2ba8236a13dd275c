"""``inferpool quarantine``: kinds of devices that compute a model wrongly, kept from it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from pool.commands.common import config_option, echo_json, echo_table, json_option, load, open_store
from pool.models import Models
from pool.store.quarantines import QuarantineError, lift, quarantine, quarantines


@click.group("quarantine", epilog='Example:  inferpool quarantine add "NVIDIA H200" minilm')
def quarantine_command() -> None:
    """Keep a kind of device from a model, list and lift. Works beside a running pool, or without.

    Rigs with a device of the kind get no rows of the model, and are told so. KIND is what rigs call
    their device; the pool's log has it where a row was wrong.
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
    config, _ = load(config_path)
    with open_store(config_path) as store:
        known = {m.name: m for m in Models(store, builtin=config.builtin_models).list()}
        if model not in known:
            raise click.ClickException(f"no model {model!r}: see inferpool model list")
        quarantine(
            store.database,
            kind,
            digest=known[model].digest,
            model=model,
            why=why,
            at=time.time(),
        )
    click.echo(f"{kind} is kept from {model}")


@quarantine_command.command(
    "lift", epilog='Example:  inferpool quarantine lift "NVIDIA H200" minilm'
)
@click.argument("kind")
@click.argument("model")
@config_option
def lift_command(kind: str, model: str, config_path: Path) -> None:
    """Let devices of KIND compute MODEL again."""
    with open_store(config_path) as store:
        try:
            lift(store.database, kind, model)
        except QuarantineError as error:
            raise click.ClickException(str(error)) from None
    click.echo(f"{kind} may compute {model} again")


@quarantine_command.command("list", epilog="Example:  inferpool quarantine list --json")
@config_option
@json_option
def list_command(config_path: Path, as_json: bool) -> None:
    """List what is in quarantine."""
    with open_store(config_path) as store, store.database.read() as connection:
        found = quarantines(connection)
    if as_json:
        echo_json(
            [{"kind": q.kind, "model": q.model, "since": q.since, "why": q.why} for q in found]
        )
        return
    echo_table(
        ["KIND", "MODEL", "SINCE", "WHY"],
        [
            [q.kind, q.model, f"{datetime.fromtimestamp(q.since, UTC):%Y-%m-%d %H:%M}", q.why]
            for q in found
        ],
    )
