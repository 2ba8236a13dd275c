"""What the official client never sends: odd forms, odd parameters, other routes."""

from __future__ import annotations

import contextlib
from hashlib import sha256

import httpx
import pytest
import trio
from customer_side import (
    CONFIG,
    Served,
    client_of,
    embed_line,
    jsonl,
    make_batch,
    until_over,
    upload,
)
from sqlalchemy.dialects import sqlite

from pool.http import draining
from pool.store.ledgeraudit import check_ledger
from pool.store.parts import UNDECIDED
from pool.store.rejections import faulty_leases
from stratum.manifest import manifest_digest


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error, which must be in the one shape that errors have."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
    return answer.status_code, error["code"]


async def test_no_or_wrong_keys_are_401_on_every_route_of_customers(served: Served) -> None:
    """And the health routes need none."""
    async with httpx.AsyncClient(base_url=served.url) as client:
        for method, path in (
            ("GET", "/v1/files"),
            ("POST", "/v1/files"),
            ("GET", "/v1/files/x"),
            ("GET", "/v1/files/x/content"),
            ("DELETE", "/v1/files/x"),
            ("GET", "/v1/batches"),
            ("POST", "/v1/batches"),
            ("GET", "/v1/batches/x"),
            ("POST", "/v1/batches/x/cancel"),
            ("GET", "/v1/models"),
            ("POST", "/v1/embeddings"),
            ("POST", "/v1/digests"),
            ("POST", "/v1/rerank"),
            ("POST", "/v2/rerank"),
            ("POST", "/v1/classify"),
            ("GET", "/api/v1/accounts/me"),
            ("GET", "/api/v1/accounts/me/receipts"),
            ("GET", "/api/v1/accounts/me/parts"),
            ("GET", "/api/v1/accounts/me/rejections"),
            ("GET", "/api/v1/accounts/me/rejections/1/bundle"),
            ("POST", "/api/v1/accounts/me/rejections/1/appeal"),
            ("GET", "/api/v1/accounts/me/credits"),
            ("GET", "/api/v1/accounts/me/statement"),
            ("GET", "/api/v1/accounts/me/payout"),
            ("PUT", "/api/v1/accounts/me/payout"),
            ("GET", "/api/v1/accounts/me/payouts"),
            ("GET", "/api/v1/accounts/me/notifications"),
            ("PUT", "/api/v1/accounts/me/notifications"),
            ("POST", "/api/v1/accounts/me/notifications/confirm"),
        ):
            assert code_of(await client.request(method, path)) == (401, "missing_api_key"), path
        wrong = {"authorization": "Bearer ip_no"}
        assert code_of(await client.get("/v1/models", headers=wrong)) == (401, "invalid_api_key")
        for path in (
            "/healthz",
            "/readyz",
            "/metrics",
            "/api/v1/status",
            "/api/v1/epochs",
            "/api/v1/roots",
            "/api/v1/ledger",
            "/api/v1/hardware",
            "/api/v1/history",
        ):
            assert (await client.get(path)).status_code == 200, path


async def test_unknown_routes_and_methods_have_the_one_shape(served: Served) -> None:
    """Nothing answers in HTML or plain text."""
    async with client_of(served) as client:
        assert code_of(await client.get("/v1/nothing")) == (404, "unknown_url")
        assert code_of(await client.get("/nothing")) == (404, "unknown_url")
        assert code_of(await client.put("/v1/files")) == (405, "method_not_allowed")
        assert code_of(await client.get("/v1/models/none")) == (404, "model_not_found")
        assert code_of(await client.get("/v1/files/../../etc/passwd")) == (404, "unknown_url")
        assert code_of(await client.get("/v1/files/%2e%2e%2fx")) == (404, "unknown_url")


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"x", "text/plain", "invalid_form"),
        (b"x", "multipart/form-data", "invalid_form"),
        (b"x", "multipart/form-data; boundary=b", "invalid_form"),
        (b"--b\r\nnonsense\r\n", "multipart/form-data; boundary=b", "invalid_form"),
        (b"--b--\r\n", "multipart/form-data; boundary=b", "missing_file"),
        (
            b'--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\nhalf',
            "multipart/form-data; boundary=b",
            "invalid_form",
        ),
        (
            b'--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n1\r\n'
            b'--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n2\r\n--b--',
            "multipart/form-data; boundary=b",
            "invalid_form",
        ),
    ],
)
async def test_malformed_forms_are_400_and_leave_nothing(
    served: Served, body: bytes, kind: str, code: str
) -> None:
    """Whatever is wrong with the form, the text says so and no file stays."""
    async with client_of(served) as client:
        answer = await client.post("/v1/files", content=body, headers={"content-type": kind})

        assert code_of(answer) == (400, code)
        assert (await client.get("/v1/files")).json()["data"] == []
        assert list((served.runner.scratch / "uploads").iterdir()) == []


async def test_uploads_are_kept_as_they_came(served: Served) -> None:
    """Bytes that look like boundaries survive; names lose their folders; expiry is told."""
    data = b"--b\r\n\r\n--" + bytes(range(256)) * 9000 + b"\r\n--"
    fields = {
        "purpose": "batch",
        "expires_after[anchor]": "created_at",
        "expires_after[seconds]": "3600",
    }
    async with client_of(served) as client:
        answer = await client.post(
            "/v1/files", files={"file": ("../../etc/näme.jsonl", data)}, data=fields
        )
        file = answer.json()
        content = await client.get(f"/v1/files/{file['id']}/content")
        some = await client.get(f"/v1/files/{file['id']}/content", headers={"range": "bytes=4-11"})

    assert answer.status_code == 200, answer.text
    assert file["filename"] == "näme.jsonl"
    assert file["bytes"] == len(data)
    assert file["expires_at"] - file["created_at"] == 3600
    assert content.content == data
    assert (some.status_code, some.content) == (206, data[4:12])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "purpose"),
        ({"purpose": "fine-tune"}, "purpose"),
        ({"purpose": "batch", "expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        (
            {
                "purpose": "batch",
                "expires_after[anchor]": "created_at",
                "expires_after[seconds]": "12",
            },
            "expires_after[seconds]",
        ),
        (
            {
                "purpose": "batch",
                "expires_after[anchor]": "created_at",
                "expires_after[seconds]": "soon",
            },
            "expires_after[seconds]",
        ),
    ],
)
async def test_form_fields_are_checked(served: Served, fields: dict, param: str) -> None:
    """The error names the field."""
    async with client_of(served) as client:
        answer = await client.post("/v1/files", files={"file": b"x"}, data=fields)

    assert code_of(answer) == (400, "invalid_value")
    assert answer.json()["error"]["param"] == param


async def test_a_file_over_the_limit_is_413_however_it_is_sent(served: Served) -> None:
    """By its declared length at once; without one, once too much has come."""
    large = b"x" * (CONFIG.http.max_upload_bytes + 1)

    async def chunks(edge: bytes):
        yield edge
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]
        yield b"\r\n--b--\r\n"

    head = b'--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n'
    async with client_of(served) as client:
        declared = await client.post(
            "/v1/files", files={"file": large + large}, data={"purpose": "batch"}
        )
        streamed = await client.post(
            "/v1/files",
            content=chunks(head),
            headers={"content-type": "multipart/form-data; boundary=b"},
        )
        assert code_of(declared) == (413, "file_too_large")
        assert code_of(streamed) == (413, "file_too_large")
        assert (await client.get("/v1/files")).json()["data"] == []


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"input_file_id": "file-none"}, "file_not_found", "input_file_id"),
        ({"input_file_id": 7}, "invalid_value", "input_file_id"),
        ({"endpoint": "/v1/chat/completions"}, "invalid_value", "endpoint"),
        ({"endpoint": ["/v1/embeddings"]}, "invalid_value", "endpoint"),
        ({"completion_window": "soon"}, "invalid_value", "completion_window"),
        ({"completion_window": 24}, "invalid_value", "completion_window"),
        ({"metadata": {str(i): "" for i in range(17)}}, "invalid_value", "metadata"),
        ({"metadata": {"k" * 65: ""}}, "invalid_value", "metadata"),
        ({"metadata": {"k": "v" * 513}}, "invalid_value", "metadata"),
        ({"metadata": {"k": 1}}, "invalid_value", "metadata"),
        ({"output_expires_after": {"anchor": "now"}}, "invalid_value", None),
        ({"priority": 1}, "unknown_parameter", "priority"),
    ],
)
async def test_batch_parameters_are_checked(
    served: Served, change: dict, code: str, param: str | None
) -> None:
    """The error names the field."""
    async with client_of(served) as client:
        body = {
            "input_file_id": await upload(client, b"x"),
            "endpoint": "/v1/embeddings",
            "completion_window": "24h",
        }
        answer = await client.post("/v1/batches", json=body | change)

    assert code_of(answer) == (400, code)
    if param is not None:
        assert answer.json()["error"]["param"] == param


async def test_page_parameters_are_checked(served: Served) -> None:
    """Limits, orders and edges."""
    async with client_of(served) as client:
        for query in ("limit=0", "limit=101", "limit=x", "after=batch_none"):
            assert code_of(await client.get(f"/v1/batches?{query}")) == (400, "invalid_value")
        for query in ("limit=-1", "order=up", "after=file-none"):
            assert code_of(await client.get(f"/v1/files?{query}")) == (400, "invalid_value")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"\xff", b"[" * 100_000])
async def test_bodies_that_are_no_objects_are_400(served: Served, body: bytes) -> None:
    """On every route that takes JSON."""
    async with client_of(served) as client:
        for path in ("/v1/batches", "/v1/embeddings"):
            answer = await client.post(path, content=body)
            assert code_of(answer) == (400, "invalid_json")


async def test_a_body_over_the_limit_is_413(served: Served) -> None:
    """It is not read to its end."""
    async with client_of(served) as client:
        answer = await client.post("/v1/embeddings", content=b" " * ((1 << 20) + 1))

    assert code_of(answer) == (413, "request_too_large")


async def test_a_batch_that_is_over_cannot_be_cancelled(served: Served) -> None:
    """Nor does the attempt change it."""
    async with client_of(served) as client:
        batch = await make_batch(client, jsonl([embed_line(0, "w4")]))
        over = await until_over(client, batch)
        answer = await client.post(f"/v1/batches/{batch}/cancel")

        assert code_of(answer) == (400, "batch_not_cancellable")
        assert (await client.get(f"/v1/batches/{batch}")).json() == over


async def test_rigs_fetch_model_files_in_pieces(served: Served) -> None:
    """Without a key; the tokenizer is the pool's own and is not given out."""
    model = served.models.get("tiny")
    assert model is not None
    tokenizer, weights = model.manifest.files
    async with httpx.AsyncClient(base_url=f"{served.url}/api/v1/models/files") as client:
        whole = await client.get(weights.sha256)
        rest = await client.get(weights.sha256, headers={"range": f"bytes={weights.size - 10}-"})
        beyond = await client.get(weights.sha256, headers={"range": f"bytes={weights.size}-"})
        private = await client.get(tokenizer.sha256)

    assert len(whole.content) == weights.size
    assert (rest.status_code, rest.content) == (206, whole.content[-10:])
    assert rest.headers["content-range"] == (
        f"bytes {weights.size - 10}-{weights.size - 1}/{weights.size}"
    )
    assert beyond.status_code == 416
    assert code_of(private) == (404, "file_not_found")


async def test_an_account_sees_what_it_has(served: Served) -> None:
    """Customers their balance, miners their pay."""
    async with client_of(served) as client:
        batch = await make_batch(client, jsonl([embed_line(0, "w4")]))
        over = await until_over(client, batch)
        mine = (await client.get("/api/v1/accounts/me")).json()
    async with client_of(served, served.miner_key) as client:
        miners = (await client.get("/api/v1/accounts/me")).json()

    assert mine["balance"] == 1_000_000 - over["inferpool"]["price"]
    assert mine["reserved"] == over["inferpool"]["price"] > 0
    assert (miners["role"], miners["held"]) == ("miner", 0)


async def test_sampling_keys_are_shown_once_their_epoch_is_over(served: Served) -> None:
    """Before, only their hash is. Earlier keys follow from later ones, so they come in order."""
    with served.store.database.write() as connection:
        connection.exec_driver_sql("INSERT INTO chain VALUES (1, x'04', 9, x'00')")
        connection.exec_driver_sql(
            "INSERT INTO epoch VALUES (1, 1, 1, x'01', 2, 2, 9, 8, 7, 1.0, 2.0), "
            "(2, 1, 2, x'02', 2, 2, 9, 8, 7, 2.0, 3.0), (3, 1, 3, x'03', 2, 2, 9, 8, 7, 3.0, 4.0), "
            "(4, 1, 4, x'04', 2, 2, 9, 8, 7, 4.0, NULL)"
        )
        connection.exec_driver_sql(
            "INSERT INTO lease (id, account, rig, model, operation, segments, rows, work, "
            "difficulty, issued, deadline, state, fault, verdict, forfeit, suspect) VALUES "
            "(1, 'm', 'r', 'd', 'embed', x'90', 1, 1, 1, 1, 1, 'done', 'none', 'accepted', 0, 0)"
        )
        connection.exec_driver_sql(
            "INSERT INTO part VALUES (1, 0, 0, 1, 0, 8, 1, x'', x'', 2, 0, 0, 1, 'held', 0, 1, "
            "x'90', x'90', x'', x'', 2, x'90', 1.0)"
        )
    async with httpx.AsyncClient(base_url=served.url) as client:
        answer = (await client.get("/api/v1/epochs", params={"limit": 3})).json()
        rest = (await client.get("/api/v1/epochs", params={"before": 2})).json()

    promises = {n: sha256(bytes([n])).hexdigest() for n in range(1, 5)}
    assert [(e["epoch"], e["key_hash"], e["key"]) for e in answer["data"]] == [
        (4, promises[4], None),
        (3, promises[3], None),
        (2, promises[2], None),
    ]
    assert answer["has_more"]
    assert [(e["epoch"], e["key"]) for e in rest["data"]] == [(1, "01")]
    assert not rest["has_more"]


async def test_a_key_is_kept_until_the_board_has_the_next(served: Served) -> None:
    """A part that comes in the moment of the change may still be drawn from with the old key."""
    now = served.clock.now()
    with served.store.database.write() as connection:
        connection.exec_driver_sql("INSERT INTO chain VALUES (1, x'04', 9, x'00')")
        connection.exec_driver_sql(
            "INSERT INTO epoch VALUES (1, 1, 1, x'01', 2, 2, 9, 8, 7, 1.0, ?), "
            "(2, 1, 2, x'02', 2, 2, 9, 8, 7, 2.0, ?)",
            (now - 600, now - 1),
        )
    async with httpx.AsyncClient(base_url=served.url) as client:
        epochs = (await client.get("/api/v1/epochs")).json()["data"]

    assert [e["key"] for e in epochs] == [None, "01"]


async def test_sampling_keys_are_told_without_reading_every_share(served: Served) -> None:
    """Anybody may ask, as often as they like."""
    text = UNDECIDED.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    with served.store.database.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").scalars(3).all()

    assert any("lease_awaits_verdict" in step for step in plan), plan
    assert not [step for step in plan if step.startswith("SCAN part")], plan


async def test_rejections_are_told_without_reading_every_lease(served: Served) -> None:
    """A miner may have millions of them."""
    text = faulty_leases("m", 7).compile(
        dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}
    )
    with served.store.database.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").scalars(3).all()

    assert any("lease_faulty" in step for step in plan), plan


async def test_an_input_is_not_deleted_while_it_is_read(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch would fail for no reason that its customer could see."""
    async with client_of(served) as client:
        monkeypatch.setattr(served.runner, "submitted", lambda job: None)
        batch = await make_batch(client, jsonl([embed_line(0, "w4")]))
        file = (await client.get(f"/v1/batches/{batch}")).json()["input_file_id"]

        assert code_of(await client.delete(f"/v1/files/{file}")) == (400, "file_in_use")
        assert (await client.get(f"/v1/files/{file}/content")).status_code == 200


async def test_a_client_that_never_ends_its_body_is_answered_and_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much more it sends."""
    monkeypatch.setattr(draining, "_PATIENCE_SECONDS", 0.05)
    stream = await trio.open_tcp_stream("127.0.0.1", served.port)
    async with stream, trio.open_nursery() as nursery:
        head = b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000000\r\n\r\n"
        await stream.send_all(head)

        async def send_for_ever() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                while True:
                    await stream.send_all(bytes(65536))

        nursery.start_soon(send_for_ever)
        answer = b""
        with trio.fail_after(20), contextlib.suppress(trio.BrokenResourceError):
            while data := await stream.receive_some():
                answer += data
        nursery.cancel_scope.cancel()

    assert answer.startswith(b"HTTP/1.1 401")
    assert b"connection: close" in answer


async def test_the_ledgers_last_entry_is_told_to_whoever_notes_it(served: Served) -> None:
    """It is the one that the command finds when it recomputes all of them."""
    with served.store.database.read() as connection:
        found = check_ledger(connection)
    async with client_of(served) as client:
        answer = (await client.get("/api/v1/ledger", headers={"authorization": ""})).json()

    assert found.seq > 0
    assert answer["last"] == f"{found.seq}:{found.head.hex()}"
    assert (answer["entries"], answer["transactions"]) == (found.seq, found.transactions)


async def test_roots_and_receipts_are_served_in_pages(served: Served) -> None:
    """An odd ``after`` is refused; the roots name the key that signs them."""
    async with client_of(served) as client:
        answer = (await client.get("/api/v1/roots")).json()
        assert answer["public_key"] == served.store.signer.public_key.hex()
        assert (answer["data"], answer["has_more"]) == ([], False)
        own = [
            f"/api/v1/accounts/me/{name}" for name in ("receipts", "parts", "credits", "rejections")
        ]
        for path in ("/api/v1/roots", *own):
            bad = await client.get(path, params={"after": "-1"})
            assert code_of(bad) == (400, "invalid_value")
        for path in own:
            mine = (await client.get(path)).json()
            assert (mine["data"], mine["next_after"]) == ([], None)


async def test_a_miner_sees_what_was_wrong_and_may_appeal_once(served: Served) -> None:
    """The bundle has the row as it was; only the rig's own account is told anything."""
    async with client_of(served) as client:
        batch = await make_batch(client, jsonl([embed_line(0, "w4 w5"), embed_line(1, "w6")]))
        await until_over(client, batch)
        theirs = await client.get("/api/v1/accounts/me/rejections/1/bundle")
        assert code_of(theirs) == (404, "rejection_not_found")
        assert code_of(await client.post("/api/v1/accounts/me/rejections/1/appeal")) == (
            404,
            "rejection_not_found",
        )
    async with client_of(served, served.miner_key) as client:
        path = "/api/v1/accounts/me/rejections"
        assert (await client.get(path)).json()["data"] == []
        assert code_of(await client.get(f"{path}/1/bundle")) == (404, "rejection_not_found")
        assert code_of(await client.post(f"{path}/1/appeal")) == (400, "nothing_refuted")
        with served.store.database.write() as connection:
            job = connection.exec_driver_sql("SELECT max(id) FROM job").scalar_one()
            (name,) = connection.exec_driver_sql("SELECT account FROM lease").scalars().all()
            connection.exec_driver_sql(
                "INSERT INTO refuted VALUES (1, ?, 0, 1, ?, ?, 0, 5.0, 0)",
                (job, b"g" * 16, b"e" * 16),
            )
        (one,) = (await client.get(path)).json()["data"]
        bundle = (await client.get(f"{path}/1/bundle")).json()
        answer = await client.post(f"{path}/1/appeal")
        again = await client.post(f"{path}/1/appeal")
        odd = await client.get(f"{path}/-1/bundle")

    assert (one["reason"], one["fault"], one["cost"], one["appeal"]) == (
        "wrong_row",
        "rig",
        "fine",
        None,
    )
    assert one["refuted"] == [
        {"row": 1, "given": (b"g" * 16).hex(), "expected": (b"e" * 16).hex(), "at": 5.0}
    ]
    assert bundle["user"] == f"{name}.rig"
    assert manifest_digest(bundle["manifest"].encode()) == bundle["model"]
    # [CLS] w6 [SEP]: the shorter row comes second in its block.
    assert [(row["row"], row["tokens"]) for row in bundle["rows"]] == [(1, [2, 6, 3])]
    assert answer.status_code == 202
    assert answer.json()["appeal"]["outcome"] is None
    assert code_of(again) == (400, "appealed_before")
    assert code_of(odd) == (404, "rejection_not_found")
