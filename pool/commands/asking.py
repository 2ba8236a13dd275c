"""Asking a pool over HTTP with a token that lies in a file, for a miner's commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx

_Command = TypeVar("_Command", bound=Callable[..., Any])

_SECONDS = 60.0


def pool_options(command: _Command) -> _Command:
    """``--url`` and ``--token-file``."""
    url = click.option(
        "--url", required=True, metavar="http://HOST:PORT", help="The pool's HTTP address."
    )
    token = click.option(
        "--token-file",
        required=True,
        type=click.Path(path_type=Path, dir_okay=False),
        help="A file that holds the token.",
    )
    return url(token(command))


class Asking:
    """A pool's HTTP side. Raises ``ClickException`` with the pool's own words."""

    def __init__(self, url: str, token_file: Path) -> None:
        """Nothing is asked yet."""
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise click.ClickException(f"--token-file {token_file}: {error}") from None
        if not token or not token.isascii() or not token.isprintable():
            raise click.ClickException(f"--token-file {token_file} holds no token")
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}"}

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """A JSON object."""
        return self._ask("GET", path, params=query)

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Change something; what it is then."""
        return self._ask("PUT", path, json=body)

    def pages(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        """Everything of a list that goes on at ``next_after``."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(path, **query)
            found += page["data"]
            if page.get("next_after") is None:
                return found
            query["after"] = page["next_after"]

    def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        address = f"{self._url}{path}"
        try:
            answer = httpx.request(method, address, headers=self._headers, timeout=_SECONDS, **more)
            said = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise click.ClickException(f"{address}: {error}") from None
        except ValueError:
            raise click.ClickException(
                f"{address}: status {answer.status_code} and no pool's answer: is --url right?"
            ) from None
        if not answer.is_success or not isinstance(said, dict):
            problem = said.get("error") if isinstance(said, dict) else None
            words = problem.get("message") if isinstance(problem, dict) else None
            raise click.ClickException(f"{words or address + ' failed'} ({answer.status_code})")
        return said
