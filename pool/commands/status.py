"""``inferpool status``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pool.commands.common import config_option, echo_json, echo_table, json_option


@click.command(epilog="Example:  inferpool status --url http://127.0.0.1:8080")
@click.option(
    "--url",
    metavar="http://HOST:PORT",
    help="The pool's HTTP address.  [default: what --config says]",
)
@config_option
@json_option
def status(url: str | None, config_path: Path, as_json: bool) -> None:
    """Show what a running pool is doing: its rigs, its jobs, its models.

    It asks the pool over HTTP, so it works from any machine with --url.
    """
    import trio

    from pool.customer import CustomerError

    try:
        facts = trio.run(_ask, url or _configured(config_path))
    except CustomerError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        echo_json(facts)
    else:
        _show(facts)


async def _ask(url: str) -> dict[str, Any]:
    from pool.customer import Customer

    async with Customer(url, None) as pool:
        return await pool.get("/api/v1/status")


def _configured(config_path: Path) -> str:
    from pool.commands.common import load
    from stratum.addresses import parse_address

    config, _ = load(config_path)
    host, port = parse_address(config.http.listen)
    # Who listens everywhere is found here too.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _show(facts: dict[str, Any]) -> None:
    from pool.progress import duration

    rigs, jobs = facts.get("rigs", []), facts.get("jobs", [])
    click.echo(
        f"{len(rigs):,} rigs, {facts.get('rate') or 0:,.0f} work/s, {len(jobs):,} open jobs,"
        f" {facts.get('open_work', 0):,} work to lease, {facts.get('checks', 0):,} checks open"
    )
    if facts.get("leasing_paused"):
        click.echo("leasing is paused: too much waits for the disk")
    if rigs:
        click.echo()
        echo_table(
            ["RIG", "WORK/S", "DIFFICULTY", "SHARES", "ROWS", "CLEARED", "REJECTED", "CHECKED"],
            [
                [
                    f"{rig['account']}.{rig['rig']}",
                    round(rig["rate"] or 0),
                    rig["difficulty"],
                    rig["leases"],
                    rig["accepted_rows"],
                    rig["shares_cleared"],
                    rig["shares_rejected"],
                    f"{rig['check_rate_ppm'] / 10_000:.1f}%",
                ]
                for rig in rigs
            ],
        )
    if jobs:
        click.echo()
        echo_table(
            ["JOB", "OPERATION", "ROWS", "ACCEPTED", "CLEARED", "WORK/S", "LEFT"],
            [
                [
                    job["model"],
                    job["operation"],
                    job["rows"],
                    job["accepted_rows"],
                    job["cleared_rows"],
                    round(job["rate"] or 0),
                    "?" if job["eta_seconds"] is None else duration(job["eta_seconds"]),
                ]
                for job in jobs
            ],
        )
    models = ", ".join(str(model["name"]) for model in facts.get("models", []))
    click.echo()
    click.echo(f"models: {models or 'none; `inferpool model add` registers one'}")
