"""Every command explains itself, with an example that a person can copy."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from pool.cli import cli


def commands(group, path=()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands(cli)), ids=" ".join)
def test_help_shows_an_example_of_the_command_itself(path):
    """``--help`` exits with 0, and its example begins as the command does."""
    result = CliRunner().invoke(cli, [*path, "--help"])

    assert result.exit_code == 0, result.output
    assert f"Example: inferpool {' '.join(path)} " in " ".join(result.output.split())


def test_python_m_pool_is_the_same_command_line():
    """For those who have not installed the script."""
    from pool import __main__
    from pool import cli as module

    assert __main__.main is module.main
