"""``/api/v1/accounts/me/rejections``: what went wrong with a miner's shares, proofs, appeals."""

from __future__ import annotations

from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.bundles import replay_bundle
from pool.http.auth import any_account
from pool.http.bodies import number_param, page_limit
from pool.http.deps import HttpDeps, deps_of
from pool.http.errors import ApiError, JsonResponse
from pool.store.appeals import ROWS_GONE, AppealError, open_appeal
from pool.store.database import StoreError
from pool.store.rejections import Rejection, rejection, rejections_after
from shares.faults import EXCUSED, Fault, of_share


async def get_rejections(request: Request) -> Response:
    """Shares that came to nothing or of which a row was wrong, by lease number."""
    deps = deps_of(request)
    account = await any_account(request)
    after = number_param(request, "after", "the number of a lease")
    limit = page_limit(request, 100, 1000)

    def read() -> tuple[list[Rejection], int | None]:
        with deps.store.database.read() as connection:
            return rejections_after(connection, account.name, after, limit)

    found, following = await trio.to_thread.run_sync(read)
    data = [_rejection_json(one) for one in found]
    return JsonResponse({"object": "list", "data": data, "next_after": following})


async def get_bundle(request: Request) -> Response:
    """All that ``inferpool replay`` needs but the model's files."""
    account = await any_account(request)
    return JsonResponse(await bundle_of(deps_of(request), account.name, share_number(request)))


async def bundle_of(deps: HttpDeps, account: str, number: int) -> dict[str, Any]:
    """The replay bundle of a share. Raises ``ApiError`` 404 or 410."""
    try:
        bundle = await trio.to_thread.run_sync(
            replay_bundle, deps.store, deps.models, account, number
        )
    except (FileNotFoundError, StoreError):
        raise ApiError(410, "rows_gone", ROWS_GONE) from None
    if bundle is None:
        raise _nothing(number)
    return bundle


async def post_appeal(request: Request) -> Response:
    """Ask the referee to run the rows of a share again that it found wrong."""
    account = await any_account(request)
    found = await appeal_against(deps_of(request), account.name, share_number(request))
    return JsonResponse(_rejection_json(found), status_code=202)


async def appeal_against(deps: HttpDeps, account: str, number: int) -> Rejection:
    """Open an appeal. Raises ``ApiError`` 400 or 404."""

    def write() -> Rejection | None:
        with deps.store.database.write() as connection:
            open_appeal(connection, deps.store.has_block, account, number, deps.clock.now())
            return rejection(connection, account, number)

    try:
        found = await trio.to_thread.run_sync(write)
    except LookupError:
        raise _nothing(number) from None
    except AppealError as error:
        raise ApiError(400, error.code, str(error)) from None
    assert found is not None
    return found


def share_number(request: Request) -> int:
    """The number of a lease in the path. Raises ``ApiError`` 404."""
    text = request.path_params["lease"]
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise _nothing(text[:40])
    return int(text)


def _nothing(number: object) -> ApiError:
    return ApiError(
        404,
        "rejection_not_found",
        f"no row of a share {number} of this account was found wrong: "
        "see GET /api/v1/accounts/me/rejections",
    )


def meaning_of(one: Rejection) -> Fault:
    """Whose fault it was, what it costs, and why, in words."""
    if one.excuse is not None and one.excuse.outcome != "guilty":
        return EXCUSED
    return of_share(one.state, one.fault, one.verdict, one.reason, refuted=bool(one.refuted))


def _rejection_json(one: Rejection) -> dict[str, Any]:
    meaning, excuse = meaning_of(one), one.excuse
    rejected = one.verdict == "rejected"
    appeal = one.appeal
    return {
        "lease": one.lease,
        "rig": one.rig,
        "model": one.model,
        "rows": one.rows,
        "issued": one.issued,
        "state": one.state,
        "ended": one.ended,
        "verdict": one.verdict,
        "judged": one.judged,
        "reason": one.reason if rejected else "wrong_row" if one.refuted else one.state,
        "fault": meaning.fault,
        "cost": meaning.cost,
        "words": meaning.words,
        "units_lost": one.lost,
        "units_fined": one.fined,
        "refuted": [
            {
                "row": row.share_row,
                "given": row.given.hex(),
                "expected": row.expected.hex(),
                "at": row.at,
            }
            for row in one.refuted
        ],
        "excuse": {
            "kind": excuse.kind,
            "since": excuse.since,
            "outcome": excuse.outcome,
            "decided": excuse.decided,
        }
        if excuse
        else None,
        "appeal": {
            "opened": appeal.opened,
            "outcome": appeal.outcome,
            "decided": appeal.decided,
            "units": appeal.units,
            "paid": appeal.paid,
        }
        if appeal
        else None,
    }


ROUTES = [
    Route("/api/v1/accounts/me/rejections", get_rejections, methods=["GET"]),
    Route("/api/v1/accounts/me/rejections/{lease}/bundle", get_bundle, methods=["GET"]),
    Route("/api/v1/accounts/me/rejections/{lease}/appeal", post_appeal, methods=["POST"]),
]
