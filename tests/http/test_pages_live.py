"""Pages that keep up: what is sent when, and when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from customer_side import Served
from page_visitor import Visitor

from pool.http.pages import live


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY_SECONDS", 0.05)


class Stream:
    """Events as they come, over a connection of its own (lines of chunked coding are skipped)."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._bytes = b""
        self.status = 0

    async def line(self) -> str:
        """The next line. Raises ``EOFError`` behind the last."""
        while b"\n" not in self._bytes:
            with trio.fail_after(10):
                more = await self._stream.receive_some()
            if not more:
                raise EOFError
            self._bytes += more
        line, self._bytes = self._bytes.split(b"\n", 1)
        return line.rstrip(b"\r").decode()

    async def event(self) -> tuple[str, dict]:
        """The next one: (its kind, what it carries)."""
        kind = ""
        while True:
            line = await self.line()
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                return kind, msgspec.json.decode(line.removeprefix("data: "))
            elif line == "0":
                raise EOFError

    async def part(self, name: str) -> str:
        while True:
            kind, data = await self.event()
            if kind == "part" and data["id"] == name:
                return data["html"]


@asynccontextmanager
async def stream_of(visitor: Visitor, path: str) -> AsyncIterator[Stream]:
    url = visitor.client.base_url
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.client.cookies.items())
    async with await trio.open_tcp_stream(url.host, url.port or 80) as connection:
        head = f"GET /live{path} HTTP/1.1\r\nHost: {url.host}\r\nCookie: {cookies}\r\n\r\n"
        await connection.send_all(head.encode())
        stream = Stream(connection)
        stream.status = int((await stream.line()).split()[1])
        yield stream


async def test_a_part_is_sent_when_it_changes_and_only_then(served: Served) -> None:
    async with Visitor(served) as visitor, stream_of(visitor, "/") as stream:
        first = {}
        for _ in range(4):
            kind, data = await stream.event()
            assert kind == "part"
            first[data["id"]] = data["html"]
        assert set(first) == {"totals", "rigs", "jobs", "sealed"}
        served.facts["rigs"][0]["accepted_rows"] = 987_654
        kind, data = await stream.event()
        assert (kind, data["id"]) == ("part", "rigs")
        assert "987,654" in data["html"]
        page = (await visitor.get("/")).text
    for name, html in first.items():
        if name != "rigs":
            assert html.strip() in page, name


async def test_the_stream_ends_when_its_viewer_signs_out(served: Served) -> None:
    async with Visitor(served) as visitor:
        await visitor.sign_in(served.key)
        async with stream_of(visitor, "/account") as stream:
            assert "units free to spend" in await stream.part("balance")
            await visitor.send("/account", "/signout")
            while (await stream.event())[0] != "gone":
                pass
            with pytest.raises(EOFError):
                await stream.event()
        assert (await visitor.get("/live/account")).status_code == 303


async def test_an_account_has_so_many_streams_and_gets_them_back(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_OF_ACCOUNT", 2)
    async with Visitor(served) as visitor:
        await visitor.sign_in(served.key)
        async with stream_of(visitor, "/account") as one, stream_of(visitor, "/account") as other:
            await one.event()
            await other.event()
            assert (await visitor.get("/live/account")).status_code == 503
            assert (await visitor.get("/account")).status_code == 200
        with trio.fail_after(10):
            status = 503
            while status == 503:
                async with stream_of(visitor, "/account") as again:
                    status = again.status
    assert status == 200


async def test_strangers_leave_room_for_who_is_signed_in(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_OF_STRANGERS", 1)
    async with Visitor(served) as visitor, stream_of(visitor, "/") as stranger:
        await stranger.event()
        async with stream_of(visitor, "/") as other:
            assert other.status == 503
        assert (await visitor.get("/")).status_code == 200
        await visitor.sign_in(served.key)
        async with stream_of(visitor, "/") as own:
            assert own.status == 200


async def test_an_open_stream_does_not_keep_the_pool_from_stopping(served: Served) -> None:
    async with Visitor(served) as visitor, stream_of(visitor, "/") as stream:
        await stream.event()
        served.stop()
        with trio.fail_after(3), pytest.raises(EOFError):
            await stream.part("nothing")
