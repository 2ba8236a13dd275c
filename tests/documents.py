"""Check that every command in the documents exists, with the options that it is given.

Run as a script (``make check``) or through ``tests/test_documents.py``.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from pool.cli import cli

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"```(?:sh|console|bash)\n(.*?)```", re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def problems() -> list[str]:
    """Everything that is wrong, one line each."""
    found = []
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        name = document.relative_to(ROOT)
        text = document.read_text(encoding="utf-8")
        for target in _LINK.findall(text):
            if not (document.parent / target).exists():
                found.append(f"{name}: links to {target}, which is not there")
        for line in _commands(text):
            found.extend(f"{name}: {line!r}: {why}" for why in wrong_in(line))
    return found


def _commands(text: str) -> Iterator[str]:
    for block in _BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            bare = line.strip().removeprefix("$ ")
            if bare.startswith(("inferpool ", "make ")):
                yield bare


def wrong_in(line: str) -> Iterator[str]:
    """What is wrong with a command line of a document."""
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        for word in words[1:]:
            if not word.startswith("-") and "=" not in word and word not in targets:
                yield f"the Makefile has no target {word}"
        return
    command: click.Command = cli
    context = click.Context(cli, info_name="inferpool")
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        if found is None:
            yield f"there is no command {rest[0]}"
            return
        command, rest = found, rest[1:]
        context = click.Context(command, parent=context, info_name=words[1])
    options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    for word in rest:
        if word.startswith("--") and word.partition("=")[0] not in options:
            yield f"{command.name} has no option {word}"


if __name__ == "__main__":
    wrong = problems()
    for problem in wrong:
        sys.stderr.write(problem + "\n")
    sys.exit(1 if wrong else 0)
