"""``/rigs/ACCOUNT.RIG``: one rig, its shares, and what it did over time."""

from __future__ import annotations

from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.accounts import split_user
from pool.http.errors import ApiError, JsonResponse
from pool.http.pages.charts import span_of_chart
from pool.http.pages.cursors import before_of
from pool.http.pages.frame import Page, guarded
from pool.http.pages.visits import Visit, need_role, visit_of
from pool.store.rigshares import rig_work, rigs_of, shares_before

_PAGE = 50


async def _load(visit: Visit) -> dict[str, Any]:
    account, rig = _whose(visit)
    before, deps = before_of(visit.request), visit.deps

    def read() -> dict[str, Any]:
        with deps.store.database.read() as connection:
            trust = next((one for one in rigs_of(connection, account) if one.rig == rig), None)
            shares, older = shares_before(connection, account, rig, before, _PAGE)
            return {"trust": trust, "shares": shares, "older": older}

    found = await trio.to_thread.run_sync(read)
    online = [one for one in visit.facts["rigs"] if (one["account"], one["rig"]) == (account, rig)]
    if found["trust"] is None and not online:
        raise ApiError(404, "rig_not_found", f"{account} never had a rig {rig!r} here")
    names = {model.digest: model.name for model in deps.models.list()}
    return found | {
        "account": account,
        "rig": rig,
        "online": online,
        "rate": sum(one["rate"] or 0.0 for one in online),  # none before its first part
        "names": names,
        "before": before,
        "now": visit.now,
    }


PAGE = Page("/rigs/{user}", "rig.html", _load, live=("rig_facts", "rig_shares"))


async def get_work(request: Request) -> Response:
    """The rig's work over time, for its chart."""
    visit = await visit_of(request)
    account, rig = _whose(visit)
    span, step = span_of_chart(request)
    since = visit.now - span

    def read() -> list[tuple[float, float, int]]:
        with visit.deps.store.database.read() as connection:
            return rig_work(connection, account, rig, since, step)

    rows = await trio.to_thread.run_sync(read)
    data = [{"at": at, "rate": rate, "rejected": lost} for at, rate, lost in rows]
    return JsonResponse({"object": "chart", "from": since, "to": visit.now, "data": data})


def _whose(visit: Visit) -> tuple[str, str]:
    viewer = need_role(visit, "miner", "operator")
    try:
        account, rig = split_user(visit.param("user"))
    except ValueError as error:
        raise ApiError(404, "rig_not_found", str(error)) from None
    if viewer.role == "miner" and account != viewer.name:
        raise ApiError(404, "rig_not_found", f"{viewer.name} has no rig {visit.param('user')[:80]}")
    return account, rig


ROUTES = [
    Route("/rigs/{user}/work", guarded(get_work), methods=["GET"]),
    Route(PAGE.path, guarded(PAGE.get), methods=["GET"]),
]
