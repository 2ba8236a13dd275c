"""The log of a real pool at debug: every line an event, ids from the request to the rig, no secret
and nothing that a customer said; at levels that change while it runs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import SETTINGS, Pool, Process, inferpool, pool_with_rigs, submit, wait_for_batch

from pool.batches.naming import file_object

TEXT = "Recognisable"
WRONG_TOKEN = "ip_" + "Wr0ngTok3n" * 4


def events(pool: Pool) -> list[dict[str, Any]]:
    assert pool.process is not None
    return [json.loads(line) for line in pool.process.lines]


def until(pool: Pool, event: str, **facts: object) -> dict[str, Any]:
    """Wait for a line of the pool's log."""
    for _ in range(3_000):
        for line in events(pool):
            if {**line, "event": event, **facts} == line:
                return line
        time.sleep(0.02)
    assert pool.process is not None
    raise AssertionError(f"no {event!r} with {facts}:\n" + pool.process.log())


def change_level(pool: Pool, *arguments: str) -> None:
    process = Process(inferpool("log-level", *arguments, *pool.config))
    assert process.wait() == 0, process.log()


def batch_lines(rows: int) -> bytes:
    good = [
        {
            "custom_id": f"{TEXT}-{row}",
            "method": "POST",
            "url": "/v1/digests",
            "body": {"model": "blake2b", "input": [row, 1, 2]},
        }
        for row in range(rows)
    ]
    text = [{**good[0], "custom_id": "text", "body": {"model": "blake2b", "input": TEXT}}]
    return "".join(json.dumps(one) + "\n" for one in good + text).encode()


@pytest.mark.slow
@pytest.mark.long
def test_a_pool_at_debug_tells_ids_and_no_secrets(tmp_path: Path) -> None:
    with pool_with_rigs(tmp_path, {"alice": 300.0}, 'log_level = "info"\n' + SETTINGS) as (pool, _):
        pool.start()
        httpx.get(f"{pool.url}/readyz?before")
        change_level(pool, "debug")
        until(pool, "log levels", levels={"all": "debug"})
        assert not [line for line in events(pool) if line["event"] == "request"]

        with pool.client("carol") as client:
            batch = submit(client, batch_lines(200))
            assert wait_for_batch(client, batch)["status"] == "completed"
            follow(pool, batch)
            refused(pool, client)
            say_much(pool, client)
            fail_inside(pool, client)

        change_level(pool, "error", "--of", "pool.http")
        until(pool, "log levels", levels={"all": "debug", "pool.http": "error"})
        requests = sum(line["event"] == "request" for line in events(pool))
        httpx.get(f"{pool.url}/readyz")
        change_level(pool, "default")
        until(pool, "log levels", levels={"all": "info"})
        assert sum(line["event"] == "request" for line in events(pool)) == requests
        assert pool.process is not None
        assert pool.process.stop() == 0

        log = "\n".join(pool.process.lines)
        for secret in (*pool.tokens.values(), WRONG_TOKEN, TEXT, "@example.org", "hunter2"):
            assert secret not in log, secret
        assert all(line.isascii() and line.isprintable() for line in pool.process.lines)


def follow(pool: Pool, batch: str) -> None:
    """From the request to the verdict on a share, and the rig that computed it."""
    created = until(pool, "batch created", batch=batch)
    assert created["request_id"].startswith("req_")
    assert created["account"] == "carol"
    job = created["job"]
    until(pool, "batch over", batch=batch, job=job)
    issued = until(pool, "lease issued", job=job)
    ids = {name: issued[name] for name in ("lease", "account", "rig", "model")}
    assert (ids["account"], ids["rig"]) == ("alice", "rig")
    for event in ("part accepted", "lease ended", "share judged"):
        until(pool, event, job=job, **ids)
    connected = until(pool, "rig connected", account="alice", rig="rig")
    assert connected["connection"]
    assert connected["session"]


def say_much(pool: Pool, client: httpx.Client) -> None:
    """Wrong tokens, names and paths that want to be lines of their own, broken requests."""
    hostile = f'{TEXT}\n{{"event":"forged"}}\x1b[2J.jsonl'
    client.post("/files", files={"file": (hostile, b"{")}, data={"purpose": "batch"})
    client.get("/batches/x%0A%7B%22event%22:%22forged%22%7D%1B%5B2J")
    client.get("/batches/bob@example.org")
    client.post("/digests", content=f'{{"{TEXT}'.encode())
    client.post("/digests", json={"model": TEXT, "input": TEXT})
    for token in (WRONG_TOKEN, f"hunter2{TEXT}"):
        wrong = httpx.get(f"{pool.url}/v1/files", headers={"Authorization": f"Bearer {token}"})
        assert wrong.status_code == 401
    httpx.get(f"{pool.url}/v1/{WRONG_TOKEN}", headers={"User-Agent": f"{TEXT}"})
    (pool.folder / "wrong.token").write_text(WRONG_TOKEN)
    (pool.folder / "wrong.token").chmod(0o600)
    rig = Process(
        inferpool(
            "worker",
            *("--pool", f"stratum+tcp://127.0.0.1:{pool.stratum_port}", "--user", "alice.other"),
            *("--token-file", str(pool.folder / "wrong.token"), "--backend", "numpy"),
            *("--cache", str(pool.folder / "cache"), "--log-level", "debug"),
        )
    )
    try:
        until(pool, "authorisation refused", account="alice", rig="other")
        denial = rig.text("the pool denies this rig")
        assert json.loads(denial)["account"] == "alice"
    finally:
        rig.kill()
    assert WRONG_TOKEN not in rig.log()


def refused(pool: Pool, client: httpx.Client) -> None:
    """A batch with a broken line."""
    batch = submit(client, batch_lines(1) + f'{{"{TEXT}\n'.encode())
    assert wait_for_batch(client, batch)["status"] == "failed"
    assert until(pool, "batch read", batch=batch, state="failed")["errors"]


def fail_inside(pool: Pool, client: httpx.Client) -> None:
    """A file that is gone from the disk: a handler and an intake that fail."""
    answer = client.post(
        "/files", files={"file": (TEXT, batch_lines(1))}, data={"purpose": "batch"}
    )
    file = answer.json()["id"]
    with pool.store() as store:
        store.objects.delete(file_object(file))
    try:
        failed = client.get(f"/files/{file}/content")
        assert failed.status_code == 500
    except httpx.HTTPError:
        pass  # its answer had begun
    until(pool, "request failed", path=f"/v1/files/{file}/content", account="carol")
    body = {"input_file_id": file, "endpoint": "/v1/digests", "completion_window": "24h"}
    batch = client.post("/batches", json=body).json()["id"]
    line = until(pool, "intake failed", batch=batch, account="carol")
    assert " at " in line["raised"]
