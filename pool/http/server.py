"""Serving the application over TCP, with hypercorn inside the pool's own nursery."""

from __future__ import annotations

import socket
from typing import Any

import hypercorn.trio
import structlog
import trio
from hypercorn.config import Config
from starlette.applications import Starlette

_BACKLOG = 1024
_GRACE_SECONDS = 5.0
_KEEP_ALIVE_SECONDS = 75.0


class HttpServer:
    """One listening socket. It is bound at once, so that ``port`` is known (0: any free one)."""

    def __init__(self, host: str, port: int) -> None:
        """Bind. Raises ``OSError`` when the address cannot be had."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.bind((host, port))
            self._socket.listen(_BACKLOG)
        except BaseException:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        self.stopping = trio.Event()

    def stop(self) -> None:
        """Accept no more; requests under way may finish within a few seconds."""
        self.stopping.set()

    def close(self) -> None:
        """Give the address back without having served."""
        self._socket.close()

    async def serve(
        self, app: Starlette, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until ``stop``. May be called once."""
        config = Config()
        # hypercorn takes the socket over, and closes it.
        config.bind = [f"fd://{self._socket.detach()}"]
        config.backlog = _BACKLOG
        config.graceful_timeout = _GRACE_SECONDS
        config.keep_alive_timeout = _KEEP_ALIVE_SECONDS
        config.include_server_header = False
        config.logger_class = _QuietLog  # type: ignore[assignment] # it has the same methods
        await hypercorn.trio.serve(
            app,  # type: ignore[arg-type] # an ASGI application by Starlette's own types
            config,
            shutdown_trigger=self.stopping.wait,
            task_status=task_status,
            mode="asgi",
        )


class _QuietLog:
    """What hypercorn says, as events of ours: problems as they are, the rest for debugging."""

    def __init__(self, config: Config) -> None:
        self._log = structlog.get_logger("pool.http")

    async def access(self, request: Any, response: Any, request_time: float) -> None:
        """Requests are logged by the application, with their ids."""

    async def critical(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.critical("http server", what=message % args if args else message)

    async def error(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.error("http server", what=message % args if args else message)

    async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.warning("http server", what=message % args if args else message)

    async def info(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.debug("http server", what=message % args if args else message)

    async def debug(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.debug("http server", what=message % args if args else message)

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.exception("http server", what=message % args if args else message)

    async def log(self, level: int, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.log(level, "http server", what=message % args if args else message)
