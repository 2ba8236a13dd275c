"""The pool's pages, served at ``/``: HTML drawn here, kept up to date by server-sent events."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.http.pages import (
    account,
    assets,
    batch,
    charts,
    connect,
    operator,
    overview,
    rig,
    share,
    signing_in,
)
from pool.http.pages.frame import guarded
from pool.http.pages.live import live_handler
from pool.http.pages.visits import need_role, visit_of


async def _live_account(request: Request) -> Response:
    viewer = need_role(await visit_of(request), "miner", "customer")
    return await live_handler(account.MINER if viewer.role == "miner" else account.CUSTOMER)(
        request
    )


_LIVE = (overview.PAGE, rig.PAGE, batch.PAGE, share.PAGE, operator.PAGE)

ROUTES = [
    Route("/", guarded(overview.PAGE.get), methods=["GET"]),
    Route("/connect", guarded(connect.PAGE.get), methods=["GET"]),
    *signing_in.ROUTES,
    *account.ROUTES,
    *operator.ROUTES,
    *rig.ROUTES,
    *batch.ROUTES,
    *share.ROUTES,
    *charts.ROUTES,
    *assets.ROUTES,
    Route("/live/account", guarded(_live_account), methods=["GET"]),
    *(Route(f"/live{page.path}", guarded(live_handler(page)), methods=["GET"]) for page in _LIVE),
]
