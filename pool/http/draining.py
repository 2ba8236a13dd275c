"""Requests that are answered before they are read: their rest is read and thrown away.

A client that is still sending does not listen, and the server would wait for an application that
reads no more. So the rest is read first, for a while; after that the connection is closed.
"""

from __future__ import annotations

import trio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PATIENCE_SECONDS = 10.0


class WholeRequests:
    """See the module."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        whole = trio.Event()

        async def watched_receive() -> Message:
            message = await receive()
            if not message.get("more_body", False):
                whole.set()
            return message

        async def drain() -> None:
            while not whole.is_set():
                await watched_receive()

        async with trio.open_nursery() as nursery:

            async def patient_send(message: Message) -> None:
                if message["type"] == "http.response.start" and not whole.is_set():
                    # It goes on beside the answer: a full queue of what was read would stop both.
                    nursery.start_soon(drain)
                    with trio.move_on_after(_PATIENCE_SECONDS):
                        await whole.wait()
                    if not whole.is_set():
                        MutableHeaders(scope=message)["connection"] = "close"
                await send(message)

            await self._app(scope, watched_receive, patient_send)
            nursery.cancel_scope.cancel()


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
