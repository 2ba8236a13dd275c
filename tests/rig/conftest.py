"""What the rig's tests share: a file server that misbehaves when told, and a rig to start."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from scripted_pool import ADDRESS, ScriptedPool

from gpu_worker.config import RigConfig
from gpu_worker.engine import load_engine
from gpu_worker.rig import Connector, Rig


@dataclass
class FileServer:
    """Serves ``files`` {path: bytes} with Range; one ``mishap`` is used up by each request.

    A mishap is a status to answer with, ``cut:N`` (stop after N bytes of the body), ``norange``
    (send everything), ``shift`` (resume at a wrong offset) or ``flip`` (corrupt the last byte).
    """

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    mishaps: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)  # (path, Range)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            server.requests.append((self.path, asked))
            mishap = server.mishaps.pop(0) if server.mishaps else ""
            body = server.files.get(self.path)
            if body is None or mishap.isdigit():
                self.send_response(int(mishap or 404))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if mishap == "flip":
                body = body[:-1] + bytes([body[-1] ^ 1])
            match = re.fullmatch(r"bytes=(\d+)-", asked)
            start = int(match[1]) if match and mishap != "norange" else 0
            if start:
                self.send_response(206)
                told = start + 1 if mishap == "shift" else start
                self.send_header("Content-Range", f"bytes {told}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            stop = start + int(mishap[4:]) if mishap.startswith("cut:") else len(body)
            self.wfile.write(body[start:stop])
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    server = FileServer()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)) as listener:
        server.port = listener.server_port
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        listener.shutdown()
        thread.join()


class Steps:
    """Runs an engine's steps inline; each part takes ``seconds`` on the virtual clock."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.parts = 0

    async def __call__(self, function: Any, *arguments: Any) -> Any:
        if function is next:
            self.parts += 1
            await trio.sleep(self.seconds)
        else:
            await trio.lowlevel.checkpoint()
        return function(*arguments)


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
async def pool(nursery: trio.Nursery) -> ScriptedPool:
    return ScriptedPool(nursery)


@pytest.fixture
def start_rig(
    nursery: trio.Nursery, pool: ScriptedPool, steps: Steps, tmp_path: Path
) -> Callable[..., Rig]:
    """``start_rig(part_rows=4, …)`` runs a rig against ``pool`` (or a ``connector``)."""

    def start(
        *, engine_factory: Any = load_engine, connector: Connector | None = None, **options: Any
    ) -> Rig:
        options = {"pools": (ADDRESS,), "part_rows": 4, "cache": tmp_path, **options}
        rig = Rig(
            RigConfig(user="alice.rig1", token="secret", **options),
            engine_factory=engine_factory,
            connector=connector or pool.connector,
            offload=steps,
            random=Random(1),
        )
        nursery.start_soon(rig.run)
        return rig

    return start
