"""What the rig's tests share: a file server that can be told to misbehave."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


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
