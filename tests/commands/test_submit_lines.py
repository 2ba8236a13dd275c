"""Short lines become full ones; full ones stay as they are; nonsense is left to the pool."""

from __future__ import annotations

import json

import click
import pytest

from pool.commands.lines import Lines, expand_file

MINILM = Lines("/v1/embeddings", "minilm")


def test_a_text_becomes_a_request_named_by_its_line():
    """``{"input": …}`` is all that has to be written."""
    assert json.loads(MINILM.expand(b'{"input": "hello"}\n', 7)) == {
        "custom_id": "line-7",
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": "minilm", "input": "hello"},
    }


def test_a_name_and_the_fields_of_the_body_are_kept():
    """What the customer wrote wins over what we would add."""
    line = b'{"custom_id": "a", "input": "hello", "encoding_format": "base64"}'

    assert json.loads(MINILM.expand(line, 1)) == {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": "minilm", "input": "hello", "encoding_format": "base64"},
    }


def test_a_query_with_documents_becomes_a_request_too():
    """That is what a reranker reads; without one of the two it is left to the pool."""
    lines = Lines("/v1/rerank", "ranker")
    line = b'{"custom_id": "a", "query": "q", "documents": ["x", "y"], "top_n": 1}'

    assert json.loads(lines.expand(line, 1)) == {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/rerank",
        "body": {"model": "ranker", "query": "q", "documents": ["x", "y"], "top_n": 1},
    }
    assert lines.expand(b'{"query": "q"}', 2) == b'{"query": "q"}'


def test_a_full_line_that_names_its_model_is_not_touched():
    """Byte for byte."""
    line = b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"minilm"}}\n'

    assert MINILM.expand(line, 1) is line


def test_a_full_line_without_a_model_gets_it():
    """``--model`` speaks for every line that is silent."""
    line = b'{"custom_id":"a","method":"POST","url":"/v1/x","body":{"input":"x"}}\n'

    assert json.loads(MINILM.expand(line, 1))["body"] == {"input": "x", "model": "minilm"}


def test_a_line_that_contradicts_the_model_is_an_error_with_its_number():
    """Neither of the two is silently preferred."""
    with pytest.raises(click.ClickException, match="line 3 names model 'other'"):
        MINILM.expand(b'{"body":{"model":"other"}}', 3)


def test_a_text_without_any_model_is_an_error_that_says_what_to_add():
    """The pool would refuse it, later."""
    with pytest.raises(click.ClickException, match=r"line 2 names no model.*--model"):
        Lines("/v1/embeddings", None).expand(b'{"input":"x"}', 2)


@pytest.mark.parametrize("line", [b"{nonsense\n", b"[1,2]\n", b"\n", b'{"a":1}', b"\xff\xfe\n"])
def test_what_is_not_understood_goes_to_the_pool_as_it_is(line):
    """The pool names the line and what is wrong with it; here it would be said less well."""
    assert MINILM.expand(line, 1) is line


def test_a_file_that_needs_no_change_is_uploaded_itself(tmp_path):
    """No copy of a large file is made without need."""
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"body":{"model":"minilm"}}\n{broken\n')

    assert expand_file(source, MINILM, tmp_path / "out.jsonl") == source


def test_a_change_in_the_middle_keeps_the_lines_before_it(tmp_path):
    """Lines keep their numbers, so that the pool's errors name the customer's lines."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b'{"body":{"model":"minilm"}}\n{broken\n{"input":"x"}\n{"input":"y"}')

    assert expand_file(source, MINILM, out) == out
    lines = out.read_bytes().split(b"\n")
    assert lines[:2] == [b'{"body":{"model":"minilm"}}', b"{broken"]
    assert [json.loads(line)["custom_id"] for line in lines[2:]] == ["line-3", "line-4"]
