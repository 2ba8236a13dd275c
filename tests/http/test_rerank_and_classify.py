"""Reranking, classification and prompts the whole way: direct requests and batches."""

from __future__ import annotations

import httpx
import msgspec
import numpy as np
import pytest
from customer_side import (
    UNLUCKY,
    Served,
    client_of,
    content,
    embedding,
    jsonl,
    make_batch,
    until_over,
)

from pool.batches.probabilities import probabilities


def expected(tokens: list[int], width: int, kind: str) -> list[float]:
    """Probabilities of a row that the tests' model computed."""
    logits = embedding(np.array(tokens), width).reshape(1, -1)
    return pytest.approx(probabilities(logits, kind)[0].tolist(), rel=1e-6)


def line(number: int, url: str, **body: object) -> dict:
    """A line of a batch."""
    return {"custom_id": f"line-{number}", "method": "POST", "url": url, "body": body}


async def answers_of(client: httpx.AsyncClient, lines: list[dict], url: str) -> list[dict]:
    """The bodies of a batch's lines, refused ones too, in the customer's order."""
    over = await until_over(client, await make_batch(client, jsonl(lines), url))
    assert over["status"] == "completed", over
    found = {}
    for name in ("output_file_id", "error_file_id"):
        if over[name]:
            for text in (await content(client, over[name])).splitlines():
                entry = msgspec.json.decode(text)
                found[entry["custom_id"]] = entry["response"]["body"]
    return [found[entry["custom_id"]] for entry in lines]


async def test_a_rerank_request_is_answered_at_once(served: Served) -> None:
    """In the shape that Jina's clients read, too."""
    body = {
        "model": "ranker",
        "query": "w4 w5",
        "documents": ["w6", {"text": "w7 w8"}, "w9"],
        "return_documents": True,
    }
    rows = [[2, 4, 5, 3, 6, 3], [2, 4, 5, 3, 7, 8, 3], [2, 4, 5, 3, 9, 3]]
    async with client_of(served) as client:
        first = await client.post("/v1/rerank", json=body)
        second = await client.post("/v2/rerank", json=body | {"top_n": 1})

    answer = first.json()
    assert first.status_code == 200
    assert set(answer) == {"id", "model", "results", "meta", "usage"}
    assert answer["model"] == "ranker"
    assert answer["usage"] == {"prompt_tokens": 19, "total_tokens": 19}
    by_index = {result["index"]: result for result in answer["results"]}
    for index, (row, text) in enumerate(zip(rows, ("w6", "w7 w8", "w9"), strict=True)):
        assert [by_index[index]["relevance_score"]] == expected(row, 1, "sigmoid")
        assert by_index[index]["document"] == {"text": text}
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert second.json()["results"] == answer["results"][:1]


async def test_a_classification_is_answered_at_once(served: Served) -> None:
    """Softmax with the model's labels, and each class by itself with numbered ones."""
    given = ["w4", {"text": "w5", "text_pair": "w6"}]
    rows = [[2, 4, 3], [2, 5, 3, 6, 3]]
    async with client_of(served) as client:
        mood = (await client.post("/v1/classify", json={"model": "mood", "input": given})).json()
        plain = (await client.post("/v1/classify", json={"model": "plain", "input": "w4"})).json()

    assert (mood["object"], mood["model"]) == ("list", "mood")
    assert mood["usage"] == {"prompt_tokens": 8, "total_tokens": 8}
    for index, (item, row) in enumerate(zip(mood["data"], rows, strict=True)):
        best = int(np.argmax(embedding(np.array(row), 3)))
        assert item["probs"] == expected(row, 3, "softmax")
        assert (item["index"], item["num_classes"]) == (index, 3)
        assert item["label"] == ("sad", "calm", "glad")[best]
    (only,) = plain["data"]
    best = int(np.argmax(embedding(np.array(rows[0]), 2)))
    assert only["probs"] == expected(rows[0], 2, "sigmoid")
    assert only["label"] == f"LABEL_{best}"


@pytest.mark.parametrize("url", ["/v1/rerank", "/v2/rerank"])
async def test_a_batch_of_rankings_has_the_answers_of_direct_requests(
    served: Served, url: str
) -> None:
    """Each line its own, but for the id; a line that cannot be served fails alone."""
    asked = [
        {"query": "w4", "documents": [f"w{n}" for n in range(5, 30)], "top_n": 3},
        {"query": "", "documents": ["w5"]},
        {"query": "w6 w7", "documents": ["w8", "w9"], "return_documents": True},
        {"query": "w6", "documents": ["w5 " * 30]},
    ]
    bodies = [{"model": "ranker", **body} for body in asked]
    lines = [line(number, url, **body) for number, body in enumerate(bodies)]
    async with client_of(served) as client:
        batch = await answers_of(client, lines, url)
        direct = [(await client.post(url, json=body)).json() for body in bodies]

    assert batch[1] == direct[1]
    assert batch[1]["error"]["param"] == "query"
    for number in (0, 2, 3):
        assert batch[number].pop("id") != direct[number].pop("id")
        assert batch[number] == direct[number]
    assert len(batch[0]["results"]) == 3
    assert {result["document"]["text"] for result in batch[2]["results"]} == {"w8", "w9"}
    assert batch[3]["usage"]["prompt_tokens"] == 16


async def test_a_batch_of_classifications_has_the_answers_of_direct_requests(
    served: Served,
) -> None:
    """Each line its own, but for the id."""
    given = ["w4", ["w5", "w6 w7"], [{"text": "w8", "text_pair": "w9"}], [10, 11]]
    bodies = [{"model": "mood", "input": item} for item in given]
    lines = [line(number, "/v1/classify", **body) for number, body in enumerate(bodies)]
    async with client_of(served) as client:
        batch = await answers_of(client, lines, "/v1/classify")
        direct = [(await client.post("/v1/classify", json=body)).json() for body in bodies]

    for one, other in zip(batch, direct, strict=True):
        assert one.pop("id") != other.pop("id")
        assert one == other


async def test_the_same_rankings_give_the_same_bytes(served: Served) -> None:
    """Ids included, as for embeddings."""
    lines = [
        line(n, "/v1/rerank", model="ranker", query="w4", documents=["w5", f"w{6 + n}"])
        for n in range(20)
    ]
    async with client_of(served) as client:
        outputs = []
        for _ in range(2):
            over = await until_over(client, await make_batch(client, jsonl(lines), "/v1/rerank"))
            outputs.append(await content(client, over["output_file_id"]))

    assert outputs[0] == outputs[1]


async def test_logits_that_are_not_finite_fail_their_line_alone(served: Served) -> None:
    """As they do for embeddings."""
    lines = [line(0, "/v1/classify", model="mood", input=[UNLUCKY, 4])]
    lines.append(line(1, "/v1/classify", model="mood", input=[4]))
    async with client_of(served) as client:
        unlucky, good = await answers_of(client, lines, "/v1/classify")

    assert unlucky["error"]["code"] == "non_finite_result"
    assert good["data"][0]["num_classes"] == 3


async def test_prompts_are_part_of_the_text_that_is_embedded(served: Served) -> None:
    """The same rows as texts that hold them."""

    async def embedded(client: httpx.AsyncClient, **body: object) -> list[float]:
        answer = await client.post("/v1/embeddings", json={"model": "ask", **body})
        assert answer.status_code == 200, answer.text
        return answer.json()["data"][0]["embedding"]

    async with client_of(served) as client:
        unasked = await embedded(client, input="w4")
        named = await embedded(client, input="w4", prompt_name="query")
        none = await embedded(client, input="w4", prompt_name=None)
        ids = await embedded(client, input=[2, 4, 3])
        wrong = await client.post(
            "/v1/embeddings", json={"model": "ask", "input": "w4", "prompt_name": "title"}
        )
        lines = [line(0, "/v1/embeddings", model="ask", input="w4", prompt_name="query")]
        (batch,) = await answers_of(client, lines, "/v1/embeddings")

    def of(tokens: list[int]) -> list[float]:
        return [float(str(value)) for value in embedding(np.array(tokens))]

    assert unasked == of([2, 31, 32, 4, 3])
    assert named == of([2, 30, 4, 3]) == batch["data"][0]["embedding"]
    assert none == ids == of([2, 4, 3])
    assert wrong.status_code == 400
    assert "which has: passage, query" in wrong.json()["error"]["message"]


async def test_models_say_what_they_are_for(served: Served) -> None:
    """Operations, the endpoint, labels and prompts."""
    async with client_of(served) as client:
        listed = (await client.get("/v1/models")).json()["data"]
        one = (await client.get("/v1/models/ask")).json()
    facts = {model["id"]: model["inferpool"] for model in listed}

    assert facts["ranker"]["operations"] == ["score"]
    assert facts["ranker"]["endpoint"] == "/v1/rerank"
    assert facts["mood"]["labels"] == ["sad", "calm", "glad"]
    assert facts["plain"]["labels"] == ["LABEL_0", "LABEL_1"]
    assert facts["tiny"]["labels"] == []
    assert facts["tiny"]["prompts"] == {}
    assert one["inferpool"]["prompts"] == {"query": "w30 ", "passage": "w31 w32 "}
    assert one["inferpool"]["default_prompt"] == "passage"


@pytest.mark.parametrize(
    ("model", "url", "right"),
    [
        ("tiny", "/v1/rerank", "/v1/embeddings"),
        ("ranker", "/v1/embeddings", "/v1/rerank"),
        ("mood", "/v2/rerank", "/v1/classify"),
    ],
)
async def test_a_wrong_endpoint_names_the_right_one(
    served: Served, model: str, url: str, right: str
) -> None:
    """Before the rest of the body is looked at."""
    async with client_of(served) as client:
        answer = await client.post(url, json={"model": model})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "model_mismatch", "model")
    assert error["message"].endswith(f"use {right}")
