"""``/operator``: accounts, bans and trust, queues, settings, and who did what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.accounts import ROLES, AccountError
from pool.closing import close_account
from pool.http.pages.frame import Page, guarded, see
from pool.http.pages.visits import Visit, need_role, read_form, visit_of
from pool.settlement import settlement_policy
from pool.store.accounts import audit_lines, create_account, renew_payout_token
from pool.store.escrow import deposit, statements
from pool.store.jobs import UNFINISHED, jobs_by_state, unfinished_jobs
from pool.store.ledger import ledger_totals
from pool.store.payouts import list_payouts, payouts_by_state
from pool.store.quarantines import QuarantineError, lift, open_excuses, quarantines
from pool.store.rigshares import punished_rigs

_LOG, _JOBS, _PAYOUTS, _ACCOUNTS = 100, 200, 100, 500


async def _load(visit: Visit) -> dict[str, Any]:
    need_role(visit, "operator")
    deps = visit.deps

    def read() -> dict[str, Any]:
        with deps.store.database.read() as connection:
            return {
                "accounts": statements(connection)[-_ACCOUNTS:][::-1],
                "punished": punished_rigs(connection, visit.now),
                "quarantines": quarantines(connection),
                "excuses": open_excuses(connection),
                "batches": jobs_by_state(connection),
                "jobs": unfinished_jobs(connection)[:_JOBS],
                "ledger": ledger_totals(connection),
                "payouts": payouts_by_state(connection),
                "manual": list_payouts(connection, ("manual",), 0, _PAYOUTS),
                "log": audit_lines(connection, _LOG)[::-1],
            }

    found = await trio.to_thread.run_sync(read)
    names = {model.digest: model.name for model in deps.models.list()}
    return found | {
        "facts": visit.facts,
        "names": names,
        "roles": ROLES,
        "settings": _settings(deps.config),
        "progress": {row.id: deps.core.progress(row.id) for row in found["jobs"]},
        "unfinished": UNFINISHED,
        "now": visit.now,
    }


PAGE = Page(
    "/operator",
    "operator.html",
    _load,
    live=("queues", "accounts", "trust", "audit_log"),
)


async def post_create(request: Request) -> Response:
    """Make an account, and show its token this once."""

    def make(visit: Visit, fields: dict[str, str]) -> dict[str, str]:
        name, role = fields.get("name", "").strip(), fields.get("role", "")
        token = create_account(visit.deps.store.database, name, role, visit.now, _actor(visit))
        return {"fresh_name": name, "fresh_token": token, "fresh_kind": f"The token of the {role}"}

    return await _do(request, make)


async def post_payout_token(request: Request) -> Response:
    """Make a payout token, and show it this once."""

    def make(visit: Visit, fields: dict[str, str]) -> dict[str, str]:
        name = fields.get("name", "")
        token = renew_payout_token(visit.deps.store.database, name, visit.now, _actor(visit))
        return {"fresh_name": name, "fresh_token": token, "fresh_kind": "The payout token of"}

    return await _do(request, make)


async def post_credit(request: Request) -> Response:
    """Give a customer, or the reserve, money."""

    def credit(visit: Visit, fields: dict[str, str]) -> None:
        text = fields.get("units", "").strip().replace(",", "").replace("_", "")
        if not (text.isascii() and text.isdecimal() and len(text) <= 18):
            raise AccountError("units must be a whole number, such as 1000000")
        name = fields.get("name", "").strip()
        deposit(visit.deps.store.database, name, int(text), visit.now, _actor(visit))

    return await _do(request, credit)


async def post_close(request: Request) -> Response:
    """Close an account."""

    def close(visit: Visit, fields: dict[str, str]) -> None:
        policy = settlement_policy(visit.deps.config)
        database, name = visit.deps.store.database, fields.get("name", "")
        close_account(database, name, policy, visit.now, _actor(visit))

    return await _do(request, close)


async def post_lift(request: Request) -> Response:
    """End a quarantine."""

    def end(visit: Visit, fields: dict[str, str]) -> None:
        kind, model = fields.get("kind", ""), fields.get("model", "")
        lift(visit.deps.store.database, kind, model, guilty=fields.get("verdict") == "guilty")

    return await _do(request, end)


async def _do(
    request: Request, what: Callable[[Visit, dict[str, str]], dict[str, str] | None]
) -> Response:
    """Carry ``what`` out in a thread; what it returns is shown once, its errors with the page."""
    visit = await visit_of(request)
    need_role(visit, "operator")
    fields = await read_form(request)
    try:
        shown = await trio.to_thread.run_sync(what, visit, fields)
    except (AccountError, QuarantineError) as error:
        return await PAGE.show(visit, 400, problem=str(error))
    visit.deps.changed()
    if shown:
        return await PAGE.show(visit, 200, **shown)
    return see("/operator")


def _actor(visit: Visit) -> str:
    return need_role(visit, "operator").name


def _settings(config: msgspec.Struct) -> list[tuple[str, str]]:
    """(name, value) of every setting; files with secrets are named only."""
    found: list[tuple[str, str]] = []
    for name in config.__struct_fields__:
        value = getattr(config, name)
        if isinstance(value, msgspec.Struct):
            found.extend((f"{name}.{inner}", text) for inner, text in _settings(value))
        else:
            found.append((name, msgspec.json.encode(value).decode()))
    return found


ROUTES = [
    Route(PAGE.path, guarded(PAGE.get), methods=["GET"]),
    Route("/operator/accounts", guarded(post_create), methods=["POST"]),
    Route("/operator/payout-token", guarded(post_payout_token), methods=["POST"]),
    Route("/operator/credit", guarded(post_credit), methods=["POST"]),
    Route("/operator/close", guarded(post_close), methods=["POST"]),
    Route("/operator/lift", guarded(post_lift), methods=["POST"]),
]
