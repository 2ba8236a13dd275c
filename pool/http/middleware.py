"""Around every request: an id that the answer and the log share, and the last line of defence."""

from __future__ import annotations

import structlog
import trio
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pool.batches.naming import new_request_id
from pool.http.errors import error_response

_log = structlog.get_logger("pool.http")


class RequestIds:
    """Gives every answer its ``x-request-id``; turns unexpected exceptions into a 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = new_request_id()
        began = trio.current_time()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = name
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=name):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception:
                _log.exception("request failed", method=scope["method"], path=scope["path"])
                if status == 0:
                    text = f"the pool failed to serve this request ({name}): tell the operator"
                    response = error_response(500, "internal_error", text, again=True)
                    await response(scope, receive, send_with_id)
                else:
                    raise  # the answer has begun: the connection must break
            finally:
                _log.debug(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    seconds=round(trio.current_time() - began, 6),
                )
