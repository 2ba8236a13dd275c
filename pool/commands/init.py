"""``inferpool init``."""

from __future__ import annotations

from pathlib import Path

import click

from pool.commands.common import echo_json, json_option
from pool.config import FILE_NAME, TEMPLATE
from pool.store import Store


@click.command(epilog="Example:  inferpool init ~/my-pool")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@json_option
def init(folder: Path, as_json: bool) -> None:
    """Make a pool in DIR: pool.toml, complete and commented, and an empty database."""
    file = folder / FILE_NAME
    if file.exists():
        raise click.ClickException(f"{file} exists already; edit it, or choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(TEMPLATE, encoding="utf-8")
    Store.open(folder).close()
    if as_json:
        echo_json({"config": str(file), "data": str(folder.resolve())})
        return
    click.echo(f"wrote {file}")
    click.echo("next:")
    click.echo(f"  inferpool model add NAME --from PATH --config {file}")
    click.echo(f"  inferpool account create alice --role miner --config {file}")
    click.echo(f"  inferpool account create YOU --role operator --config {file}")
    click.echo(f"  inferpool serve --config {file}")
    click.echo("then look at http://127.0.0.1:8080/ and sign in with your token")
