"""Pages of the pool's lists, as they were saved in a file or are fetched now."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import httpx

Page = dict[str, Any]


def pages_of(source: str, following: Callable[[Page], dict[str, int] | None]) -> list[Page]:
    """All pages of a list: of a file, or of an address, one after the other.

    ``following``: the query that leads from a page to the next one, ``None`` after the last.
    Raises ``ClickException``.
    """
    if not source.startswith(("http://", "https://")):
        return pages_of_file(Path(source))
    pages: list[Page] = []
    query: dict[str, int] | None = {}
    try:
        with httpx.Client(timeout=30) as client:
            while query is not None:
                answer = client.get(source, params=query)
                answer.raise_for_status()
                pages.append(_page(answer.json(), source))
                query = following(pages[-1])
    except (httpx.HTTPError, ValueError) as error:
        raise click.ClickException(f"{source}: {error}") from None
    return pages


def pages_of_file(path: Path) -> list[Page]:
    """The JSON objects of a file, one after the other. Raises ``ClickException``."""
    decoder = json.JSONDecoder()
    pages = []
    try:
        text = path.read_text(encoding="utf-8").strip()
        while text:
            page, end = decoder.raw_decode(text)
            pages.append(_page(page, str(path)))
            text = text[end:].lstrip()
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{path}: {error}") from None
    if not pages:
        raise click.ClickException(f"{path} is empty: save the pool's answers there")
    return pages


def _page(page: Any, source: str) -> Page:
    data = page.get("data") if isinstance(page, dict) else None
    if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
        raise click.ClickException(f"{source}: no page of a list of the pool's, with a field data")
    return dict(page)
