"""Scores and classes as they are written: exact bytes, ties, extremes."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.batches.answers import AnswerShape, Rows, answer_body
from pool.batches.endpoints import endpoint_of, labels_of, probability_of
from pool.batches.lines import Line
from pool.batches.probabilities import probabilities
from stratum.manifest import BLAKE2B, Manifest

RANKER = AnswerShape(endpoint="/v1/rerank", model="ranker", probability="sigmoid")
MOOD = AnswerShape(
    endpoint="/v1/classify",
    model="mood",
    labels=("sad", "calm", "glad"),
    probability="softmax",
)


def rows_of(logits: list[list[float]]) -> list[tuple[Rows, int]]:
    """Results as they come from the log."""
    values = np.array(logits, dtype="<f4")
    results = Rows(values.view(np.uint8).reshape(len(values), -1))
    return [(results, row) for row in range(len(values))]


def reranked(logits: list[float], **line: object) -> dict:
    """The answer to a rerank request whose documents got these logits."""
    about = Line(number=1, custom_id="c", rows=len(logits), tokens=5, **line)
    return answer_body(RANKER, "x", about, rows_of([[logit] for logit in logits]))


def indices(answer: dict) -> list[int]:
    """Documents in the order of the answer."""
    return [result["index"] for result in answer["results"]]


def manifest(**changes: object) -> Manifest:
    """A manifest with these changes."""
    return msgspec.structs.replace(BLAKE2B, **changes)


def test_the_exact_bytes_of_a_ranking() -> None:
    """What customers' tools may have learned to read stays as it is."""
    answer = reranked([-1.5, 2.25], documents=("first", "second"))

    assert msgspec.json.encode(answer) == (
        b'{"id":"rerank-x","model":"ranker","results":['
        b'{"index":1,"relevance_score":0.9046505,"document":{"text":"second"}},'
        b'{"index":0,"relevance_score":0.18242553,"document":{"text":"first"}}],'
        b'"meta":{"billed_units":{"search_units":1}},'
        b'"usage":{"prompt_tokens":5,"total_tokens":5}}'
    )


def test_the_exact_bytes_of_a_classification() -> None:
    """The label is that of the largest value."""
    line = Line(number=1, custom_id="c", rows=2, tokens=7)
    answer = answer_body(MOOD, "x", line, rows_of([[0.0, 1.0, 2.0], [3.0, 3.0, -50.0]]))

    assert msgspec.json.encode(answer) == (
        b'{"id":"classify-x","object":"list","model":"mood","data":['
        b'{"index":0,"label":"glad","probs":[0.09003057,0.24472848,0.66524094],"num_classes":3},'
        b'{"index":1,"label":"sad","probs":[0.5,0.5,4.8e-24],"num_classes":3}],'
        b'"usage":{"prompt_tokens":7,"total_tokens":7}}'
    ).replace(b"4.8e-24", str(np.float32(math.exp(-53) / 2)).encode())


def test_equal_scores_keep_the_order_of_the_documents() -> None:
    """And near-equal ones near 1 are told apart by their logits."""
    assert indices(reranked([0.5, 0.5, 0.75, 0.5])) == [2, 0, 1, 3]
    answer = reranked([40.0, 41.0, 39.0, 41.0])
    assert indices(answer) == [1, 3, 0, 2]
    assert {result["relevance_score"] for result in answer["results"]} == {1.0}


@pytest.mark.parametrize(("top_n", "expected"), [(None, 3), (1, 1), (3, 3), (9, 3)])
def test_top_n_leaves_the_best(top_n: int | None, expected: int) -> None:
    """All of them when it is more than there are."""
    answer = reranked([0.25, 0.75, 0.5], top_n=top_n)

    assert indices(answer) == [1, 2, 0][:expected]
    assert "document" not in answer["results"][0]


@pytest.mark.parametrize(("documents", "searches"), [(1, 1), (100, 1), (101, 2), (2048, 21)])
def test_a_search_is_a_query_with_a_hundred_documents(documents: int, searches: int) -> None:
    """As Cohere counts them."""
    answer = reranked([0.0] * documents)

    assert answer["meta"] == {"billed_units": {"search_units": searches}}


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_better_logit_never_scores_less(logits: list[float]) -> None:
    """Over the whole range of float32, and always from 0 to 1."""
    answer = reranked(logits)

    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0.0 <= score <= 1.0 for score in scores)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_softmax_adds_up_to_one_whatever_the_logits(logits: list[float]) -> None:
    """Also where their exponentials would overflow."""
    found = probabilities(np.array([logits], dtype=np.float32), "softmax")

    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.all(found >= 0)


@given(st.floats(-700, 700, width=32))
def test_the_sigmoid_is_the_formula(logit: float) -> None:
    """To the last bits of float64, from both sides."""
    found = probabilities(np.array([[logit]], dtype=np.float32), "sigmoid")[0, 0]

    assert found == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-15)


def test_rows_of_one_chunk_are_normalised_each_by_itself() -> None:
    """A neighbour's logits leave no trace."""
    line = Line(number=1, custom_id="c", rows=1, tokens=1)
    both = rows_of([[0.0, 1.0, 2.0], [900.0, -900.0, 0.0]])
    alone = rows_of([[0.0, 1.0, 2.0]])

    assert answer_body(MOOD, "x", line, both[:1]) == answer_body(MOOD, "x", line, alone)


def test_labels_are_the_manifests_or_numbered() -> None:
    """And models that do not classify have none."""
    three = manifest(operations=("classify",), width=3)

    assert labels_of(three) == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert labels_of(msgspec.structs.replace(three, labels=("a", "b", "c"))) == ("a", "b", "c")
    assert labels_of(manifest(operations=("embed",), width=3)) == ()


def test_a_manifest_that_is_silent_means_what_is_usual() -> None:
    """One logit through the sigmoid, several through softmax; nonsense is no guess."""
    score, classify = ("score",), ("classify",)
    independent = manifest(operations=classify, width=2, config={"probability": "sigmoid"})

    assert probability_of(manifest(operations=score, width=1)) == "sigmoid"
    assert probability_of(manifest(operations=classify, width=2)) == "softmax"
    assert probability_of(independent) == "sigmoid"
    with pytest.raises(ValueError, match="'tanh'"):
        probability_of(msgspec.structs.replace(independent, config={"probability": "tanh"}))


def test_vectors_are_no_logits() -> None:
    """Whatever the manifest of a model that embeds says about probabilities."""
    embedder = manifest(operations=("embed",), width=4, config={"probability": "none"})

    assert probability_of(embedder) is None


def test_a_model_without_a_route_has_none() -> None:
    """An operation that only rigs know."""
    assert endpoint_of(("score",)) == "/v1/rerank"
    assert endpoint_of(("other",)) is None
