"""``/api/v1/accounts/me/payout``: where a miner is paid; ``…/payouts``: what it was paid."""

from __future__ import annotations

from typing import Any

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.accounts import Account, AccountError
from pool.http.auth import miner_to_pay, miner_who_pays
from pool.http.bodies import invalid, number_param, page_limit, read_object
from pool.http.deps import HttpDeps, deps_of
from pool.http.errors import ApiError, JsonResponse
from pool.store import Store
from pool.store.database import StoreError
from pool.store.payees import (
    Payee,
    payee_of,
    payout_minimum,
    set_payout_address,
    set_payout_minimum,
)
from pool.store.payouts import Payout, payouts_of, wait_of
from shares.money.addresses import AddressError

_NAMES = frozenset({"address", "minimum"})


async def get_payout(request: Request) -> Response:
    """Where the account is paid, from how many units on, and why it was not."""
    deps = deps_of(request)
    account = await miner_to_pay(request)
    return JsonResponse(await trio.to_thread.run_sync(payout_settings, deps, account))


async def put_payout(request: Request) -> Response:
    """Change the address, the minimum, or both. Needs the payout token."""
    deps = deps_of(request)
    account = await miner_who_pays(request)
    await change_payout(deps, account, await read_object(request, _NAMES))
    return JsonResponse(await trio.to_thread.run_sync(payout_settings, deps, account))


async def change_payout(deps: HttpDeps, account: Account, wanted: dict[str, Any]) -> None:
    """Change a miner's ``address``, ``minimum``, or both. Raises ``ApiError`` 400."""
    address, minimum = wanted.get("address"), wanted.get("minimum")
    if "address" in wanted and not isinstance(address, str):
        raise invalid("address", "must be a text")
    if "minimum" in wanted and type(minimum) is not int:
        raise invalid("minimum", "must be a whole number of units")
    if not wanted:
        raise ApiError(400, "invalid_value", "give address, minimum, or both", param="address")
    now, database = deps.clock.now(), deps.store.database
    payouts = deps.config.payouts

    def change() -> Payee | None:
        payee = None
        if isinstance(address, str):
            payee = set_payout_address(
                database,
                account.name,
                payouts.address,
                address,
                now,
                hold_seconds=payouts.address_hold_seconds,
                actor=account.name,
            )
        if type(minimum) is int:
            set_payout_minimum(database, account.name, minimum, now, account.name)
        return payee

    try:
        payee = await trio.to_thread.run_sync(change)
    except AddressError as error:
        raise invalid("address", str(error)) from None
    except AccountError as error:
        raise invalid("minimum", str(error)) from None
    if payee is not None and payee.since == now:
        deps.tell(account.name, payee.news())


async def get_payouts(request: Request) -> Response:
    """The account's payouts in the order in which they were made, claims with their proofs."""
    store = deps_of(request).store
    account = await miner_to_pay(request)
    after = number_param(request, "after", "the number of a payout")
    limit = page_limit(request, 100, 1000)

    def read() -> tuple[list[dict[str, Any]], int | None]:
        with store.database.read() as connection:
            found, following = payouts_of(connection, account.name, after, limit)
        trees: dict[str, dict[str, Any]] = {}
        return [_payout_json(store, one, trees) for one in found], following

    data, following = await trio.to_thread.run_sync(read)
    return JsonResponse({"object": "list", "data": data, "next_after": following})


def payout_settings(deps: HttpDeps, account: Account) -> dict[str, Any]:
    """Where a miner is paid, from how many units on, and why it was not. In a thread."""
    with deps.store.database.read() as connection:
        payee = payee_of(connection, account.name)
        minimum = payout_minimum(connection, account.name)
        waiting = wait_of(connection, account.name)
    payouts = deps.config.payouts
    return {
        "object": "payout_settings",
        "account": account.name,
        "kind": payouts.address if payee is None else payee.kind,
        "address": payee and payee.address,
        "usable_at": payee and payee.usable,
        "minimum": max(minimum, payouts.minimum),
        "carrier": payouts.carrier,
        "every_seconds": payouts.every_seconds,
        "multiplier": payouts.multiplier,
        "waiting": waiting,
    }


def _payout_json(store: Store, payout: Payout, trees: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "object": "payout",
        "payout": payout.id,
        "key": payout.key,
        "round": payout.round,
        "units": payout.units,
        "kind": payout.kind,
        "address": payout.address,
        "state": payout.state,
        "reference": payout.reference,
        # Why a person must look is the operator's to say.
        "reason": "it waits for the operator" if payout.state == "manual" else payout.reason,
        "created": payout.created,
        "changed": payout.changed,
        "claim": _claim(store, payout, trees),
    }


def _claim(store: Store, payout: Payout, trees: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    name = payout.document
    if name is None or not name.endswith(".claims.json"):
        return None
    if name not in trees:
        try:
            trees[name] = msgspec.json.decode(store.objects.get(name))
        except (OSError, StoreError, msgspec.DecodeError):
            trees[name] = {}
    found = trees[name].get("proofs", {}).get(payout.address)
    return None if found is None else {"root": trees[name]["root"], **found}


ROUTES = [
    Route("/api/v1/accounts/me/payout", get_payout, methods=["GET"]),
    Route("/api/v1/accounts/me/payout", put_payout, methods=["PUT"]),
    Route("/api/v1/accounts/me/payouts", get_payouts, methods=["GET"]),
]
