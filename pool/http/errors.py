"""Errors as the API tells them: always ``{"error": {message, type, param, code}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pool.batches.direct import DirectError

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "insufficient_quota",
}
# What the official client would try again although it is pointless.
_RETRIED = frozenset({408, 409, 429})


class ApiError(Exception):
    """Refuse the request. ``param`` names the field that is wrong."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, again: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.again = again


class JsonResponse(Response):
    """A JSON body."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode ``content``."""
        return msgspec.json.encode(content)


def error_response(
    status: int,
    code: str | None,
    message: str,
    *,
    param: str | None = None,
    again: bool = False,
    headers: Mapping[str, str] | None = None,
) -> JsonResponse:
    """An error in OpenAI's shape; without ``again`` the client is told not to try again."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    body = {"message": message, "type": kind, "param": param, "code": code}
    response = JsonResponse({"error": body}, status_code=status, headers=dict(headers or {}))
    if not again and (status in _RETRIED or status >= 500):
        response.headers["x-should-retry"] = "false"
    return response


async def on_api_error(request: Request, error: Exception) -> Response:
    """For ``ApiError`` and ``DirectError``."""
    assert isinstance(error, ApiError | DirectError)
    return error_response(
        error.status, error.code, str(error), param=error.param, again=error.again
    )


async def on_http_exception(request: Request, error: Exception) -> Response:
    """For what the router refuses."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path[:200]}"
    if error.status_code == 404:
        return error_response(404, "unknown_url", f"there is no {what}")
    if error.status_code == 405:
        text = f"{what} is not allowed: use {(error.headers or {}).get('Allow', 'another method')}"
        return error_response(405, "method_not_allowed", text, headers=error.headers)
    return error_response(error.status_code, None, str(error.detail), headers=error.headers)
