"""Answers in the shapes that customers' clients read, from the bytes of result rows.

Embeddings are in OpenAI's shape, reranking in Cohere's and Jina's, classification in vLLM's.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pool.batches.endpoints import OPERATIONS, Probability
from pool.batches.floattext import shortest_decimals
from pool.batches.lines import Line
from pool.batches.probabilities import probabilities

# What Cohere counts as one search: a query with at most so many documents.
_DOCUMENTS_PER_SEARCH = 100

NON_FINITE = {
    "error": {
        "message": "the model gives a value that is not finite for this input, on any machine: "
        "change the input",
        "type": "server_error",
        "param": None,
        "code": "non_finite_result",
    }
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerShape:
    """What the answers of one job look like.

    ``model`` is the name that the customer wrote; ``labels`` name the values of a ``classify``
    result; ``probability`` says how logits become probabilities, where results are logits.
    """

    endpoint: str
    model: str
    labels: tuple[str, ...] = ()
    probability: Probability | None = None


class Rows:
    """Results of some rows: uint8 [rows, row bytes]. Numbers are written on first use."""

    def __init__(self, values: NDArray[np.uint8]) -> None:
        self._values = values
        self._decimals: list[list[float]] | None = None
        self._probabilities: list[list[float]] | None = None

    def floats(self, row: int) -> msgspec.Raw:
        """One row of float32 as a JSON list."""
        if self._decimals is None:
            self._decimals = _decimals(self._float32())
        return msgspec.Raw(msgspec.json.encode(self._decimals[row]))

    def base64(self, row: int) -> str:
        """One row's bytes in base64."""
        return b64encode(self._values[row].tobytes()).decode("ascii")

    def hex(self, row: int) -> str:
        """One row's bytes in hexadecimal."""
        return str(self._values[row].tobytes().hex())

    def logits(self, row: int) -> list[float]:
        """One row of float32 as numbers."""
        logits: list[float] = self._values[row].view("<f4").tolist()
        return logits

    def probabilities(self, row: int, kind: Probability | None) -> list[float]:
        """The probabilities of one row of logits, as the decimals that are written.

        They are computed in float64 and written as the nearest float32, so that the last bits of
        a machine's exponential function do not show: the same batch gives the same bytes.
        """
        if self._probabilities is None:
            assert kind is not None  # the model's results are logits
            values = probabilities(self._float32(), kind)
            self._probabilities = _decimals(values.astype(np.float32))
        return self._probabilities[row]

    def _float32(self) -> NDArray[np.float32]:
        flat = self._values.reshape(-1).view("<f4").astype(np.float32, copy=False)
        return flat.reshape(len(self._values), -1)


def answer_body(
    shape: AnswerShape, name: str, line: Line, rows: Sequence[tuple[Rows, int]]
) -> dict[str, Any]:
    """The body of a 200 answer.

    ``name`` is what answers with an id are called; ``rows`` are (results, row) in the order of
    the inputs.
    """
    usage = {"prompt_tokens": line.tokens, "total_tokens": line.tokens}
    operation = OPERATIONS[shape.endpoint]
    if operation == "score":
        return _reranked(shape, name, line, rows) | {"usage": usage}
    if operation == "classify":
        data = [_classified(shape, index, *at) for index, at in enumerate(rows)]
        head = {"id": f"classify-{name}", "object": "list"}
        return head | {"model": shape.model, "data": data, "usage": usage}
    data = []
    for index, (results, row) in enumerate(rows):
        if operation == "digest":
            data.append({"object": "digest", "index": index, "digest": results.hex(row)})
        else:
            value = results.base64(row) if line.base64 else results.floats(row)
            data.append({"object": "embedding", "index": index, "embedding": value})
    return {"object": "list", "data": data, "model": shape.model, "usage": usage}


def _reranked(
    shape: AnswerShape, name: str, line: Line, rows: Sequence[tuple[Rows, int]]
) -> dict[str, Any]:
    # By the logits, which differ where probabilities that are close to 1 do not.
    logits = [results.logits(row)[0] for results, row in rows]
    order = sorted(range(len(rows)), key=lambda index: (-logits[index], index))
    found: list[dict[str, Any]] = []
    for index in order[: line.top_n]:
        results, row = rows[index]
        score = results.probabilities(row, shape.probability)[0]
        result: dict[str, Any] = {"index": index, "relevance_score": score}
        if line.documents is not None:
            result["document"] = {"text": line.documents[index]}
        found.append(result)
    searches = -(-len(rows) // _DOCUMENTS_PER_SEARCH)
    return {
        "id": f"rerank-{name}",
        "model": shape.model,
        "results": found,
        "meta": {"billed_units": {"search_units": searches}},
    }


def _classified(shape: AnswerShape, index: int, results: Rows, row: int) -> dict[str, Any]:
    logits = results.logits(row)
    return {
        "index": index,
        "label": shape.labels[logits.index(max(logits))],
        "probs": results.probabilities(row, shape.probability),
        "num_classes": len(logits),
    }


def _decimals(values: NDArray[np.float32]) -> list[list[float]]:
    """float32 [rows, width] as the shortest decimals."""
    decimals = shortest_decimals(values.reshape(-1))
    rows: list[list[float]] = decimals.reshape(len(values), -1).tolist()
    return rows
