"""``inferpool log-level``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from pool.commands.common import config_option, echo_json, echo_table, json_option, load, open_store
from pool.logs import LOGGERS
from pool.store.loglevels import LogLevel, change_log_level, log_levels

_AS_CONFIGURED = "default"


def _logger(ctx: click.Context, option: click.Parameter, name: str | None) -> str:
    if name is not None and name not in LOGGERS:
        raise click.BadParameter(f"no logger {name!r}: use one of {', '.join(LOGGERS)}")
    return name or ""


@click.command("log-level", epilog="Example:  inferpool log-level debug --of pool.http --for 600")
@click.argument(
    "level",
    type=click.Choice(["debug", "info", "warning", "error", _AS_CONFIGURED]),
    required=False,
)
@click.option(
    "--of",
    "name",
    metavar="NAME",
    callback=_logger,
    help="Of this logger and those below it: pool.http, pool.shares, …; pool for all of them. "
    "Without it: of everything.",
)
@click.option(
    "--for",
    "seconds",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="Go back to the level before any change after this time.",
)
@config_option
@json_option
def log_level(
    level: str | None, name: str, seconds: float | None, config_path: Path, as_json: bool
) -> None:
    """Show or change what the pool logs. A running pool follows within a second or two.

    What is changed holds until its time is over or it is changed again, restarts included;
    `default` takes it back, and log_level of pool.toml counts again.
    """
    config, _ = load(config_path)
    now = time.time()
    if level in (None, _AS_CONFIGURED) and seconds is not None:
        raise click.UsageError("--for needs a LEVEL: debug, info, warning or error")
    if level is None and name:
        raise click.UsageError("--of needs a LEVEL: debug, info, warning, error or default")
    with open_store(config_path) as store:
        if level is not None:
            until = None if seconds is None else now + seconds
            to = None if level == _AS_CONFIGURED else LogLevel(level, until)
            change_log_level(store.database, name, to, now)
        with store.database.read() as connection:
            levels = log_levels(connection, now)
    levels = {"": LogLevel(config.log_level, None)} | levels
    if as_json:
        echo_json(
            {
                (one or "all"): {"level": found.level, "until": found.until}
                for one, found in levels.items()
            }
        )
        return
    echo_table(
        ["LOGGER", "LEVEL", "SECONDS LEFT"],
        [
            [one or "all", found.level, "" if found.until is None else f"{found.until - now:.0f}"]
            for one, found in sorted(levels.items())
        ],
    )
