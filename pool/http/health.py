"""Whether the pool lives, whether it is ready, and its metrics."""

from __future__ import annotations

from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.http.deps import deps_of
from pool.http.errors import JsonResponse


async def healthz(request: Request) -> Response:
    """The loop answers."""
    return JsonResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Both listeners accept, rigs or none."""
    if deps_of(request).ready():
        return JsonResponse({"status": "ready"})
    return JsonResponse({"status": "starting"}, status_code=503)


async def metrics(request: Request) -> Response:
    """For Prometheus; exemplars (a share's lease) come with OpenMetrics."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    body = encode(deps_of(request).registry)
    return Response(body, headers={"content-type": content_type})


ROUTES = [
    Route("/healthz", healthz, methods=["GET"]),
    Route("/readyz", readyz, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
]
