"""Lines of a batch as a person may write them, made into lines as the pool wants them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec


class Lines:
    """Expands the lines of one file for ``endpoint`` and ``model`` (None: each line names its).

    A full line passes as it is, or gets the model it lacks. ``{"input": …}`` becomes a full line,
    and so does ``{"query": …, "documents": …}``; without a ``custom_id`` it is called ``line-N``,
    N being its number in the file. What is not understood passes too: the pool says what is wrong
    with it, and with which line.
    """

    def __init__(self, endpoint: str, model: str | None) -> None:
        self.endpoint = endpoint
        self._model = model

    def expand(self, line: bytes, number: int) -> bytes:
        """One line, without or with its line end, to one line in the same form."""
        try:
            fields = msgspec.json.decode(line)
        except msgspec.DecodeError:
            return line
        if not isinstance(fields, dict):
            return line
        full = self._full(fields, number) if "body" in fields else self._short(fields, number)
        if full is None:
            return line
        return msgspec.json.encode(full) + (b"\n" if line.endswith(b"\n") else b"")

    def _full(self, fields: dict[str, Any], number: int) -> dict[str, Any] | None:
        body = fields["body"]
        if self._model is None or not isinstance(body, dict):
            return None
        named = body.get("model")
        if named is None:
            return fields | {"body": {"model": self._model} | body}
        if named != self._model:
            raise click.ClickException(
                f"line {number} names model {named!r}, but --model says {self._model!r}: leave"
                " --model out, or correct the line"
            )
        return None

    def _short(self, fields: dict[str, Any], number: int) -> dict[str, Any] | None:
        if "input" not in fields and not {"query", "documents"} <= fields.keys():
            return None
        model = fields.get("model", self._model)
        if model is None:
            raise click.ClickException(f"line {number} names no model: say which with --model")
        body = {key: value for key, value in fields.items() if key != "custom_id"}
        return {
            "custom_id": fields.get("custom_id", f"line-{number}"),
            "method": "POST",
            "url": self.endpoint,
            "body": body | {"model": model},
        }


def expand_file(source: Path, lines: Lines, out: Path) -> Path:
    """The file to upload: ``source`` itself when no line needs a change, else ``out``, written."""
    with source.open("rb") as stream:
        unchanged = 0
        for number, line in enumerate(stream, start=1):
            expanded = lines.expand(line, number)
            if expanded is not line:
                with out.open("wb") as target:
                    _copy(source, target, unchanged)
                    target.write(expanded)
                    for later, rest in enumerate(stream, start=number + 1):
                        target.write(lines.expand(rest, later))
                return out
            unchanged += len(line)
    return source


def _copy(source: Path, target: BinaryIO, size: int) -> None:
    with source.open("rb") as stream:
        while size:
            piece = stream.read(min(size, 1 << 20))
            target.write(piece)
            size -= len(piece)
