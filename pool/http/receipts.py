"""``/api/v1/roots`` for everybody, and each account's papers: receipts, draws, credits."""

from __future__ import annotations

from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.http.auth import any_account
from pool.http.bodies import number_param, page_limit
from pool.http.deps import deps_of
from pool.http.errors import JsonResponse
from pool.store.credits import credits_after
from pool.store.parts import DrawnPart, parts_after
from pool.store.receipts import receipts_after, roots_after
from shares.receipts import Receipt, SignedRoot, receipt_json, root_json


async def get_roots(request: Request) -> Response:
    """Signed roots in their order, and the key that signs them."""
    store = deps_of(request).store
    after, limit = _after(request), page_limit(request, 1000, 10_000)

    def read() -> list[SignedRoot]:
        with store.database.read() as connection:
            return roots_after(connection, after, limit + 1)

    roots = await trio.to_thread.run_sync(read)
    return JsonResponse(
        {
            "object": "list",
            "public_key": store.signer.public_key.hex(),
            "data": [root_json(one) for one in roots[:limit]],
            "has_more": len(roots) > limit,
        }
    )


async def get_receipts(request: Request) -> Response:
    """The receipts of the token's account under its next roots."""
    store = deps_of(request).store
    account = await any_account(request)
    after, limit = _after(request), page_limit(request, 100, 1000)

    def read() -> tuple[list[Receipt], int | None]:
        with store.database.read() as connection:
            return receipts_after(connection, account.name, after, limit)

    receipts, following = await trio.to_thread.run_sync(read)
    return JsonResponse(
        {
            "object": "list",
            "public_key": store.signer.public_key.hex(),
            "data": [receipt_json(one) for one in receipts],
            "next_after": following,
        }
    )


def _after(request: Request) -> int:
    return number_param(request, "after", "the sequence number of a root")


async def get_parts(request: Request) -> Response:
    """What the token's account delivered under its next roots, and how it was sampled.

    Which rows were drawn is told once their epoch's key is published.
    """
    deps = deps_of(request)
    store, now = deps.store, deps.clock.now()
    account = await any_account(request)
    after, limit = _after(request), page_limit(request, 100, 1000)

    def read() -> tuple[list[DrawnPart], int | None]:
        with store.database.read() as connection:
            return parts_after(connection, account.name, after, limit, now)

    parts, following = await trio.to_thread.run_sync(read)
    return JsonResponse(
        {"object": "list", "data": [part_json(one) for one in parts], "next_after": following}
    )


async def get_credits(request: Request) -> Response:
    """What the parts of the token's account earned, and what became of it."""
    store = deps_of(request).store
    account = await any_account(request)
    after = number_param(request, "after", "the number of a credit")
    limit = page_limit(request, 1000, 10_000)

    def read() -> tuple[list[dict[str, Any]], int | None]:
        with store.database.read() as connection:
            return credits_after(connection, account.name, after, limit)

    found, following = await trio.to_thread.run_sync(read)
    return JsonResponse({"object": "list", "data": found, "next_after": following})


def part_json(part: DrawnPart) -> dict[str, Any]:
    """For ``shares.trust.audit``."""
    checks = [{"row": row, "by": by, "outcome": outcome} for row, by, outcome in part.checks]
    return {
        "lease": part.lease,
        "part": part.part,
        "rig": part.rig,
        "model": part.model,
        "first_row": part.first_row,
        "rows": part.rows,
        "at": part.at,
        "digest": part.digest.hex(),
        "epoch": part.epoch,
        "why": part.why,
        "held": part.held,
        "price": part.price,
        "row_work": part.row_work,
        "check_rate_ppm": part.check_rate_ppm,
        "referee_rate_ppm": part.referee_rate_ppm,
        "works": part.works,
        "suspect": part.suspect,
        "verdict": part.verdict,
        "reason": part.reason,
        "draw": {
            "won": part.won,
            "over": part.over,
            "least": part.least,
            "check_rows": part.check_rows,
            "referee_rows": part.referee_rows,
            "checks": checks,
        }
        if part.published
        else None,
    }


ROUTES = [
    Route("/api/v1/roots", get_roots, methods=["GET"]),
    Route("/api/v1/accounts/me/receipts", get_receipts, methods=["GET"]),
    Route("/api/v1/accounts/me/parts", get_parts, methods=["GET"]),
    Route("/api/v1/accounts/me/credits", get_credits, methods=["GET"]),
]
