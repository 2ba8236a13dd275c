"""A small scripted pool over real HTTP, for commands that talk to one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

KEY = "ip_customer"


class ScriptedPool:
    """Answers as told, and remembers what it was asked.

    ``batches``: the answers to ``GET /v1/batches/…`` in turn, the last of them for ever; None
    drops the connection without an answer.
    """

    def __init__(self) -> None:
        self.batches: list[dict | None] = []
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, dict] = {}
        self.uploads: list[bytes] = []
        self.created: list[dict] = []
        self.quote: dict = {}
        self.quoted: list[dict] = []
        self.deleted: list[str] = []
        self.asked = 0
        self.on_batch = lambda: None
        pool = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def answer(self, status: int, body: dict | bytes) -> None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def refused(self) -> bool:
                if self.headers["authorization"] == f"Bearer {KEY}":
                    return False
                error = {"message": "unknown key", "code": "invalid_api_key"}
                self.answer(401, {"error": error})
                return True

            def body(self) -> bytes:
                if self.headers["transfer-encoding"] != "chunked":
                    return self.rfile.read(int(self.headers["content-length"]))
                pieces = []
                while size := int(self.rfile.readline(), 16):
                    pieces.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(pieces)

            def do_POST(self) -> None:
                body = self.body()
                if self.refused():
                    return
                if self.path == "/v1/files":
                    pool.uploads.append(body)
                    self.answer(200, {"id": "file-1"})
                elif self.path == "/api/v1/quotes":
                    pool.quoted.append(json.loads(body))
                    self.answer(200, pool.quote)
                else:
                    pool.created.append(json.loads(body))
                    self.answer(200, {"id": "batch_1", "status": "validating"})

            def do_DELETE(self) -> None:
                if not self.refused():
                    pool.deleted.append(self.path.removeprefix("/v1/files/"))
                    self.answer(200, {"deleted": True})

            def do_GET(self) -> None:
                if self.path in pool.answers:
                    self.answer(200, pool.answers[self.path])
                    return
                if self.refused():
                    return
                if self.path.startswith("/v1/batches/"):
                    pool.on_batch()
                    found = pool.batches[min(pool.asked, len(pool.batches) - 1)]
                    pool.asked += 1
                    if found is None:
                        self.close_connection = True
                        return
                    self.answer(200, found)
                    return
                name = self.path.split("/")[3]
                if name in pool.files:
                    self.answer(200, pool.files[name])
                else:
                    self.answer(404, {"error": {"message": "no such file", "code": None}})

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def scripted_pool() -> Iterator[ScriptedPool]:
    pool = ScriptedPool()
    yield pool
    pool.close()


@pytest.fixture
def key_file(tmp_path):
    file = tmp_path / "customer.key"
    file.write_text(KEY + "\n")
    return file
