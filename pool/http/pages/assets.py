"""The pages' own files: style, scripts, icon."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from pool.http.pages.frame import HEADERS

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@cache
def _assets() -> dict[str, tuple[bytes, str, str]]:
    """{name: (bytes, media type, etag)}."""
    found = {}
    for file in files("pool.http.pages").joinpath("static").iterdir():
        body = file.read_bytes()
        suffix = file.name[file.name.rindex(".") :]
        if suffix in _TYPES:
            tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            found[file.name] = (body, _TYPES[suffix], tag)
    return found


async def get_asset(request: Request) -> Response:
    """A file; browsers ask again each time, and are told when it is the same."""
    asset = _assets().get(request.path_params["name"])
    if asset is None:
        raise HTTPException(404)
    body, media_type, tag = asset
    headers = HEADERS | {"etag": tag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


async def get_icon(request: Request) -> Response:
    """Where browsers look for it when no page names it."""
    return RedirectResponse("/static/icon.svg", status_code=301)


ROUTES = [
    Route("/static/{name}", get_asset, methods=["GET"]),
    Route("/favicon.ico", get_icon, methods=["GET"]),
]
