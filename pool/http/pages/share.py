"""``/shares/LEASE``: one share: its parts and receipts, its verdict, and what to do about it."""

from __future__ import annotations

from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.http.errors import ApiError, JsonResponse
from pool.http.pages.frame import HEADERS, Page, guarded, see
from pool.http.pages.visits import Visit, need_role, read_form, visit_of
from pool.http.rejections import appeal_against, bundle_of, meaning_of, share_number
from pool.store.parts import parts_of
from pool.store.receipts import places_of_share
from pool.store.rejections import rejection
from pool.store.rigshares import Share, share_of
from shares.faults import of_share


async def _load(visit: Visit) -> dict[str, Any]:
    share, deps = await _find(visit), visit.deps

    def read() -> dict[str, Any]:
        with deps.store.database.read() as connection:
            return {
                "parts": parts_of(connection, share.lease, visit.now),
                "places": places_of_share(connection, share.lease),
                "rejection": rejection(connection, share.account, share.lease),
            }

    found = await trio.to_thread.run_sync(read)
    wrong = found["rejection"]
    meaning = None
    if wrong is not None:
        meaning = meaning_of(wrong)
    elif share.verdict in ("rejected", "cleared") or share.state != "open":
        meaning = of_share(share.state, share.fault, share.verdict, share.reason, refuted=False)
    names = {model.digest: model.name for model in deps.models.list()}
    viewer = visit.viewer
    assert viewer is not None
    return found | {
        "share": share,
        "model": names.get(share.model, share.model),
        "meaning": meaning,
        "own": viewer.name == share.account,
    }


PAGE = Page("/shares/{lease}", "share.html", _load, live=("share_facts", "share_parts"))


async def get_bundle(request: Request) -> Response:
    """The replay bundle, as a file."""
    visit = await visit_of(request)
    share = await _find(visit)
    bundle = await bundle_of(visit.deps, share.account, share.lease)
    name = f"share-{share.lease}-bundle.json"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return JsonResponse(bundle, headers=HEADERS | headers)


async def post_appeal(request: Request) -> Response:
    """Ask the referee to look again."""
    visit = await visit_of(request)
    await read_form(request)
    share = await _find(visit)
    if visit.viewer is None or visit.viewer.name != share.account:
        raise ApiError(403, "wrong_role", "only the share's own account may appeal")
    try:
        await appeal_against(visit.deps, share.account, share.lease)
    except ApiError as error:
        return await PAGE.show(visit, error.status, problem=str(error))
    return see(f"/shares/{share.lease}")


async def _find(visit: Visit) -> Share:
    viewer, number = need_role(visit, "miner", "operator"), share_number(visit.request)

    def read() -> Share | None:
        with visit.deps.store.database.read() as connection:
            return share_of(connection, number)

    share = await trio.to_thread.run_sync(read)
    if share is None or (viewer.role == "miner" and share.account != viewer.name):
        raise ApiError(404, "share_not_found", f"{viewer.name} has no share {number}")
    return share


ROUTES = [
    Route("/shares/{lease}/bundle", guarded(get_bundle), methods=["GET"]),
    Route("/shares/{lease}/appeal", guarded(post_appeal), methods=["POST"]),
    Route(PAGE.path, guarded(PAGE.get), methods=["GET"]),
]
