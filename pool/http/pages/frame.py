"""A page: how it is loaded, drawn, kept up to date, and guarded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from pool.batches.direct import DirectError
from pool.http.errors import ApiError
from pool.http.pages.visits import FORM_TOKEN, Visit, keep_form_secret, kept_secret, visit_of
from pool.http.pages.words import FILTERS

Context = dict[str, Any]

# Nothing but this site's own files; no script or style inside a page; nobody may frame it.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}

_drawing = Environment(
    loader=PackageLoader("pool.http.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_drawing.filters.update(FILTERS)
_drawing.globals["FORM_TOKEN"] = FORM_TOKEN


@dataclass(frozen=True, slots=True)
class Page:
    """One page. ``load`` gives what ``template`` is drawn from.

    ``live``: parts of it that are drawn again as things change: ``rigs`` is the template
    ``live/rigs.html`` inside the element with the id ``rigs``, and they need no more than ``again``
    gives (None: ``load``). ``shared``: whoever is not signed in sees the same.
    """

    path: str
    template: str
    load: Callable[[Visit], Awaitable[Context]]
    live: tuple[str, ...] = ()
    shared: bool = False
    again: Callable[[Visit], Awaitable[Context]] | None = None

    async def get(self, request: Request) -> Response:
        """The page."""
        return await self.show(await visit_of(request))

    async def show(self, visit: Visit, status: int = 200, **more: str) -> Response:
        """The page, with ``more`` for its template (such as ``problem``: why a form failed)."""
        context = await self.load(visit)
        return await draw(visit, self.template, context | {"page": self} | more, status)

    async def parts(self, visit: Visit) -> dict[str, str]:
        """The live parts as HTML, by id."""
        load = self.again or self.load
        context = self._context(visit, await load(visit))

        def drawn() -> dict[str, str]:
            return {
                name: _drawing.get_template(f"live/{name}.html").render(context)
                for name in self.live
            }

        return await trio.to_thread.run_sync(drawn)

    def home(self, request: Request) -> str:
        """Where this page is, also while it is the answer to a form."""
        path = self.path.format(**request.path_params)
        query = request.url.query if request.method == "GET" else ""
        return f"{path}?{query}" if query else path

    def _context(self, visit: Visit, context: Context) -> Context:
        return {"visit": visit, "form_token": visit.form_token, "page": self} | context


async def draw(visit: Visit, template: str, context: Context, status: int = 200) -> Response:
    """A whole page as an answer."""
    response = HTMLResponse(status_code=status, headers=HEADERS)
    token = visit.form_token
    if kept_secret(visit.request) is None:
        token = keep_form_secret(visit.request, response)
    context = {"visit": visit, "form_token": token, "page": None, "problem": None} | context
    body = await trio.to_thread.run_sync(_drawing.get_template(template).render, context)
    response.body = body.encode()
    response.headers["content-length"] = str(len(response.body))
    return response


def see(path: str) -> Response:
    """After a form: look there."""
    return RedirectResponse(path, status_code=303, headers=HEADERS)


Handler = Callable[[Request], Awaitable[Response]]


def guarded(handler: Handler) -> Handler:
    """``handler``, with a page for what it refuses."""

    async def serve(request: Request) -> Response:
        try:
            return await handler(request)
        except (ApiError, DirectError) as error:
            return await refusal(request, error.status, str(error))

    return serve


async def refusal(request: Request, status: int, text: str) -> Response:
    """The page that says what went wrong and what to do."""
    visit = await visit_of(request)
    if status == 401 and request.method == "GET":
        return see(f"/signin?then={request.url.path}")
    return await draw(visit, "refusal.html", {"status": status, "text": text}, status)
