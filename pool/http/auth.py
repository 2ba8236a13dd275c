"""Who asks: the account that the bearer token opens."""

from __future__ import annotations

import structlog
import trio
from starlette.requests import Request

from pool.accounts import PAYOUT_TOKEN_PREFIX, Account
from pool.http.deps import deps_of
from pool.http.errors import ApiError
from pool.store.accounts import account_by_payout_token


async def any_account(request: Request) -> Account:
    """The account of the request's token. Raises ``ApiError`` 401."""
    account = await trio.to_thread.run_sync(
        deps_of(request).store.account_by_token, _token(request)
    )
    if account is None:
        raise _opens_nothing()
    return _known(account)


async def miner_to_pay(request: Request) -> Account:
    """The miner whose payouts are looked at, with either of its tokens. Raises ``ApiError``."""
    token = _token(request)
    if token.startswith(PAYOUT_TOKEN_PREFIX):
        return await miner_who_pays(request)
    account = await any_account(request)
    if account.role != "miner":
        raise _not_a_miner(account)
    return account


async def miner_who_pays(request: Request) -> Account:
    """The miner whose payout token this is: only that one changes where it is paid.

    Raises ``ApiError`` 401, or 403 for the account's other token.
    """
    token, store = _token(request), deps_of(request).store

    def look_up() -> Account | None:
        with store.database.read() as connection:
            return account_by_payout_token(connection, token)

    account = await trio.to_thread.run_sync(look_up)
    if account is not None:
        return _known(account)
    other = await any_account(request)
    if other.role != "miner":
        raise _not_a_miner(other)
    text = (
        "this is the token that rigs use, which cannot change where the account is paid: use its "
        "payout token (the operator makes one with inferpool account payout-token)"
    )
    raise ApiError(403, "wrong_scope", text)


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise ApiError(
            401, "missing_api_key", "no API key: send the header Authorization: Bearer KEY"
        )
    return token


def _known(account: Account) -> Account:
    """What is logged of the request says from now on whose it is."""
    structlog.contextvars.bind_contextvars(account=account.name)
    return account


def _opens_nothing() -> ApiError:
    return ApiError(
        401, "invalid_api_key", "this API key opens no account: check it, or ask the operator"
    )


def _not_a_miner(account: Account) -> ApiError:
    text = f"account {account.name!r} is a {account.role}'s: use a miner's token"
    return ApiError(403, "wrong_role", text)


async def customer(request: Request) -> Account:
    """The customer that asks. Raises ``ApiError`` 401 or 403."""
    account = await any_account(request)
    if account.role != "customer":
        text = f"account {account.name!r} is a {account.role}'s: use a customer's key"
        raise ApiError(403, "wrong_role", text)
    return account
