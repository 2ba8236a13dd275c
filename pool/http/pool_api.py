"""``/api/v1``: the pool's own: status, model files for rigs, balances."""

from __future__ import annotations

from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from pool.http.auth import any_account
from pool.http.deps import deps_of
from pool.http.errors import ApiError, JsonResponse
from pool.http.facts import facts_of
from pool.store.escrow import statement_of
from pool.store.ledger import Head, head


async def get_status(request: Request) -> Response:
    """Public facts: rigs, rates, jobs under way, models, batches by state."""
    deps = deps_of(request)
    return JsonResponse(await facts_of(request, None) | {"at": deps.clock.now()})


async def get_ledger(request: Request) -> Response:
    """The ledger's last entry: by its hash all before it are fixed, for whoever notes it."""
    deps = deps_of(request)

    def read() -> Head:
        with deps.store.database.read() as connection:
            return head(connection)

    last = await trio.to_thread.run_sync(read)
    return JsonResponse(
        {
            "object": "ledger",
            "entries": last.seq,
            "transactions": last.txn,
            "last": f"{last.seq}:{last.hash.hex()}",
            "at": last.at,
        }
    )


async def get_model_file(request: Request) -> Response:
    """A file that rigs need; ranges are served, so that a download can be taken up again."""
    models = deps_of(request).models
    digest = request.path_params["sha256"]
    file = models.file(digest)
    if file is None:
        raise ApiError(404, "file_not_found", f"no model has a file {digest[:80]!r}")
    return FileResponse(
        models.path(file),
        media_type="application/octet-stream",
        headers={"etag": f'"{digest}"', "cache-control": "public, max-age=31536000, immutable"},
    )


async def get_me(request: Request) -> Response:
    """What the account of this token has."""
    deps = deps_of(request)
    account = await any_account(request)

    def read() -> dict[str, Any]:
        with deps.store.database.read() as connection:
            found = statement_of(connection, account)
        return {
            "object": "account",
            "name": found.name,
            "role": found.role,
            "balance": found.balance,
            "reserved": found.reserved,
            "pending": found.pending,
            "held": found.held,
            "available": found.available,
        }

    return JsonResponse(await trio.to_thread.run_sync(read))


ROUTES = [
    Route("/api/v1/ledger", get_ledger, methods=["GET"]),
    Route("/api/v1/status", get_status, methods=["GET"]),
    Route("/api/v1/models/files/{sha256}", get_model_file, methods=["GET"]),
    Route("/api/v1/accounts/me", get_me, methods=["GET"]),
]
