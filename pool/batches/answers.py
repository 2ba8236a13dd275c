"""Answers in OpenAI's shape, from the bytes of result rows."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pool.batches.floattext import shortest_decimals

NON_FINITE = {
    "error": {
        "message": "the model gives a value that is not finite for this input, on any machine: "
        "change the input",
        "type": "server_error",
        "param": None,
        "code": "non_finite_result",
    }
}


class Rows:
    """Results of some rows: uint8 [rows, row bytes]. Numbers are written on first use."""

    def __init__(self, values: NDArray[np.uint8]) -> None:
        self._values = values
        self._decimals: list[list[float]] | None = None

    def floats(self, row: int) -> msgspec.Raw:
        """One row of float32 as a JSON list."""
        if self._decimals is None:
            flat = self._values.reshape(-1).view("<f4").astype(np.float32, copy=False)
            self._decimals = shortest_decimals(flat).reshape(len(self._values), -1).tolist()
        return msgspec.Raw(msgspec.json.encode(self._decimals[row]))

    def base64(self, row: int) -> str:
        """One row's bytes in base64."""
        return b64encode(self._values[row].tobytes()).decode("ascii")

    def hex(self, row: int) -> str:
        """One row's bytes in hexadecimal."""
        return str(self._values[row].tobytes().hex())


def answer_body(
    endpoint: str, model: str, rows: Sequence[tuple[Rows, int]], tokens: int, *, base64: bool
) -> dict[str, Any]:
    """The body of a 200 answer; ``rows`` are (results, row) in the order of the inputs."""
    data: list[dict[str, Any]] = []
    for index, (results, row) in enumerate(rows):
        if endpoint == "/v1/digests":
            data.append({"object": "digest", "index": index, "digest": results.hex(row)})
        else:
            value = results.base64(row) if base64 else results.floats(row)
            data.append({"object": "embedding", "index": index, "embedding": value})
    return {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
