"""Pages that keep up: server-sent events that carry each live part of a page when it changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pool.http.errors import ApiError
from pool.http.pages.frame import HEADERS, Handler, Page
from pool.http.pages.visits import Visit, visit_of

EVERY_SECONDS = 2.0
_SILENCE_SECONDS = 20.0  # a comment keeps proxies from closing a silent stream
MOST = 512
MOST_OF_STRANGERS = 256
MOST_OF_ACCOUNT = 16


@dataclass(slots=True)
class _Streams:
    """Those that are open, by account, and what strangers' streams share."""

    open: dict[str | None, int] = field(default_factory=dict)
    shared: dict[str, tuple[float, dict[str, str]]] = field(default_factory=dict)
    drawing: trio.Lock = field(default_factory=trio.Lock)

    def full(self, account: str | None) -> bool:
        """Whether there is no room for one more."""
        most = MOST_OF_STRANGERS if account is None else MOST_OF_ACCOUNT
        return sum(self.open.values()) >= MOST or self.open.get(account, 0) >= most

    @contextmanager
    def counted(self, account: str | None) -> Iterator[None]:
        """Count one while it is open."""
        self.open[account] = self.open.get(account, 0) + 1
        try:
            yield
        finally:
            self.open[account] -= 1
            if not self.open[account]:
                del self.open[account]


def live_handler(page: Page) -> Handler:
    """Serves the stream of ``page``."""

    async def serve(request: Request) -> Response:
        streams, visit = _streams_of(request), await visit_of(request)
        if streams.full(None if visit.viewer is None else visit.viewer.name):
            text = "too many pages are open: this one does not update itself"
            raise ApiError(503, "too_many_streams", text)
        return _Stream(streams, page, visit, await _parts(streams, page, visit))

    return serve


class _Stream(Response):
    """Sends until the reader is gone or signed out, or the pool stops."""

    media_type = "text/event-stream"

    def __init__(self, streams: _Streams, page: Page, visit: Visit, parts: dict[str, str]) -> None:
        super().__init__(headers=HEADERS | {"x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._streams, self._page, self._visit, self._parts = streams, page, visit, parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""
        viewer = self._visit.viewer
        with self._streams.counted(None if viewer is None else viewer.name):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                await self._send_changes(send)
                await send({"type": "http.response.body", "body": b""})
                nursery.cancel_scope.cancel()

    async def _send_changes(self, send: Send) -> None:
        visit, parts, ending = self._visit, self._parts, self._visit.deps.ending
        sent: dict[str, str] = {}
        silent = 0.0
        while not ending.is_set():
            news = {name: html for name, html in parts.items() if sent.get(name) != html}
            sent |= news
            silent = 0.0 if news else silent + EVERY_SECONDS
            message = b"".join(
                _message("part", {"id": name, "html": html}) for name, html in news.items()
            )
            if silent >= _SILENCE_SECONDS:
                silent, message = 0.0, b": still here\n\n"
            if message:
                await send({"type": "http.response.body", "body": message, "more_body": True})
            with trio.move_on_after(EVERY_SECONDS):
                await ending.wait()
            again = await visit_of(visit.request)
            if again.viewer != visit.viewer:
                body = _message("gone", {})
                await send({"type": "http.response.body", "body": body, "more_body": True})
                return
            visit, parts = again, await _parts(self._streams, self._page, again)


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _parts(streams: _Streams, page: Page, visit: Visit) -> dict[str, str]:
    if not page.shared or visit.viewer is not None:
        return await page.parts(visit)
    key = visit.request.url.path
    async with streams.drawing:  # one draws for all
        at, parts = streams.shared.get(key, (-1e9, {}))
        if not 0 <= visit.now - at < EVERY_SECONDS / 2:
            parts = await page.parts(visit)
            streams.shared[key] = (visit.now, parts)
        return parts


def _message(event: str, data: dict[str, str]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event.encode(), msgspec.json.encode(data))


def _streams_of(request: Request) -> _Streams:
    state = request.app.state
    if not hasattr(state, "streams"):
        state.streams = _Streams()
    return cast(_Streams, state.streams)
