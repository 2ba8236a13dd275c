"""The HTTP side as one application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from pool.batches.direct import DirectError
from pool.http import (
    batches,
    direct,
    epochs,
    files,
    hardware,
    health,
    models,
    notifications,
    pages,
    payouts,
    pool_api,
    quotes,
    receipts,
    rejections,
    statements,
)
from pool.http.deps import HttpDeps
from pool.http.draining import WholeRequests
from pool.http.errors import ApiError, on_api_error, on_http_exception
from pool.http.middleware import RequestIds
from pool.http.pages.frame import refusal


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """A page for a person who went astray, JSON for programs."""
    assert isinstance(error, HTTPException)
    api = request.url.path.startswith(("/v1/", "/v2/", "/api/"))
    if api or error.status_code != 404 or "text/html" not in request.headers.get("accept", ""):
        return await on_http_exception(request, error)
    return await refusal(request, 404, f"There is no page {request.url.path[:200]} here.")


def create_app(deps: HttpDeps) -> Starlette:
    """The ASGI application. It keeps nothing of its own; ``deps.runner`` must be running."""
    app = Starlette(
        routes=[
            *files.ROUTES,
            *batches.ROUTES,
            *quotes.ROUTES,
            *models.ROUTES,
            *direct.ROUTES,
            *health.ROUTES,
            *pool_api.ROUTES,
            *epochs.ROUTES,
            *hardware.ROUTES,
            *receipts.ROUTES,
            *payouts.ROUTES,
            *rejections.ROUTES,
            *statements.ROUTES,
            *notifications.ROUTES,
            *pages.ROUTES,
        ],
        middleware=[Middleware(WholeRequests), Middleware(RequestIds)],
        exception_handlers={
            ApiError: on_api_error,
            DirectError: on_api_error,
            HTTPException: _on_http_exception,
        },
    )
    app.state.deps = deps
    app.router.redirect_slashes = False
    return app
