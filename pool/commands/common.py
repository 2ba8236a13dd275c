"""What several commands share: the options, the open store, the ways of printing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
import structlog

from pool.config import FILE_NAME, Config, ConfigError, read_config
from pool.logs import configure_logs
from pool.store import Store

_Command = TypeVar("_Command", bound=Callable[..., Any])


def config_option(command: _Command) -> _Command:
    """``--config``: the pool's file."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=Path(FILE_NAME),
        show_default=True,
        help="The pool's settings: the file, or the folder that holds it.",
    )(command)


def json_option(command: _Command) -> _Command:
    """``--json``: facts for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def load(config_path: Path) -> tuple[Config, Path]:
    """The settings and the data folder; a ``ClickException`` names what is wrong."""
    try:
        return read_config(config_path)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


@contextlib.contextmanager
def open_store(config_path: Path) -> Iterator[Store]:
    """The pool's store, beside a running pool or without one."""
    _, folder = load(config_path)
    if not structlog.is_configured():
        # What a command answers stands alone on standard output.
        configure_logs("warning", lasting=False)
    store = Store.open(folder)
    try:
        yield store
    finally:
        store.close()


def echo_json(facts: object) -> None:
    """Print ``facts`` as one line of JSON, or indented on a terminal."""
    text = msgspec.json.encode(facts)
    if sys.stdout.isatty():
        text = msgspec.json.format(text, indent=2)
    click.echo(text.decode())


def echo_table(headings: list[str], rows: list[list[object]]) -> None:
    """Print aligned columns: numbers to the right with thin groups, words to the left."""
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    numeric = [all(isinstance(row[i], int) for row in rows) for i in range(len(headings))]

    def line(values: list[str]) -> str:
        return "  ".join(
            value.rjust(width) if number else value.ljust(width)
            for value, width, number in zip(values, widths, numeric, strict=True)
        ).rstrip()

    click.echo(line(headings))
    for row in cells:
        click.echo(line(row))
