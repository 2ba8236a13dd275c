"""``inferpool notify-test``."""

from __future__ import annotations

from pathlib import Path

import click

from pool.commands.common import config_option, echo_json, json_option, load, open_store


@click.command("notify-test", epilog="Example:  inferpool notify-test --config ~/my-pool")
@config_option
@json_option
def notify_test(config_path: Path, as_json: bool) -> None:
    """Send yourself a notification by each way that [notifications] names, and say how it went.

    With or beside a running pool. The exit status is 1 when one did not arrive, or none is named.
    """
    import trio

    from pool.clock import Clock
    from pool.notices.mail import MailError
    from pool.notices.sending import Notices

    config, _ = load(config_path)
    base = config_path if config_path.is_dir() else config_path.parent

    async def send() -> list[tuple[str, str | None]]:
        return await Notices(store, Clock(), config, base, None).send_test()

    with open_store(config_path) as store:
        try:
            found = trio.run(send)
        except MailError as error:
            raise click.ClickException(str(error)) from None
    if as_json:
        echo_json([{"channel": channel, "problem": problem} for channel, problem in found])
    else:
        for channel, problem in found:
            click.echo(f"{channel}: {'sent' if problem is None else problem}")
    if not found:
        raise click.ClickException(
            "nothing to send by: set operator_webhook or operator_email in [notifications]"
        )
    if any(problem is not None for _, problem in found):
        raise click.exceptions.Exit(1)
