"""A model in a float numerics through a whole pool: real processes that compute other bits."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from harness import Pool, Process, inferpool, output_of, pool_with_rigs, submit, wait_for_batch
from sqlalchemy import select
from tokenizers import Tokenizer
from zoo import VECTORS, add_tokenizer, write_checkpoint

from gpu_worker.engine import load_engine, quantise
from pool.store import schema

TEXTS = [" ".join(f"w{(5 * i + j) % 50}" for j in range(2 + i % 25)) for i in range(150)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny BERT embedder."""
    stored = json.loads((VECTORS / "bert.json").read_text())
    made = write_checkpoint(tmp_path / "bert", stored["config"], stored["shapes"], 0)
    add_tokenizer(made, "bert")
    return made


def vectors(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *, numba: bool
) -> tuple[np.ndarray, float]:
    """What this processor gives of the texts, and the model's tolerance."""
    fields = quantise(folder, out, numerics="float32")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = [np.array(tokenizer.encode(text).ids, np.uint32) for text in TEXTS]
    monkeypatch.setenv("INFERPOOL_NUMBA", str(int(numba)))
    path = out / "weights.safetensors"
    engine = load_engine(fields, {path.name: path}, threads=1)
    lengths = np.array([len(row) for row in rows], np.uint32)
    (chunk,) = engine.run("embed", lengths, np.concatenate(rows), len(rows))
    engine.close()
    monkeypatch.undo()
    return chunk.values, fields["tolerance"]


def worker(pool: Pool, name: str, token: str, environment: dict[str, str]) -> Process:
    return Process(
        inferpool(
            "worker",
            *("--pool", f"stratum+tcp://127.0.0.1:{pool.stratum_port}"),
            *("--user", f"{name}.rig", "--token-file", token),
            *("--cache", str(pool.folder / f"cache-{name}"), "--threads", "1"),
        ),
        environment,
    )


def test_rigs_with_other_bits_each_serve_a_batch_and_nobody_is_accused(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One rig with numba, as the referee, and one without: most rows of both are checked."""
    fast, tolerance = vectors(folder, tmp_path / "n", monkeypatch, numba=True)
    plain, _ = vectors(folder, tmp_path / "p", monkeypatch, numba=False)
    assert (fast != plain).any(axis=1).mean() > 0.5, "the two machines give the same bits"
    with pool_with_rigs(tmp_path / "pool", {}) as (pool, _):
        tokens = {name: pool.account(name, "miner") for name in ("alice", "bob")}
        command = ("model", "add", "tiny", "--from", str(folder), "--numerics", "float32")
        added = Process(inferpool(*command, *pool.config))
        assert added.wait() == 0, added.log()
        assert "not the same bits" in added.log()
        pool.start()
        lines = [
            {
                "custom_id": f"t{number}",
                "method": "POST",
                "url": "/v1/embeddings",
                "body": {"model": "tiny@float32", "input": text},
            }
            for number, text in enumerate(TEXTS)
        ]
        batch = "\n".join(map(json.dumps, lines)).encode()
        outputs = []
        with pool.client("carol") as client:
            for name, numba in (("alice", "1"), ("bob", "0")):
                # One after the other, so that neither can be too quick for the other to get a row.
                rig = worker(pool, name, tokens[name], {"INFERPOOL_NUMBA": numba})
                try:
                    facts = wait_for_batch(client, submit(client, batch, "/v1/embeddings"))
                    assert facts["status"] == "completed", facts
                    outputs.append(output_of(client, facts))
                finally:
                    code = rig.stop()
                assert code == 0
        check, lease, refuted = schema.check.c, schema.lease.c, schema.refuted
        with pool.store() as store, store.database.read() as connection:
            outcomes = Counter(connection.scalars(select(check.outcome)))
            of_whom = select(lease.account).join(schema.check, check.lease == lease.id)
            checked = Counter(connection.scalars(of_whom))
            cleared = select(lease.account).where(lease.verdict == "cleared")
            accounts = set(connection.scalars(cleared))
            wrong = connection.execute(select(refuted)).all()
    assert accounts == {"alice", "bob"}
    # Not all 150: once enough of a rig's rows were right, the rest are sampled.
    assert min(checked["alice"], checked["bob"]) >= 100
    assert outcomes["matched"] >= 200
    assert set(outcomes) <= {"matched", "void"}
    assert not wrong
    for output in outputs:
        answers = [json.loads(line) for line in output.splitlines()]
        given = {
            one["custom_id"]: one["response"]["body"]["data"][0]["embedding"] for one in answers
        }
        for number, vector in enumerate(fast):
            apart = 0.5 * np.square(np.array(given[f"t{number}"]) - vector).sum()
            assert apart / np.square(vector).sum() <= tolerance
