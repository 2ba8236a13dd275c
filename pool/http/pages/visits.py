"""Who looks at a page: the account that is signed in, and proof that a form is this site's own."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import structlog
import trio
from starlette.requests import Request
from starlette.responses import Response

from pool.accounts import Account
from pool.http.bodies import read_body
from pool.http.deps import HttpDeps, deps_of
from pool.http.errors import ApiError
from pool.http.facts import facts_of
from pool.store.pagesessions import SESSION_SECONDS, session_account

_MAX_FORM = 64 << 10
FORM_TOKEN = "form_token"  # noqa: S105 (the name of a field)


@dataclass(frozen=True, slots=True)
class Visit:
    """One look at a page. ``facts``: what the viewer may know of the pool as a whole."""

    request: Request
    deps: HttpDeps
    viewer: Account | None
    facts: dict[str, Any]
    now: float

    @property
    def form_token(self) -> str:
        """What forms on this page carry."""
        return form_token_of(kept_secret(self.request) or "")

    def param(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])


async def visit_of(request: Request) -> Visit:
    """Look who it is."""
    deps = deps_of(request)
    viewer = await viewer_of(request)
    return Visit(request, deps, viewer, await facts_of(request, viewer), deps.clock.now())


async def viewer_of(request: Request) -> Account | None:
    """The account that this browser is signed in with."""
    deps, secret = deps_of(request), request.cookies.get(_name(request, "session"))
    if not secret:
        return None

    def look_up() -> Account | None:
        with deps.store.database.read() as connection:
            return session_account(connection, secret, deps.clock.now())

    viewer = await trio.to_thread.run_sync(look_up)
    if viewer is not None:
        structlog.contextvars.bind_contextvars(account=viewer.name)
    return viewer


def need_role(visit: Visit, *roles: str) -> Account:
    """The viewer, signed in with one of these roles. Raises ``ApiError`` 401 or 403."""
    viewer = visit.viewer
    if viewer is None:
        raise ApiError(401, "not_signed_in", "sign in to see this page")
    if viewer.role not in roles:
        text = f"this page is for {' and '.join(f'{role}s' for role in roles)}"
        raise ApiError(403, "wrong_role", f"{text}; you are signed in as a {viewer.role}")
    return viewer


def kept_secret(request: Request) -> str | None:
    """What this browser keeps for us: a session's secret, or one for the forms of a stranger."""
    cookies = request.cookies
    return cookies.get(_name(request, "session")) or cookies.get(_name(request, "form"))


def form_token_of(secret: str) -> str:
    """What proves that a form came with a page of ours: it follows from what the browser keeps."""
    return hashlib.sha256(b"inferpool form\0" + secret.encode()).hexdigest()


def keep_form_secret(request: Request, response: Response) -> str:
    """Give a stranger's browser a secret of its own for our forms; returns the form token."""
    secret = secrets.token_urlsafe(32)
    _set(request, response, "form", secret, None)
    return form_token_of(secret)


def keep_session(request: Request, response: Response, secret: str) -> None:
    """Sign this browser in."""
    _set(request, response, "session", secret, int(SESSION_SECONDS))
    response.delete_cookie(_name(request, "form"), path="/", secure=_secure(request))


def forget_session(request: Request, response: Response) -> None:
    """Sign this browser out."""
    response.delete_cookie(
        _name(request, "session"), path="/", secure=_secure(request), samesite="strict"
    )


def session_secret(request: Request) -> str | None:
    """The session's secret, if this browser keeps one."""
    return request.cookies.get(_name(request, "session"))


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a small form of ours. Raises ``ApiError`` for one that is not."""
    check_origin(request)
    body = await read_body(request, _MAX_FORM)
    try:
        fields = dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=64))
    except ValueError:
        raise ApiError(
            400, "invalid_form", "the form cannot be read: load the page again"
        ) from None
    check_form_token(request, fields.pop(FORM_TOKEN, ""))
    return fields


def check_form_token(request: Request, token: str) -> None:
    """Raises ``ApiError`` 403 unless the form came with a page that this browser was given."""
    secret = kept_secret(request)
    if secret is None or not hmac.compare_digest(
        form_token_of(secret).encode(), token.encode("utf-8", "replace")
    ):
        raise _foreign()


def check_origin(request: Request) -> None:
    """Raises ``ApiError`` 403 when the browser says that another site's page sent this."""
    headers = request.headers
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise _foreign()
    origin = headers.get("origin")
    if origin is None:
        return
    ours = {headers.get("host", ""), urlsplit(deps_of(request).config.http.public_url).netloc}
    if urlsplit(origin).netloc not in ours - {""}:
        raise _foreign()


def _foreign() -> ApiError:
    text = "the form is not from a page of this site, or it is old: load the page again"
    return ApiError(403, "foreign_form", text)


def _set(request: Request, response: Response, what: str, value: str, age: int | None) -> None:
    response.set_cookie(
        _name(request, what),
        value,
        max_age=age,
        path="/",
        httponly=True,
        samesite="strict",
        secure=_secure(request),
    )


def _secure(request: Request) -> bool:
    """Whether the browser reaches us over TLS (which a proxy in front may end)."""
    public = deps_of(request).config.http.public_url
    return request.url.scheme == "https" or public.startswith("https://")


def _name(request: Request, what: str) -> str:
    # Under this prefix a browser takes no cookie from another host of the domain.
    return f"__Host-inferpool-{what}" if _secure(request) else f"inferpool-{what}"
