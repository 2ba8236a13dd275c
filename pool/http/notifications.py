"""``/api/v1/accounts/me/notifications``: what an account wants to hear of; ``/api/v1/alerts``."""

from __future__ import annotations

import hmac
import re
from typing import Any

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.accounts import Account
from pool.http.auth import any_account
from pool.http.batches import webhook_address
from pool.http.bodies import invalid, read_body, read_object
from pool.http.deps import HttpDeps, deps_of
from pool.http.errors import ApiError, JsonResponse
from pool.notices.words import confirmation
from pool.store.notices import (
    EVENTS,
    OPERATOR,
    NoticeError,
    Wish,
    add_message,
    confirm_address,
    notify,
    set_wish,
    wish_of,
)

_NAMES = frozenset({"webhook", "email", "events", "per_hour"})
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,190}")
_MOST_AN_HOUR = 60
_MAX_ALERTS = 1 << 20
_LONGEST_NAME = 100


async def get_wish(request: Request) -> Response:
    """What the account said."""
    deps = deps_of(request)
    account = await any_account(request)
    return JsonResponse(await trio.to_thread.run_sync(wish_shape, deps, account))


async def put_wish(request: Request) -> Response:
    """Change it; what is not named stays. A new mail address must be confirmed."""
    deps = deps_of(request)
    account = await any_account(request)
    await change_wish(deps, account, await read_object(request, _NAMES))
    return JsonResponse(await trio.to_thread.run_sync(wish_shape, deps, account))


async def change_wish(deps: HttpDeps, account: Account, wanted: dict[str, Any]) -> None:
    """Keep an account's wish, and mail the code to a new address. Raises ``ApiError`` 400."""
    changes = _checked(deps, account, wanted)

    def write() -> None:
        now = deps.clock.now()
        with deps.store.database.write() as connection:
            before = wish_of(connection, account.name)
            fields = {name: getattr(before, name) for name in _NAMES} | changes
            wish = Wish(account.name, **fields)
            code = set_wish(connection, wish, now)
            if code is not None and wish.email is not None:
                subject, text = confirmation(account.name, code)
                way = ("email", wish.email)
                add_message(connection, account.name, way, subject, text.encode(), now)

    try:
        await trio.to_thread.run_sync(write)
    except NoticeError as error:
        raise ApiError(429, "too_many_addresses", str(error), param="email") from None


def wish_shape(deps: HttpDeps, account: Account) -> dict[str, Any]:
    """An account's wish as the API tells it. In a thread."""
    with deps.store.database.read() as connection:
        wish = wish_of(connection, account.name)
    return {
        "object": "notifications",
        "webhook": wish.webhook,
        "email": wish.email,
        "email_confirmed": wish.confirmed,
        "events": list(wish.events),
        "per_hour": wish.per_hour,
        "possible": list(EVENTS[account.role]),
        "mail": bool(deps.config.notifications.smtp_host),
    }


def _checked(deps: HttpDeps, account: Account, wanted: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "webhook" in wanted:
        webhook = wanted["webhook"]
        if webhook is not None and (not isinstance(webhook, str) or len(webhook) > 512):
            raise invalid("webhook", "must be an address, or null")
        found["webhook"] = None if webhook is None else webhook_address(deps, webhook, "webhook")
    if "email" in wanted:
        email = wanted["email"]
        if email is not None and not (isinstance(email, str) and _ADDRESS.fullmatch(email)):
            raise invalid("email", "must be a mail address such as me@example.org, or null")
        if email is not None and not deps.config.notifications.smtp_host:
            raise invalid("email", "this pool sends no mail: use a webhook")
        found["email"] = email
    if "events" in wanted:
        events, possible = wanted["events"], EVENTS[account.role]
        if not isinstance(events, list) or not all(one in possible for one in events):
            names = ", ".join(possible) or "nothing: an operator's are in pool.toml"
            raise invalid("events", f"must be a list of some of: {names}")
        found["events"] = tuple(dict.fromkeys(events))
    if "per_hour" in wanted:
        number = wanted["per_hour"]
        if type(number) is not int or not 1 <= number <= _MOST_AN_HOUR:
            raise invalid("per_hour", f"must be a whole number from 1 to {_MOST_AN_HOUR}")
        found["per_hour"] = number
    return found


async def post_confirm(request: Request) -> Response:
    """The code that was mailed."""
    deps = deps_of(request)
    account = await any_account(request)
    code = (await read_object(request, frozenset({"code"}))).get("code")
    await confirm(deps, account, code if isinstance(code, str) else "")
    return JsonResponse(await trio.to_thread.run_sync(wish_shape, deps, account))


async def confirm(deps: HttpDeps, account: Account, code: str) -> None:
    """Take a code. Raises ``ApiError`` 400 when it is wrong or old."""

    def write() -> bool:
        with deps.store.database.write() as connection:
            return confirm_address(connection, account.name, code.strip(), deps.clock.now())

    if not await trio.to_thread.run_sync(write):
        text = "this code is wrong or older than a day: name the address again for a new one"
        raise invalid("code", text)


async def post_alerts(request: Request) -> Response:
    """Alertmanager's webhook: its alerts are passed on to the operator."""
    deps = deps_of(request)
    given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    if not deps.alerts_secret or not hmac.compare_digest(
        given.encode(), deps.alerts_secret.encode()
    ):
        text = "alerts are taken with the secret of notifications.alerts_secret_file only"
        raise ApiError(401, "invalid_api_key", text)
    try:
        sent = msgspec.json.decode(await read_body(request, _MAX_ALERTS))
        alerts = [
            {
                "alert": str(one["labels"]["alertname"])[:_LONGEST_NAME],
                "status": str(one["status"])[:_LONGEST_NAME],
                "summary": str(one.get("annotations", {}).get("summary", ""))[:500],
                "severity": str(one["labels"].get("severity", ""))[:_LONGEST_NAME],
            }
            for one in sent["alerts"]
        ]
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        text = "the body must be what Alertmanager sends to a webhook (version 4)"
        raise ApiError(400, "invalid_json", text) from None

    def write() -> None:
        with deps.store.database.write() as connection:
            for facts in alerts:
                notify(connection, OPERATOR, "alert", facts, deps.clock.now())

    await trio.to_thread.run_sync(write)
    return JsonResponse({"object": "alerts", "taken": len(alerts)})


ROUTES = [
    Route("/api/v1/accounts/me/notifications", get_wish, methods=["GET"]),
    Route("/api/v1/accounts/me/notifications", put_wish, methods=["PUT"]),
    Route("/api/v1/accounts/me/notifications/confirm", post_confirm, methods=["POST"]),
    Route("/api/v1/alerts", post_alerts, methods=["POST"]),
]
