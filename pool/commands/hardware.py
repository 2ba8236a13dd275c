"""``inferpool hardware``: which devices do this pool's work best."""

from __future__ import annotations

import click
import httpx

from pool.commands.common import echo_json, echo_table, json_option

_SECONDS = 30.0


@click.command(epilog="Example:  inferpool hardware --url http://127.0.0.1:8080")
@click.option("--url", required=True, metavar="http://HOST:PORT", help="The pool's HTTP address.")
@json_option
def hardware(url: str, as_json: bool) -> None:
    """Rank kinds of devices by the work that a pool has seen them do.

    Work per second is measured by the pool, for each device while it had a share; work per joule is
    what rigs report. Below: what a million tokens cost, by model, as it was charged lately.
    """
    address = f"{url.rstrip('/')}/api/v1/hardware"
    try:
        answer = httpx.get(address, timeout=_SECONDS)
        answer.raise_for_status()
        found = answer.json()
        data, tokens = found["data"], found["tokens"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{address}: {error}") from None
    if as_json:
        echo_json(found)
        return
    echo_table(
        ["MODEL", "DEVICE", "WORK/S", "ROWS/S", "WORK/J (REPORTED)", "WORK"],
        [
            [
                one["model"],
                one["device"],
                one["work_per_second"] or "",
                one["rows_per_second"] or "",
                one["reported_work_per_joule"] or "",
                one["work"],
            ]
            for one in data
        ],
    )
    if tokens:
        click.echo()
        echo_table(
            ["MODEL", "UNITS A MILLION TOKENS", "WORK A TOKEN"],
            [
                [one["model"], one["units_per_million_tokens"], one["work_per_token"]]
                for one in tokens
            ],
        )
