"""Somebody with a browser that keeps cookies and sends forms, without JavaScript."""

from __future__ import annotations

import re
from typing import Any

import httpx
from customer_side import Served

from pool.store.accounts import create_account


class Visitor:
    """One browser."""

    def __init__(self, side: Served) -> None:
        self.client = httpx.AsyncClient(base_url=side.url, timeout=30)
        self._side = side

    async def __aenter__(self) -> Visitor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.client.get(path, **more)

    async def form_token(self, page: str) -> str:
        """The hidden field of the forms on a page."""
        found = re.search(r'name="form_token" value="([0-9a-f]{64})"', (await self.get(page)).text)
        assert found, page
        return found[1]

    async def send(
        self, page: str, path: str, headers: dict[str, str] | None = None, **fields: str
    ) -> httpx.Response:
        """Fill in a form of ``page`` and send it to ``path``."""
        data = {"form_token": await self.form_token(page)} | fields
        return await self.client.post(path, data=data, headers=headers)

    async def sign_in(self, token: str) -> httpx.Response:
        answer = await self.send("/signin", "/signin", token=token)
        assert answer.status_code == 303, answer.text
        return answer


def operator_token(side: Served, name: str = "olga") -> str:
    """Make an operator's account."""
    return create_account(side.store.database, name, "operator", side.clock.now())


def alert_of(answer: httpx.Response) -> str:
    """What a page says went wrong."""
    found = re.search(r'role="alert">([^<]*)<', answer.text)
    assert found, answer.text
    return found[1].replace("&#39;", "'")
