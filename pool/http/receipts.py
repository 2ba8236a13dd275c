"""``/api/v1/roots`` for everybody, and each account's receipts."""

from __future__ import annotations

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.http.auth import any_account
from pool.http.bodies import invalid, page_limit
from pool.http.deps import deps_of
from pool.http.errors import JsonResponse
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
    text = request.query_params.get("after", "0")
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise invalid("after", "must be the sequence number of a root, or 0")
    return int(text)


ROUTES = [
    Route("/api/v1/roots", get_roots, methods=["GET"]),
    Route("/api/v1/accounts/me/receipts", get_receipts, methods=["GET"]),
]
