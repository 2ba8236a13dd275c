"""Rerankers and classifiers through a whole pool: real processes, the bits of the specification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Pool, Process, inferpool, output_of, pool_with_rigs, submit, wait_for_batch
from tokenizers import Tokenizer
from zoo import VECTORS, add_tokenizer, write_checkpoint

from gpu_worker.engine import quantise
from gpu_worker.engine.encoder import BertEncoder
from gpu_worker.engine.encoderconfig import read_config
from gpu_worker.engine.layers import Weights
from gpu_worker.engine.numerics import EXACT
from gpu_worker.engine.ops import Ops
from gpu_worker.engine.tensors import TensorFile

QUERY = "w1 w2 w3"
DOCUMENTS = [" ".join(f"w{(7 * i + j) % 50}" for j in range(3 + i % 20)) for i in range(40)]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A tiny BERT reranker and a tiny BERT classifier, in the layout that people publish."""
    made = {}
    for name in ("bert-score", "bert-classify"):
        stored = json.loads((VECTORS / f"{name}.json").read_text())
        made[name] = write_checkpoint(tmp_path / name, stored["config"], stored["shapes"], 0)
        add_tokenizer(made[name], "bert")
    return made


def specified(folder: Path, out: Path, inputs: list[Any]) -> np.ndarray[Any, Any]:
    """Logits float32 [rows, labels] by the plain operations, one row at a time."""
    fields = quantise(folder, out)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = read_config(fields["config"])
    ops = Ops(EXACT["exact16"])
    file = TensorFile(out / "weights.safetensors")
    encoder = BertEncoder(
        config, Weights("bert", config, "exact16", fields["vocabulary"], file, ops)
    )
    rows = [tokenizer.encode(*text).ids for text in inputs]
    return np.concatenate(
        [
            encoder.encode(ops, np.array(row, np.uint32), [len(row)], lambda: False)[0]
            for row in rows
        ]
    )


def add(pool: Pool, name: str, folder: Path) -> None:
    process = Process(inferpool("model", "add", name, "--from", str(folder), *pool.config))
    assert process.wait() == 0, process.log()


def test_every_way_in_gives_the_specified_scores(tmp_path: Path, folders: dict[str, Path]) -> None:
    """A direct request, its batch, and a classifier's labels: all from the same logits."""
    pairs = [(QUERY, document) for document in DOCUMENTS]
    logits = specified(folders["bert-score"], tmp_path / "q", pairs)[:, 0].astype(np.float64)
    classes = specified(folders["bert-classify"], tmp_path / "c", [(d,) for d in DOCUMENTS])
    with pool_with_rigs(tmp_path / "pool", {}) as (pool, _):
        token = pool.account("alice", "miner")
        add(pool, "ranker", folders["bert-score"])
        add(pool, "mood", folders["bert-classify"])
        pool.start()
        rig = Process(
            inferpool(
                "worker",
                *("--pool", f"stratum+tcp://127.0.0.1:{pool.stratum_port}"),
                *("--user", "alice.rig", "--token-file", token),
                *("--cache", str(pool.folder / "cache")),
            )
        )
        body = {"model": "ranker", "query": QUERY, "documents": DOCUMENTS}
        line = {"custom_id": "a", "method": "POST", "url": "/v1/rerank", "body": body}
        try:
            with pool.client("carol") as client:
                direct = client.post("/rerank", json=body, timeout=60)
                assert direct.status_code == 200, direct.text
                labelled = client.post(
                    "/classify", json={"model": "mood", "input": DOCUMENTS}, timeout=60
                )
                assert labelled.status_code == 200, labelled.text
                lines = "\n".join(json.dumps(line | {"custom_id": f"q{i}"}) for i in range(5))
                facts = wait_for_batch(client, submit(client, lines.encode(), "/v1/rerank"))
                assert facts["status"] == "completed", facts
                output = output_of(client, facts)
        finally:
            assert rig.stop() == 0
    results = direct.json()["results"]
    scores = {result["index"]: result["relevance_score"] for result in results}
    wanted = (1 / (1 + np.exp(-logits))).astype(np.float32)
    order = sorted(range(len(DOCUMENTS)), key=lambda index: (-logits[index], index))
    answers = [json.loads(one)["response"]["body"]["results"] for one in output.splitlines()]

    assert [result["index"] for result in results] == order
    assert np.allclose([scores[i] for i in range(len(DOCUMENTS))], wanted, rtol=2e-7, atol=0)
    assert answers == [results] * 5
    assert [one["label"] for one in labelled.json()["data"]] == [
        f"label {index}" for index in classes.argmax(axis=1)
    ]
