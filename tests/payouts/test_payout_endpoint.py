"""Payouts to an HTTP endpoint, against a real one that keeps books and misbehaves."""

from __future__ import annotations

import hmac
import json
import socket
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from far_side import TERMS, miner, payouts_in, units_of

from pool.payouts.carrier import NotTaken, Taken, Unknown
from pool.payouts.endpoint import Endpoint
from pool.payouts.rounds import pay_round
from pool.payouts.sending import look_up_due, send_due
from pool.store import Store

SECRET = b"sixteen bytes or more"

Answer = Callable[["Treasury", str, dict[str, Any] | None], tuple[int, bytes] | None]


@dataclass
class Treasury:
    """Books by key. ``answer`` says something else once; None breaks the line off."""

    url: str = ""
    books: dict[str, dict[str, Any]] = field(default_factory=dict)
    posts: int = 0
    forged: int = 0
    answer: Answer | None = None

    def check(self, headers: Any, body: bytes) -> None:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = b64encode(hmac.digest(SECRET, signed, "sha256")).decode()
        if headers["webhook-signature"] != f"v1,{expected}":
            self.forged += 1

    def take(self, key: str, order: dict[str, Any]) -> tuple[int, bytes]:
        self.books.setdefault(key, order)
        return 200, json.dumps({"id": key, "status": "submitted", "reference": "T1"}).encode()

    def tell(self, key: str) -> tuple[int, bytes]:
        if key not in self.books:
            return 404, json.dumps({"id": key, "status": "unknown"}).encode()
        return 200, json.dumps({"id": key, "status": "finalised", "reference": "T1"}).encode()


@pytest.fixture
def treasury() -> Iterator[Treasury]:
    far = Treasury()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def respond(self, key: str, order: dict[str, Any] | None) -> None:
            once, far.answer = far.answer, None
            said: tuple[int, bytes] | None
            if once is not None:
                said = once(far, key, order)
            else:
                said = far.tell(key) if order is None else far.take(key, order)
            if said is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(said[0])
            self.send_header("content-length", str(len(said[1])))
            self.end_headers()
            self.wfile.write(said[1])

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            far.check(self.headers, body)
            far.posts += 1
            assert self.headers["idempotency-key"] == self.headers["webhook-id"]
            self.respond(self.headers["idempotency-key"], json.loads(body))

        def do_GET(self) -> None:
            far.check(self.headers, b"")
            self.respond(self.path.rpartition("/")[2], None)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    far.url = f"http://127.0.0.1:{server.server_port}/pay"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield far
    server.shutdown()
    thread.join()
    server.server_close()


def run(store: Store, treasury: Treasury, hours: int = 3) -> None:
    carrier = Endpoint(treasury.url, SECRET, 1_000)
    for hour in range(hours):
        at = 10.0 + 3_600 * hour
        look_up_due(store.database, carrier, at)
        send_due(store.database, carrier, at)


def test_a_payout_is_signed_taken_and_followed_to_its_end(store: Store, treasury: Treasury) -> None:
    miner(store, "alice", 1_000)
    pay_round(store.database, TERMS, 10.0)
    run(store, treasury)
    (payout,) = payouts_in(store)

    assert treasury.books == {
        payout.key: {
            "id": payout.key,
            "account": "alice",
            "kind": "text",
            "address": "IBAN 1",
            "amount": "1000000",
        }
    }
    assert (treasury.posts, treasury.forged) == (1, 0)
    assert (payout.state, payout.reference) == ("finalised", "T1")
    assert units_of(store) == {"external": -1_000, "paid:alice": 1_000}


def _takes_and_breaks_off(far: Treasury, key: str, order: dict[str, Any] | None) -> None:
    assert order is not None
    far.take(key, order)


def _takes_and_says_it_failed(
    far: Treasury, key: str, order: dict[str, Any] | None
) -> tuple[int, bytes]:
    assert order is not None
    far.take(key, order)
    return 500, b"internal server error"


@pytest.mark.parametrize("answer", [_takes_and_breaks_off, _takes_and_says_it_failed])
def test_one_that_pays_and_says_it_failed_is_not_asked_to_pay_again(
    store: Store, treasury: Treasury, answer: Answer
) -> None:
    miner(store, "alice", 1_000)
    pay_round(store.database, TERMS, 10.0)
    treasury.answer = answer
    run(store, treasury)

    assert treasury.posts == 1
    assert [payout.state for payout in payouts_in(store)] == ["finalised"]


def test_one_that_never_heard_of_a_payout_gets_it_again(store: Store, treasury: Treasury) -> None:
    miner(store, "alice", 1_000)
    pay_round(store.database, TERMS, 10.0)
    treasury.answer = lambda *_: None
    run(store, treasury, hours=4)

    assert treasury.posts == 2
    assert len(treasury.books) == 1
    assert [payout.state for payout in payouts_in(store)] == ["finalised"]


def test_a_foreign_404_is_no_evidence(store: Store, treasury: Treasury) -> None:
    """A proxy's page, another payout's answer, a word that there is not: nothing is sent again."""
    miner(store, "alice", 1_000)
    pay_round(store.database, TERMS, 10.0)
    treasury.answer = lambda *_: None
    carrier = Endpoint(treasury.url, SECRET, 1)
    send_due(store.database, carrier, 10.0)
    (payout,) = payouts_in(store)
    for body in (
        b"<html>not found</html>",
        b"[]",
        json.dumps({"id": "payout_other", "status": "unknown"}).encode(),
        json.dumps({"id": payout.key, "status": "gone"}).encode(),
        json.dumps({"id": payout.key, "status": "busy"}).encode(),
        b'{"id": "' + b"x" * 70_000,
    ):
        treasury.answer = lambda *_, body=body: (404, body)
        assert isinstance(carrier.look_up(payout), Unknown)
    assert isinstance(carrier.look_up(payout), NotTaken)
    assert treasury.posts == 1


def test_without_a_connection_nothing_was_taken(store: Store) -> None:
    """Certain when it was to be handed over, and no evidence when it is looked up."""
    miner(store, "alice", 1_000)
    pay_round(store.database, TERMS, 10.0)
    (payout,) = payouts_in(store)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        carrier = Endpoint(f"http://127.0.0.1:{free.getsockname()[1]}", SECRET, 1)
        (answer,) = carrier.submit([payout])
        assert answer == NotTaken(answer.reason, again=True)  # type: ignore[union-attr]
        assert isinstance(carrier.look_up(payout), Unknown)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("finalised", Taken("r", final=True)),
        ("refused", NotTaken("because", again=False)),
        ("busy", NotTaken("because", again=True)),
    ],
)
def test_the_far_sides_words(
    store: Store, treasury: Treasury, status: str, expected: Taken | NotTaken
) -> None:
    miner(store, "alice", 1_000)
    pay_round(store.database, TERMS, 10.0)
    (payout,) = payouts_in(store)
    said = {"id": payout.key, "status": status, "reference": "r", "reason": "because"}
    treasury.answer = lambda *_: (200, json.dumps(said).encode())
    assert Endpoint(treasury.url, SECRET, 1).submit([payout]) == [expected]
