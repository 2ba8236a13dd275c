"""Reading what a request carries: bounded bodies, JSON, page parameters."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request

from pool.http.errors import ApiError

_SMALL = 256 << 10


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises ``ApiError`` 413 as soon as it is longer than ``limit``."""
    body = bytearray()
    try:
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > limit:
                    text = f"the body is longer than {limit} bytes"
                    raise ApiError(413, "request_too_large", text)
    except ClientDisconnect:
        raise ApiError(400, "disconnected", "the body ended early") from None
    return bytes(body)


async def read_object(request: Request, allowed: frozenset[str]) -> dict[str, Any]:
    """A small JSON object with no other names than ``allowed``. Raises ``ApiError`` 400."""
    try:
        value = msgspec.json.decode(await read_body(request, _SMALL))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, "invalid_json", f"the body must be JSON: {error}") from None
    if not isinstance(value, dict):
        raise ApiError(400, "invalid_json", "the body must be a JSON object")
    for name in value:
        if name not in allowed:
            text = f"unknown parameter {name[:80]!r}: leave it out"
            raise ApiError(400, "unknown_parameter", text, param=name[:80])
    return value


def page_limit(request: Request, default: int, largest: int) -> int:
    """The query parameter ``limit``. Raises ``ApiError`` 400."""
    text = request.query_params.get("limit")
    if text is None:
        return default
    # Digits only, and few enough that reading them costs nothing.
    readable = text.isascii() and text.isdecimal() and len(text) <= 9
    if not readable or not 1 <= int(text) <= largest:
        raise invalid("limit", f"must be a whole number from 1 to {largest}")
    return int(text)


def number_param(request: Request, name: str, what: str) -> int:
    """A whole number among the query parameters, 0 where there is none. Raises ``ApiError`` 400."""
    text = request.query_params.get(name, "0")
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise invalid(name, f"must be {what}, or 0")
    return int(text)


def expiry_seconds(anchor: object, seconds: object, name: str) -> int:
    """Seconds of an ``expires_after`` object. Raises ``ApiError`` 400."""
    if anchor != "created_at":
        raise invalid(f"{name}[anchor]", 'must be "created_at"')
    if type(seconds) is not int or not 3600 <= seconds <= 2_592_000:
        raise invalid(f"{name}[seconds]", "must be a whole number from 3600 to 2592000")
    return seconds


def invalid(param: str, problem: str) -> ApiError:
    """A parameter has a value that cannot be used."""
    return ApiError(400, "invalid_value", f"{param}: {problem}", param=param)


def page(data: list[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """A list in OpenAI's shape."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": more,
    }
