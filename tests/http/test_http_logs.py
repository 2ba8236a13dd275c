"""What the log tells of customers' requests and batches: ids, and nothing of what they say."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import trio
from customer_side import Served, client_of, embed_line, jsonl, make_batch, until_over, upload
from sqlalchemy import update

from pool.store import schema
from pool.webhooks import Webhooks
from stratum.logs import configure

TEXT = "recognisable"


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    configure("debug", stream, terminal=False)
    return stream


def lines(stream: io.StringIO, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in found if line["event"] == event]


async def until_told(stream: io.StringIO, path: str) -> dict[str, Any]:
    """The line of a request, which is written when its answer is on its way."""
    with trio.fail_after(30):
        while True:
            for line in lines(stream, "request"):
                if line["path"] == path:
                    return line
            await trio.sleep(0.01)


async def test_a_batch_is_followed_from_its_request_to_its_end(
    stream: io.StringIO, served: Served
) -> None:
    async with client_of(served) as client:
        file = await upload(client, jsonl([embed_line(1, TEXT)]))
        created = await client.post(
            "/v1/batches",
            json={
                "input_file_id": file,
                "endpoint": "/v1/embeddings",
                "completion_window": "24h",
                "metadata": {"note": TEXT},
            },
        )
        batch = created.json()["id"]
        await until_over(client, batch)

    (told,) = lines(stream, "batch created")
    assert told["request_id"] == created.headers["x-request-id"]
    assert (told["batch"], told["account"]) == (batch, "rich")
    ids = {name: told[name] for name in ("batch", "job", "account")}
    for event in ("batch read", "batch over"):
        (line,) = lines(stream, event)
        assert {**line, **ids} == line
        assert "request_id" not in line
    looked = await until_told(stream, path=f"/v1/batches/{batch}")
    uploaded = await until_told(stream, path="/v1/files")
    assert {**looked, **ids} == looked
    assert uploaded["account"] == "rich"
    assert not {"batch", "job"} & set(uploaded)
    assert TEXT not in stream.getvalue()


async def test_a_batch_that_is_refused_is_told_with_the_codes_alone(
    stream: io.StringIO, served: Served
) -> None:
    """What an error says quotes the line that is wrong."""
    async with client_of(served) as client:
        batch = await make_batch(client, b'{"' + TEXT.encode() + b"\n")
        found = await until_over(client, batch)

    assert found["status"] == "failed"
    (line,) = lines(stream, "batch read")
    assert (line["batch"], line["state"]) == (batch, "failed")
    assert line["errors"] == [error["code"] for error in found["errors"]["data"]]
    assert TEXT not in stream.getvalue()


async def test_the_ids_of_one_request_are_not_those_of_the_next(
    stream: io.StringIO, served: Served
) -> None:
    """On one connection."""
    async with client_of(served) as client:
        await client.get("/v1/files")
        await client.get("/readyz", headers={"authorization": ""})

    one = await until_told(stream, path="/v1/files")
    other = await until_told(stream, path="/readyz")
    assert one["account"] == "rich"
    assert "account" not in other
    assert one["request_id"] != other["request_id"]


async def test_an_exception_in_a_handler_tells_where_and_not_what(
    stream: io.StringIO, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise ValueError(f"cannot read {TEXT} of carol@example.org")

    monkeypatch.setattr("pool.http.files.list_files", failing)
    async with client_of(served) as client:
        answer = await client.get("/v1/files")

    assert answer.status_code == 500
    (line,) = lines(stream, "request failed")
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["raised"].startswith("ValueError at ")
    assert "pool/http/files.py" in line["raised"]
    assert TEXT not in stream.getvalue()


async def test_a_batch_that_breaks_its_reading_is_told_without_its_text(
    stream: io.StringIO, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(job: object) -> None:
        raise RuntimeError(TEXT)

    monkeypatch.setattr("pool.batches.runner.take_in", failing)
    async with client_of(served) as client:
        batch = await make_batch(client, jsonl([embed_line(1, TEXT)]))
        with trio.fail_after(30):
            await until_over(client, batch)

    (line,) = lines(stream, "intake failed")
    assert line["batch"] == batch
    assert line["raised"].startswith("RuntimeError at ")
    assert TEXT not in stream.getvalue()


async def test_what_a_webhooks_receiver_says_is_not_told(
    stream: io.StringIO, served: Served, nursery: trio.Nursery
) -> None:
    """It may say again what it was sent."""

    async def echo(connection: trio.SocketStream) -> None:
        await connection.receive_some()
        await connection.send_all(TEXT.encode() + b"\r\n\r\n")
        await connection.aclose()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    nursery.start_soon(trio.serve_listeners, echo, [listener])
    async with client_of(served) as client:
        await until_over(client, await make_batch(client, jsonl([embed_line(1, TEXT)])))
    with served.store.database.write() as connection:
        connection.execute(update(schema.job).values(webhook=f"http://127.0.0.1:{port}/{TEXT}"))
    nursery.start_soon(Webhooks(served.store, served.clock, anywhere=True).run)
    with trio.fail_after(30):
        while not lines(stream, "a webhook was not delivered"):  # noqa: ASYNC110 - it is a log
            await trio.sleep(0.01)
    nursery.cancel_scope.cancel()

    line = lines(stream, "a webhook was not delivered")[0]
    assert (line["account"], line["reason"]) == ("rich", "RemoteProtocolError")
    assert TEXT not in stream.getvalue()
