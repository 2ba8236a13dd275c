"""The command line: ``inferpool``. Each command is loaded when it is asked for."""

from __future__ import annotations

import importlib
import sys

import click

_COMMANDS = {
    "init": "pool.commands.init:init",
    "serve": "pool.commands.serve:serve",
    "model": "pool.commands.model:model",
    "account": "pool.commands.account:account",
    "quarantine": "pool.commands.quarantine:quarantine_command",
    "status": "pool.commands.status:status",
    "log-level": "pool.commands.loglevel:log_level",
    "notify-test": "pool.commands.notify_test:notify_test",
    "payouts": "pool.commands.payouts:payouts",
    "ledger": "pool.commands.ledger:ledger",
    "lab": "pool.commands.lab:lab",
    "payout": "pool.commands.payout:payout",
    "statement": "pool.commands.statement:statement",
    "verify": "pool.commands.verify:verify",
    "audit": "pool.commands.audit:audit_command",
    "replay": "pool.commands.replay:replay",
    "worker": "gpu_worker.commands.worker:worker",
    "doctor": "gpu_worker.commands.doctor:doctor",
    "bench": "gpu_worker.commands.bench:bench",
    "submit": "pool.commands.submit:submit",
    "hardware": "pool.commands.hardware:hardware",
    "demo": "pool.commands.demo:demo",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        where = _COMMANDS.get(cmd_name)
        if where is None:
            return None
        module, name = where.split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="inferpool")
def cli() -> None:
    """A mining pool whose work is AI inference.

    \b
    Operators:  init, serve, model, account, quarantine, status, payouts,
                ledger, lab, log-level, notify-test
    Miners:     worker, doctor, bench, payout, statement, verify,
                audit, replay
    Customers:  submit, statement
    Everybody:  demo, hardware
    """


def main() -> None:
    """Run the command line; a failure with words for a person exits with 1."""
    try:
        # Without click's own handling an exit code comes back as the value.
        sys.exit(cli.main(standalone_mode=False))
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(141)
