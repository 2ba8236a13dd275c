"""Who asks: the account that the bearer token opens."""

from __future__ import annotations

import trio
from starlette.requests import Request

from pool.accounts import Account
from pool.http.deps import deps_of
from pool.http.errors import ApiError


async def any_account(request: Request) -> Account:
    """The account of the request's token. Raises ``ApiError`` 401."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise ApiError(
            401, "missing_api_key", "no API key: send the header Authorization: Bearer KEY"
        )
    account = await trio.to_thread.run_sync(deps_of(request).store.account_by_token, token)
    if account is None:
        raise ApiError(
            401, "invalid_api_key", "this API key opens no account: check it, or ask the operator"
        )
    return account


async def customer(request: Request) -> Account:
    """The customer that asks. Raises ``ApiError`` 401 or 403."""
    account = await any_account(request)
    if account.role != "customer":
        text = f"account {account.name!r} is a {account.role}'s: use a customer's key"
        raise ApiError(403, "wrong_role", text)
    return account
