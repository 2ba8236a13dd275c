"""Cohere's own client, pointed at the pool: both of its rerank calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import cohere
import numpy as np
import pytest
import trio
from cohere.core import ApiError
from customer_side import Served, embedding

T = TypeVar("T")

QUERY = "w4 w5"
DOCUMENTS = ["w6", "w7 w8", "w9", "w6"]
PAIRS = [[2, 4, 5, 3, 6, 3], [2, 4, 5, 3, 7, 8, 3], [2, 4, 5, 3, 9, 3], [2, 4, 5, 3, 6, 3]]
SCORES = [1 / (1 + math.exp(-float(embedding(np.array(row), 1)[0]))) for row in PAIRS]
BEST_FIRST = sorted(range(4), key=lambda index: (-SCORES[index], index))


async def ask_first(served: Served, work: Callable[[cohere.Client], T], key: str = "") -> T:
    """Run ``work`` with the client of the first API, in a thread."""

    def run() -> T:
        with cohere.Client(key or served.key, base_url=served.url, timeout=30) as client:
            return work(client)

    return await trio.to_thread.run_sync(run)


async def ask_second(served: Served, work: Callable[[cohere.ClientV2], T]) -> T:
    """The same with the client of the second API."""

    def run() -> T:
        with cohere.ClientV2(served.key, base_url=served.url, timeout=30) as client:
            return work(client)

    return await trio.to_thread.run_sync(run)


async def test_the_first_api_ranks_texts_and_gives_documents_back(served: Served) -> None:
    """Best first, equal scores in the order of the documents, each with its own text."""
    answer = await ask_first(
        served,
        lambda client: client.rerank(
            model="ranker",
            query=QUERY,
            documents=[DOCUMENTS[0], {"text": DOCUMENTS[1]}, *DOCUMENTS[2:]],
            return_documents=True,
        ),
    )

    assert [result.index for result in answer.results] == BEST_FIRST
    assert [result.document.text for result in answer.results if result.document] == [
        DOCUMENTS[index] for index in BEST_FIRST
    ]
    assert [result.relevance_score for result in answer.results] == pytest.approx(
        [SCORES[index] for index in BEST_FIRST], rel=1e-6
    )
    assert answer.id
    assert answer.meta is not None
    assert answer.meta.billed_units is not None
    assert answer.meta.billed_units.search_units == 1


async def test_the_second_api_ranks_the_same(served: Served) -> None:
    """Its path is another, and ``top_n`` leaves the best."""
    answer = await ask_second(
        served,
        lambda client: client.rerank(
            model="ranker", query=QUERY, documents=DOCUMENTS, top_n=2, max_tokens_per_doc=4096
        ),
    )

    assert [result.index for result in answer.results] == BEST_FIRST[:2]
    assert [result.relevance_score for result in answer.results] == pytest.approx(
        [SCORES[index] for index in BEST_FIRST[:2]], rel=1e-6
    )


async def test_every_answer_has_an_id_of_its_own(served: Served) -> None:
    """Two equal requests are two requests."""

    def work(client: cohere.ClientV2) -> set[str | None]:
        return {client.rerank(model="ranker", query="w4", documents=["w5"]).id for _ in range(2)}

    assert len(await ask_second(served, work)) == 2


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        ({"model": "tiny"}, 400, "'tiny' does not serve /v1/rerank: use /v1/embeddings"),
        ({"model": "none"}, 404, "GET /v1/models"),
        ({"documents": []}, 400, "documents: "),
        ({"rank_fields": ["title"]}, 400, "rank_fields: "),
    ],
)
async def test_refusals_come_as_the_clients_exceptions(
    served: Served, given: dict, status: int, said: str
) -> None:
    """With the pool's words in the body."""
    asked = {"model": "ranker", "query": "w4", "documents": ["w5"], **given}
    with pytest.raises(ApiError) as caught:
        await ask_first(served, lambda client: client.rerank(**asked))

    assert caught.value.status_code == status
    assert said in caught.value.body["error"]["message"]


async def test_a_customer_without_units_is_told_so(served: Served) -> None:
    """As the error that the client has for it."""
    with pytest.raises(cohere.TooManyRequestsError) as caught:
        await ask_first(
            served,
            lambda client: client.rerank(
                model="ranker",
                query="w4",
                documents=["w5"],
                request_options={"max_retries": 0},
            ),
            served.poor_key,
        )

    assert caught.value.body["error"]["code"] == "insufficient_quota"
