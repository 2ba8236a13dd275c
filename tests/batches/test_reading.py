"""Requests for reranking, classification and prompts: what is taken, what is refused, and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from intake_cases import MAX_TOKENS, all_models, body_line, lines_of, rows_of, run_intake

from pool.batches import reading
from pool.batches.intake import IntakeReport
from pool.batches.reading import read_request
from pool.batches.requests import Refusal, Request

CLS, SEP = 2, 3


def take(folder: Path, url: str, bodies: list[dict]) -> IntakeReport:
    """Take a batch of these bodies in."""
    lines = [body_line(number, body, url) for number, body in enumerate(bodies)]
    return run_intake(folder, lines, endpoint=url)


def rerank(**changes: object) -> dict:
    """A good request, changed; a field that is None is left out."""
    body = {"model": "ranker", "query": "w4", "documents": ["w5"], **changes}
    return {name: value for name, value in body.items() if value is not None}


def refusal_of(folder: Path, body: dict, url: str) -> Refusal:
    """Why a request is refused."""
    found = read_request(body, url, all_models(folder)[body["model"]])
    assert isinstance(found, Refusal), found
    return found


@pytest.mark.parametrize("url", ["/v1/rerank", "/v2/rerank"])
def test_each_document_is_a_row_with_the_query_before_it(tmp_path: Path, url: str) -> None:
    """Joined as the tokenizer joins pairs, in the order of the documents."""
    bodies = [
        rerank(query="w4 w5", documents=["w6", {"text": "w7 w8", "title": "w9"}]),
        rerank(documents=["w10"], top_n=1, return_documents=True),
    ]
    report = take(tmp_path, url, bodies)

    assert rows_of(report) == [
        [CLS, 4, 5, SEP, 6, SEP],
        [CLS, 4, 5, SEP, 7, 8, SEP],
        [CLS, 4, SEP, 10, SEP],
    ]
    first, second = lines_of(report)
    assert (first.rows, first.tokens, first.top_n, first.documents) == (2, 13, None, None)
    assert (second.rows, second.tokens, second.top_n) == (1, 5, 1)
    assert second.documents == ("w10",)


def test_pairs_are_cut_from_the_longer_text_unless_that_is_refused(tmp_path: Path) -> None:
    """Both texts keep something: three special tokens leave five for them here."""
    long, short = "w5 " * 20, "w4"
    bodies = [
        rerank(query=short, documents=[long]),
        rerank(query=long, documents=[short]),
        rerank(query=long, documents=[long]),
        rerank(query=short, documents=[long], truncate=False),
    ]
    report = take(tmp_path, "/v1/rerank", bodies)

    assert rows_of(report) == [
        [CLS, 4, SEP, 5, 5, 5, 5, SEP],
        [CLS, 5, 5, 5, 5, SEP, 4, SEP],
        [CLS, 5, 5, SEP, 5, 5, 5, SEP],
    ]
    assert all(len(row) == MAX_TOKENS for row in rows_of(report))
    refused = lines_of(report)[3].refused()
    assert refused is not None
    assert refused.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"query": None}, "query"),
        ({"query": ""}, "query"),
        ({"query": ["w4"]}, "query"),
        ({"documents": None}, "documents"),
        ({"documents": []}, "documents"),
        ({"documents": "w5"}, "documents"),
        ({"documents": ["w5", ""]}, "documents"),
        ({"documents": ["w5", 5]}, "documents"),
        ({"documents": [{"txt": "w5"}]}, "documents"),
        ({"documents": [{"text": 5}]}, "documents"),
        ({"documents": ["w5"] * 2049}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": True}, "top_n"),
        ({"top_n": "2"}, "top_n"),
        ({"return_documents": "yes"}, "return_documents"),
        ({"truncate": "yes"}, "truncate"),
        ({"user": 5}, "user"),
        ({"rank_fields": ["title"]}, "rank_fields"),
        ({"max_chunks_per_doc": 0}, "max_chunks_per_doc"),
        ({"max_tokens_per_doc": MAX_TOKENS - 1}, "max_tokens_per_doc"),
        ({"priority": 3}, "priority"),
        ({"relevant_spans": {"enabled": True}}, "relevant_spans"),
        ({"input": "w5"}, "input"),
    ],
)
def test_a_rerank_request_that_cannot_be_served_names_the_field(
    tmp_path: Path, changes: dict, param: str
) -> None:
    """The message begins with it, or says that it is unknown."""
    found = refusal_of(tmp_path, rerank(**changes), "/v1/rerank")

    assert found.param == param
    assert found.message.startswith((f"{param}: ", f"unknown parameter {param!r}"))


def test_the_entry_that_is_no_document_is_counted_out(tmp_path: Path) -> None:
    """From 0, as results are."""
    body = rerank(documents=["w5", {"text": "w6"}, {}])

    assert "entry 2" in refusal_of(tmp_path, body, "/v1/rerank").message


def test_what_cohere_clients_add_is_taken_while_it_changes_nothing(tmp_path: Path) -> None:
    """Nulls too: some clients send every field that they know."""
    for extra in (
        {"rank_fields": ["text"], "max_chunks_per_doc": 10, "max_tokens_per_doc": 4096},
        {"priority": 0, "relevant_spans": None, "top_n": None, "return_documents": None},
        {"rank_fields": None, "max_chunks_per_doc": None, "max_tokens_per_doc": None},
    ):
        body = {"model": "ranker", "query": "w4", "documents": ["w5"], **extra}
        found = read_request(body, "/v1/rerank", all_models(tmp_path)["ranker"])

        assert isinstance(found, Request), found


def test_a_long_query_does_not_make_a_small_request_enormous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts once for each document, as it is read once for each."""
    monkeypatch.setattr(reading, "MAX_PAIR_CHARACTERS", 100)
    good = rerank(query="w" * 23, documents=["w5"] * 4)
    assert isinstance(read_request(good, "/v1/rerank", all_models(tmp_path)["ranker"]), Request)

    found = refusal_of(tmp_path, rerank(query="w" * 24, documents=["w5"] * 4), "/v1/rerank")

    assert found.param == "documents"
    assert "shorten the query" in found.message


def test_every_shape_of_text_is_classified(tmp_path: Path) -> None:
    """One text, several, pairs, both together, token ids; a text that is too long is cut."""
    given = [
        "w4 w5",
        ["w4", "w5"],
        {"text": "w4", "text_pair": "w5"},
        [
            {"text": "w4"},
            {"text": "w5", "text_pair": "w6"},
            "w7",
            {"text": "w8", "text_pair": None},
        ],
        [9, 10],
        [[9], [10, 11]],
        "w4 " * 20,
    ]
    report = take(tmp_path, "/v1/classify", [{"model": "mood", "input": it} for it in given])

    assert rows_of(report) == [
        [CLS, 4, 5, SEP],
        [CLS, 4, SEP],
        [CLS, 5, SEP],
        [CLS, 4, SEP, 5, SEP],
        [CLS, 4, SEP],
        [CLS, 5, SEP, 6, SEP],
        [CLS, 7, SEP],
        [CLS, 8, SEP],
        [9, 10],
        [9],
        [10, 11],
        [CLS, *[4] * (MAX_TOKENS - 2), SEP],
    ]


@pytest.mark.parametrize(
    "given",
    [
        "",
        [],
        [""],
        {},
        {"text": ""},
        {"text_pair": "w4"},
        {"text": "w4", "text_pair": ""},
        {"text": "w4", "text_pair": 5},
        {"text": "w4", "pair": "w5"},
        ["w4", 5],
        ["w4", ["w5"]],
        [["w4", "w5"]],
    ],
)
def test_what_is_no_input_of_a_classifier_is_refused(tmp_path: Path, given: object) -> None:
    """With the shapes that there are."""
    found = refusal_of(tmp_path, {"model": "mood", "input": given}, "/v1/classify")

    assert found.param == "input"
    assert "an object with text and text_pair" in found.message


def test_embeddings_take_no_pairs(tmp_path: Path) -> None:
    """A pair is no text there."""
    body = {"model": "tiny", "input": {"text": "w4", "text_pair": "w5"}}

    assert refusal_of(tmp_path, body, "/v1/embeddings").param == "input"


def test_prompts_go_before_texts_and_never_before_token_ids(tmp_path: Path) -> None:
    """The model's own unasked, another by name, none for null."""
    bodies = [
        {"model": "ask", "input": "w4"},
        {"model": "ask", "input": ["w4", "w5"], "prompt_name": "query"},
        {"model": "ask", "input": "w4", "prompt_name": None},
        {"model": "ask", "input": [4, 5]},
        {"model": "ask", "input": [4, 5], "prompt_name": None},
    ]
    report = take(tmp_path, "/v1/embeddings", bodies)

    assert rows_of(report) == [
        [CLS, 31, 32, 4, SEP],
        [CLS, 30, 4, SEP],
        [CLS, 30, 5, SEP],
        [CLS, 4, SEP],
        [4, 5],
        [4, 5],
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"model": "ask", "prompt_name": "other"}, "'other' is no prompt of ask, which has: pas"),
        ({"model": "ask", "prompt_name": 5}, "which has: passage, query"),
        ({"model": "ask", "prompt_name": ""}, "which has: passage, query"),
        ({"model": "tiny", "prompt_name": "query"}, "is no prompt of tiny, which has: none"),
        ({"model": "ask", "prompt_name": "query", "input": [4]}, "goes with texts only"),
    ],
)  # fmt: skip
def test_a_prompt_that_is_not_there_is_refused_with_those_that_are(
    tmp_path: Path, body: dict, said: str
) -> None:
    """Also when the model has none at all."""
    found = refusal_of(tmp_path, {"input": "w4", **body}, "/v1/embeddings")

    assert found.param == "prompt_name"
    assert said in found.message


def test_only_embeddings_have_prompts(tmp_path: Path) -> None:
    """Elsewhere the field is unknown."""
    for body, url in (
        (rerank(prompt_name="query"), "/v1/rerank"),
        ({"model": "mood", "input": "w4", "prompt_name": "query"}, "/v1/classify"),
    ):
        assert refusal_of(tmp_path, body, url).code == "unknown_parameter"


@pytest.mark.parametrize(
    ("model", "url", "right"),
    [
        ("tiny", "/v1/rerank", "/v1/embeddings"),
        ("ranker", "/v1/embeddings", "/v1/rerank"),
        ("ranker", "/v1/classify", "/v1/rerank"),
        ("mood", "/v1/rerank", "/v1/classify"),
        ("blake2b", "/v2/rerank", "/v1/digests"),
    ],
)
def test_a_model_of_another_endpoint_fails_the_batch_and_names_its_own(
    tmp_path: Path, model: str, url: str, right: str
) -> None:
    """So that the customer need not look for it."""
    report = take(tmp_path, url, [{"model": model, "input": "w4"}])

    (error,) = report.errors
    assert (error.code, error.param) == ("model_mismatch", "body.model")
    assert error.message == f"the model {model!r} does not serve {url}: use {right}"
