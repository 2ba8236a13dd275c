"""``/api/v1/epochs``: sampling keys as the public may see them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
import trio
from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.http.bodies import number_param, page_limit
from pool.http.deps import deps_of
from pool.http.errors import JsonResponse
from pool.store import schema
from pool.store.parts import last_published
from shares.trust.epochkeys import commitment


async def get_epochs(request: Request) -> Response:
    """Sampling keys, newest first: their hashes beforehand, the keys once nothing depends on them.

    ``?before=`` an epoch's number goes on with those before it.
    """
    deps = deps_of(request)
    limit = page_limit(request, 24, 1000)
    before = number_param(request, "before", "the number of an epoch")

    def read() -> list[dict[str, Any]]:
        with deps.store.database.read() as connection:
            return epochs_json(connection, before, limit + 1, deps.clock.now())

    found = await trio.to_thread.run_sync(read)
    return JsonResponse({"object": "list", "data": found[:limit], "has_more": len(found) > limit})


def epochs_json(
    connection: sa.Connection, before: int, limit: int, now: float
) -> list[dict[str, Any]]:
    """The latest epochs before number ``before`` (0: of all), for ``shares.trust.audit``."""
    epoch, chain = schema.epoch, schema.chain
    published = last_published(connection, now)
    wanted = select(epoch, chain.c.anchor).join(chain, chain.c.id == epoch.c.chain)
    if before:
        wanted = wanted.where(epoch.c.id < before)
    return [
        {
            "epoch": row.id,
            "key_hash": commitment(row.key).hex(),
            "opens": row.opens,
            "closes": row.closes,
            "key": row.key.hex() if row.id <= published else None,
            "chain": row.chain,
            "place": row.place,
            "anchor": row.anchor.hex(),
            "policy": row.policy,
            "kappa": row.kappa,
            "check_floor_ppm": row.check_floor_ppm,
            "referee_floor_ppm": row.referee_floor_ppm,
            "neighbour_floor_ppm": row.neighbour_floor_ppm,
        }
        for row in connection.execute(wanted.order_by(epoch.c.id.desc()).limit(limit))
    ]


ROUTES = [Route("/api/v1/epochs", get_epochs, methods=["GET"])]
