"""``/api/v1/hardware``: which devices do this work best, and what a million tokens cost."""

from __future__ import annotations

from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.http.deps import deps_of
from pool.http.errors import JsonResponse
from pool.store.hardware import ranking, token_prices

_FRESH_SECONDS = 30.0


async def hardware_facts(request: Request) -> dict[str, Any]:
    """The ranking and prices, at most half a minute old."""
    deps, state = deps_of(request), request.app.state
    now = deps.clock.now()

    def read() -> dict[str, Any]:
        names = {model.digest: model.name for model in deps.models.list()}
        with deps.store.database.read() as connection:
            return {
                "object": "hardware",
                "data": ranking(connection, names),
                "tokens": token_prices(connection),
                "at": now,
            }

    kept: dict[str, Any] | None = getattr(state, "hardware", None)
    if kept is None or now - kept["at"] > _FRESH_SECONDS:
        kept = await trio.to_thread.run_sync(read)
        state.hardware = kept
    return kept


async def get_hardware(request: Request) -> Response:
    """Public facts."""
    return JsonResponse(await hardware_facts(request))


ROUTES = [Route("/api/v1/hardware", get_hardware, methods=["GET"])]
