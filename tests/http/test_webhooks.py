"""Customers hear of their batches: signed, again until it is heard, and nowhere inside."""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpcore
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from customer_side import Served, client_of, embed_line, jsonl, make_batch, until_over, upload
from page_visitor import Visitor
from sqlalchemy import select, update

from pool import webhooks
from pool.store import schema
from pool.store.webhooks import PAUSES, Event, due_events, note_attempt
from pool.webhooks import PublicOnly, Webhooks


class Receiver:
    """A customer's server; each status is used up by one request, then 200."""

    def __init__(self) -> None:
        self.port = 0
        self.statuses: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            status = found.statuses.pop(0) if found.statuses else 200
            self.send_response(status)
            if status == 302:
                self.send_header("location", found.url)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def name_webhook(served: Served, url: str) -> int:
    """The latest batch wants to be told at ``url``; returns its job."""
    job = schema.job
    with served.store.database.write() as connection:
        number: int = connection.scalar(select(job.c.id).order_by(job.c.id.desc()).limit(1)) or 0
        connection.execute(update(job).where(job.c.id == number).values(webhook=url))
    return number


async def hear(served: Served, receiver: Receiver, count: int, *, anywhere: bool = True) -> None:
    """Send until ``count`` requests came (or, of none, a while)."""
    service = Webhooks(served.store, served.clock, anywhere=anywhere)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        with trio.move_on_after(20 if count else 1):
            while not count or len(receiver.got) < count:  # noqa: ASYNC110 - another thread's
                await trio.sleep(0.02)
            await trio.sleep(0.3)  # what comes of the last one is noted
        nursery.cancel_scope.cancel()


async def finished_batch(served: Served) -> str:
    async with client_of(served) as client:
        batch = await make_batch(client, jsonl([embed_line(0, "w4 w5"), embed_line(1, "w6")]))
        await until_over(client, batch)
        return str(batch)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "LOOK_SECONDS", 0.05)


async def test_the_end_of_a_batch_is_told_and_signed(served: Served, receiver: Receiver) -> None:
    """Once; anybody can verify it with the key that the pool publishes."""
    batch = await finished_batch(served)
    name_webhook(served, receiver.url)
    await hear(served, receiver, 1)
    await hear(served, receiver, 0)

    ((headers, body),) = receiver.got
    event = json.loads(body)
    assert (event["type"], event["object"], event["data"]) == (
        "batch.completed",
        "event",
        {"id": batch},
    )
    assert headers["webhook-id"] == event["id"]
    version, _, signature = headers["webhook-signature"].partition(",")
    assert version == "v1a"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = Ed25519PublicKey.from_public_bytes(served.store.signer.public_key)
    key.verify(b64decode(signature), signed)


@pytest.mark.parametrize("status", [500, 302, 404])
async def test_an_event_is_repeated_until_it_is_heard(
    served: Served, receiver: Receiver, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same event; where it is redirected to is not asked."""
    monkeypatch.setattr("pool.store.webhooks.PAUSES", (0.0, 0.0))
    receiver.statuses = [status, status]
    await finished_batch(served)
    name_webhook(served, receiver.url)
    await hear(served, receiver, 3)

    assert len(receiver.got) == 3
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1


async def test_an_event_that_nobody_hears_is_given_up(served: Served) -> None:
    """After the last pause."""
    await finished_batch(served)
    job = name_webhook(served, "http://127.0.0.1:1/")
    table = schema.webhook_event
    with served.store.database.write() as connection:
        connection.execute(
            table.insert().values(
                id="evt_1", job=job, type="batch.completed", created=0.0, body=b"{}", next_at=0.0
            )
        )
        at = 0.0
        for pause in (*PAUSES, None):
            (event,) = due_events(connection, at, 9, 9)
            note_attempt(connection, event, "status 500", at)
            if pause is not None:
                assert not due_events(connection, at + pause - 0.1, 9, 9)
                at += pause
        assert not due_events(connection, at + 10**9, 9, 9)
        row = connection.execute(select(table)).one()
    assert (row.attempts, row.delivered, row.problem) == (len(PAUSES) + 1, None, "status 500")


async def test_a_slow_receiver_is_waited_for_by_its_own_account_alone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many events it has: some of each account at once, and what ends makes room."""
    await finished_batch(served)
    slow = name_webhook(served, "https://slow.example/")
    await finished_batch(served)
    quick = name_webhook(served, "https://quick.example/")
    job, table = schema.job, schema.webhook_event
    with served.store.database.write() as connection:
        connection.execute(update(job).where(job.c.id == slow).values(account="slow"))
        for number, count in ((slow, 200), (quick, 20)):
            facts = {"job": number, "type": "batch.completed", "created": 0.0, "body": b"{}"}
            rows = [facts | {"id": f"evt_{number}_{n}", "next_at": 0.001 * n} for n in range(count)]
            connection.execute(table.insert(), rows)
    under_way = most = 0

    async def send(_self: Webhooks, _connections: object, event: Event) -> None:
        nonlocal under_way, most
        if event.account == "slow":
            under_way += 1
            most = max(most, under_way)
            await trio.sleep_forever()

    def left() -> int:
        with served.store.database.read() as connection:
            waiting = table.c.next_at.is_not(None) & (table.c.job == quick)
            return len(connection.execute(select(table.c.id).where(waiting)).all())

    monkeypatch.setattr(Webhooks, "_send", send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Webhooks(served.store, served.clock, anywhere=True).run)
        with trio.fail_after(20):
            while left():  # noqa: ASYNC110 - another thread's
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert 1 < most < 10


async def test_nothing_is_sent_inside(served: Served, receiver: Receiver) -> None:
    """By number, by name, or by a name that leads to such an address."""
    await finished_batch(served)
    name_webhook(served, receiver.url)
    await hear(served, receiver, 0, anywhere=False)

    assert receiver.got == []
    with served.store.database.read() as connection:
        problem = connection.scalar(select(schema.webhook_event.c.problem))
    assert problem is not None
    assert "127.0.0.1, which is not public" in problem
    for host in (
        "localhost",
        "10.1.2.3",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "0.0.0.0",
        "64:ff9b::a00:1",
        "2002:a00:1::1",
        "224.0.0.1",
    ):
        with pytest.raises(httpcore.ConnectError, match="not public"):
            await PublicOnly(anywhere=False).connect_tcp(host, 80)


async def test_webhooks_need_tls_unless_the_operator_says_otherwise(served: Served) -> None:
    """Refused when the batch is made, with the field."""
    async with client_of(served) as client:
        file = await upload(client, jsonl([embed_line(0, "w4")]))
        for url in (
            "http://example.org/",
            "ftp://example.org/",
            "nonsense",
            "https://u:p@a.org/",
            "https://example.org:99999/",
        ):
            body: dict[str, Any] = {
                "input_file_id": file,
                "endpoint": "/v1/embeddings",
                "completion_window": "24h",
                "metadata": {"webhook": url},
            }
            answer = await client.post("/v1/batches", json=body)
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == "metadata.webhook"
        for url in ("https://example.org/hook", "https://höst.example/hök?ä=1"):
            body["metadata"] = {"webhook": url}
            assert (await client.post("/v1/batches", json=body)).status_code == 200
    with served.store.database.read() as connection:
        kept = connection.scalars(select(schema.job.c.webhook)).all()
    assert kept == ["https://example.org/hook", "https://xn--hst-sna.example/h%C3%B6k?%C3%A4=1"]


async def test_an_address_that_cannot_be_asked_does_not_end_the_pool(served: Served) -> None:
    """However it came to be stored."""
    await finished_batch(served)
    for url in ("https://example.org/h\u00f6k", "gopher://example.org/", "https://[::1", "\x00"):
        name_webhook(served, url)
        service = Webhooks(served.store, served.clock, anywhere=True)
        async with httpcore.AsyncConnectionPool() as connections:
            problem = await service._send(connections, Event("evt_1", "carol", url, b"{}", 0))
        assert problem is not None


async def test_corrections_name_the_customers_lines_and_are_told(
    served: Served, receiver: Receiver
) -> None:
    """A delivered row that turned out wrong; not one whose rig won its appeal."""
    batch = await finished_batch(served)
    job = name_webhook(served, receiver.url)
    await hear(served, receiver, 1)
    with served.store.database.write() as connection:
        connection.execute(
            schema.refuted.insert(),
            [
                {"lease": 1, "job": job, "block": 0, "row": row, "given": b"g" * 16}
                | {"expected": b"e" * 16, "offence": False, "at": 5.0}
                for row in (1, 0)
            ],
        )
    await hear(served, receiver, 2)
    async with client_of(served) as client:
        path = f"/v1/batches/{batch}"
        shape = (await client.get(path)).json()
        listed = (await client.get(f"{path}/corrections")).json()["data"]

    async with Visitor(served) as visitor:
        await visitor.sign_in(served.key)
        page = (await visitor.get(f"/batches/{batch}")).text
    assert "2 delivered rows turned out wrong" in page
    assert "<td>line-0</td>" in page
    assert shape["inferpool"]["corrections"] == 2
    # Rows of a block stand by length, the customer's lines in their order.
    assert [(c["line"], c["index"], c["given"][:2], c["expected"][:2]) for c in listed] == [
        (1, 0, "67", "65"),
        (2, 0, "67", "65"),
    ]
    assert [c["custom_id"] for c in listed] == ["line-0", "line-1"]
    event = json.loads(receiver.got[1][1])
    assert (event["type"], event["data"]) == ("batch.corrected", {"id": batch, "corrections": 2})
    with served.store.database.write() as connection:
        connection.execute(
            schema.appeal.insert().values(
                lease=1, account="m", rig="r", opened=6.0, outcome="overturned"
            )
        )
    async with client_of(served) as client:
        assert (await client.get(f"{path}/corrections")).json()["data"] == []
