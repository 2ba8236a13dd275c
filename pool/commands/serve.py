"""``inferpool serve``."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from pool.commands.common import config_option, load


@click.command(
    epilog="Example:  inferpool serve --config ~/my-pool/pool.toml --stratum 0.0.0.0:3333"
)
@config_option
@click.option("--stratum", metavar="HOST:PORT", help="Where rigs connect (port 0: any free one).")
@click.option("--http", metavar="HOST:PORT", help="Where customers connect.")
def serve(config_path: Path, stratum: str | None, http: str | None) -> None:
    """Run the pool until SIGTERM or Ctrl-C; a second one stops at once."""
    import trio

    from pool.app import StartError, run_pool
    from pool.logs import configure_logs
    from stratum.logs import adopt_process

    config, folder = load(config_path)
    if stratum is not None:
        config = msgspec.structs.replace(
            config, stratum=msgspec.structs.replace(config.stratum, listen=stratum)
        )
    if http is not None:
        config = msgspec.structs.replace(
            config, http=msgspec.structs.replace(config.http, listen=http)
        )
    sinks = configure_logs(config.log_level)
    adopt_process()
    base = config_path if config_path.is_dir() else config_path.parent
    try:
        trio.run(run_pool, config, folder, base, sinks)
    except StartError as error:
        raise click.ClickException(str(error)) from None
