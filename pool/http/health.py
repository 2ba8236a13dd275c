"""Whether the pool lives, whether it is ready, and its metrics."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
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
    """For Prometheus."""
    return Response(generate_latest(deps_of(request).registry), media_type=CONTENT_TYPE_LATEST)


ROUTES = [
    Route("/healthz", healthz, methods=["GET"]),
    Route("/readyz", readyz, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
]
