"""``/account``: what a miner earns and why it did not; what a customer has and its batches."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.accounts import Account
from pool.batches.endpoints import OPERATIONS, RERANK_V2
from pool.http.batches import add_batch
from pool.http.errors import ApiError
from pool.http.files import take_upload
from pool.http.notifications import change_wish, confirm, wish_shape
from pool.http.pages.cursors import before_of
from pool.http.pages.frame import Page, guarded, see
from pool.http.pages.visits import (
    FORM_TOKEN,
    Visit,
    check_form_token,
    check_origin,
    need_role,
    read_form,
    visit_of,
)
from pool.http.payouts import change_payout, payout_settings
from pool.http.rejections import meaning_of
from pool.http.statements import read_statement, statement_answer
from pool.store.accounts import account_by_payout_token
from pool.store.escrow import statement_of
from pool.store.jobs import find_batch, list_batches
from pool.store.notices import EVENTS
from pool.store.payouts import newest_payouts
from pool.store.rejections import rejections_before
from pool.store.rigshares import rigs_of
from pool.store.statements import span_of

_PAGE = 20


async def _live_miner(visit: Visit) -> dict[str, Any]:
    """What changes by itself: read again and again, so nothing that grows with the account."""
    viewer, deps = need_role(visit, "miner"), visit.deps
    before = before_of(visit.request)
    online = {rig["rig"]: rig for rig in visit.facts["rigs"] if rig["account"] == viewer.name}

    def read() -> dict[str, Any]:
        with deps.store.database.read() as connection:
            found, older = rejections_before(connection, viewer.name, before, _PAGE)
            return {
                "money": statement_of(connection, viewer),
                "rigs": rigs_of(connection, viewer.name),
                "rejections": [(one, meaning_of(one)) for one in found],
                "older": older,
            }

    found = await trio.to_thread.run_sync(read)
    known = {rig.rig for rig in found["rigs"]}
    return found | {
        "online": online,
        "fresh": [rig for name, rig in online.items() if name not in known],
        "before": before,
        "now": visit.now,
    }


async def _load_miner(visit: Visit) -> dict[str, Any]:
    live, deps = await _live_miner(visit), visit.deps
    viewer = need_role(visit, "miner")

    def read() -> dict[str, Any]:
        with deps.store.database.read() as connection:
            payouts = newest_payouts(connection, viewer.name, _PAGE)
        return {
            "payouts": payouts,
            "settings": payout_settings(deps, viewer),
            "statement": _statement(visit, viewer),
            "wish": wish_shape(deps, viewer),
        }

    return live | await trio.to_thread.run_sync(read)


async def _live_customer(visit: Visit) -> dict[str, Any]:
    viewer, deps = need_role(visit, "customer"), visit.deps
    after = visit.request.query_params.get("after", "")

    def read() -> dict[str, Any]:
        with deps.store.database.read() as connection:
            edge = find_batch(connection, viewer.name, after) if after else None
            rows = list_batches(
                connection, viewer.name, after=edge.id if edge else None, limit=_PAGE + 1
            )
            return {"money": statement_of(connection, viewer), "rows": rows}

    found = await trio.to_thread.run_sync(read)
    rows = found.pop("rows")
    return found | {
        "batches": [(row, deps.core.progress(row.id)) for row in rows[:_PAGE]],
        "older": rows[_PAGE - 1].batch if len(rows) > _PAGE else None,
        "after": after,
    }


async def _load_customer(visit: Visit) -> dict[str, Any]:
    live, deps = await _live_customer(visit), visit.deps
    viewer = need_role(visit, "customer")

    def read() -> dict[str, Any]:
        return {"statement": _statement(visit, viewer), "wish": wish_shape(deps, viewer)}

    return (
        live
        | await trio.to_thread.run_sync(read)
        | {
            "models": visit.facts["models"],
            "endpoints": [path for path in OPERATIONS if path != RERANK_V2],
            "trusted": bool(deps.config.trust.trusted),
            "most_bytes": deps.config.http.max_upload_bytes,
        }
    )


MINER = Page(
    "/account",
    "miner.html",
    _load_miner,
    live=("earnings", "own_rigs", "rejections"),
    again=_live_miner,
)
CUSTOMER = Page(
    "/account",
    "customer.html",
    _load_customer,
    live=("balance", "batches"),
    again=_live_customer,
)


async def get_account(request: Request) -> Response:
    """The page for the viewer's role."""
    visit = await visit_of(request)
    page = _page_of(visit)
    return see("/operator") if page is None else await page.show(visit)


def _page_of(visit: Visit) -> Page | None:
    viewer = need_role(visit, "miner", "customer", "operator")
    return {"miner": MINER, "customer": CUSTOMER}.get(viewer.role)


async def post_batch(request: Request) -> Response:
    """Take the file and make a batch of it."""
    check_origin(request)
    visit = await visit_of(request)
    viewer = need_role(visit, "customer")
    wishes: dict[str, str] = {}

    def check(fields: dict[str, str]) -> None:
        check_form_token(request, fields.pop(FORM_TOKEN, ""))
        wishes.update(fields)

    try:
        file = await take_upload(request, viewer.name, check)
        body: dict[str, Any] = {
            "input_file_id": file.id,
            "endpoint": wishes.get("endpoint"),
            "completion_window": wishes.get("completion_window") or "24h",
        }
        assurance = wishes.get("assurance", "").strip()
        if assurance:
            body["metadata"] = {"assurance": assurance}
        row = await add_batch(visit.deps, viewer.name, body)
    except ApiError as error:
        if error.code == "foreign_form":
            raise
        return await CUSTOMER.show(visit, error.status, problem=str(error))
    return see(f"/batches/{row.batch}")


async def post_payout(request: Request) -> Response:
    """Change where the miner is paid: only with its payout token."""
    visit = await visit_of(request)
    viewer = need_role(visit, "miner")
    fields = await read_form(request)
    token = fields.get("payout_token", "").strip()

    def holder() -> Account | None:
        with visit.deps.store.database.read() as connection:
            return account_by_payout_token(connection, token)

    owner = await trio.to_thread.run_sync(holder)
    if owner is None or owner.name != viewer.name:
        problem = (
            "This is not the payout token of your account. The operator makes one with: "
            f"inferpool account payout-token {viewer.name}"
        )
        return await MINER.show(visit, 403, problem=problem)
    wanted: dict[str, Any] = {}
    if fields.get("address", "").strip():
        wanted["address"] = fields["address"].strip()
    minimum = fields.get("minimum", "").strip().replace(",", "")
    if minimum:
        wanted["minimum"] = int(minimum) if minimum.isascii() and minimum.isdecimal() else minimum
    try:
        await change_payout(visit.deps, viewer, wanted)
    except ApiError as error:
        return await MINER.show(visit, error.status, problem=str(error))
    return see("/account#payouts")


async def post_notifications(request: Request) -> Response:
    """Change what the account wants to hear of."""
    visit = await visit_of(request)
    viewer = need_role(visit, "miner", "customer")
    fields = await read_form(request)
    number = fields.get("per_hour", "").strip()
    wanted: dict[str, Any] = {
        "webhook": fields.get("webhook", "").strip() or None,
        "events": [event for event in EVENTS[viewer.role] if f"event_{event}" in fields],
        "per_hour": int(number) if number.isascii() and number.isdecimal() else number,
    }
    if "email" in fields:
        wanted["email"] = fields["email"].strip() or None
    return await _changed(visit, change_wish(visit.deps, viewer, wanted))


async def post_confirm(request: Request) -> Response:
    """Confirm the mail address with the code that was sent to it."""
    visit = await visit_of(request)
    viewer = need_role(visit, "miner", "customer")
    fields = await read_form(request)
    return await _changed(visit, confirm(visit.deps, viewer, fields.get("code", "")))


async def _changed(visit: Visit, change: Awaitable[None]) -> Response:
    """Carry ``change`` out; what it refuses is said on the page."""
    try:
        await change
    except ApiError as error:
        page = _page_of(visit)
        assert page is not None, "who has no page has no form"
        return await page.show(visit, error.status, problem=str(error))
    return see("/account#notifications")


async def get_statement(request: Request) -> Response:
    """The statement as a file."""
    visit = await visit_of(request)
    return await statement_answer(request, need_role(visit, "miner", "customer"))


def _statement(visit: Visit, viewer: Account) -> dict[str, Any]:
    found = read_statement(visit.deps.store, viewer, span_of(None, None, visit.now))
    found["data"] = found["data"][-200:][::-1]
    return found


ROUTES = [
    Route("/account", guarded(get_account), methods=["GET"]),
    Route("/account/batches", guarded(post_batch), methods=["POST"]),
    Route("/account/notifications", guarded(post_notifications), methods=["POST"]),
    Route("/account/confirm", guarded(post_confirm), methods=["POST"]),
    Route("/account/payout", guarded(post_payout), methods=["POST"]),
    Route("/account/statement", guarded(get_statement), methods=["GET"]),
]
