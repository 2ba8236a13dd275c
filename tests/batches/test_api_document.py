"""The requests that docs/API.md shows are requests that the pool serves."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from intake_cases import all_models

from pool.batches.endpoints import OPERATIONS
from pool.batches.reading import read_request
from pool.batches.requests import Request

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "API.md"
SHOWN = re.findall(
    r"^curl http://[^/]+(/\S+) .*?-d '(.*?)'$",
    DOCUMENT.read_text("utf-8"),
    re.DOTALL | re.MULTILINE,
)
SERVED_BY = {"embed": "ask", "score": "ranker", "classify": "mood"}


def test_every_operation_with_a_real_model_is_shown() -> None:
    """One example each."""
    assert [OPERATIONS[url] for url, _ in SHOWN] == list(SERVED_BY)


@pytest.mark.parametrize(("url", "body"), SHOWN)
def test_a_request_that_is_shown_is_read(tmp_path: Path, url: str, body: str) -> None:
    """Copied as it stands, for a model of the kind."""
    model = all_models(tmp_path)[SERVED_BY[OPERATIONS[url]]]

    assert isinstance(read_request(msgspec.json.decode(body), url, model), Request)
