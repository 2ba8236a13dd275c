"""``/v1/embeddings``, ``/v1/rerank`` and the like: one request, answered at once."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.batches.endpoints import OPERATIONS
from pool.http.auth import customer
from pool.http.bodies import read_body
from pool.http.deps import deps_of


async def serve_direct(request: Request) -> Response:
    """Compute the request's rows and answer."""
    deps = deps_of(request)
    account = await customer(request)
    body = await read_body(request, deps.config.batches.max_line_bytes)
    answer = await deps.runner.direct(account.name, request.url.path, body)
    response = Response(answer.body, answer.status, media_type="application/json")
    if answer.status >= 500:  # the input's fault, and the same on every try
        response.headers["x-should-retry"] = "false"
    return response


ROUTES = [Route(path, serve_direct, methods=["POST"]) for path in OPERATIONS]
