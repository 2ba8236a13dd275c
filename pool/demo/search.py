"""A small semantic search over what the batch computed, for a person to judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

QUERIES = (
    "wait until another thread has finished its work",
    "make a file smaller so that it takes less space on disk",
    "pick something at random",
    "find out on which day of the week a date falls",
    "what happens when a network connection cannot be made",
)
HITS = 3


@dataclass(frozen=True, slots=True)
class Hit:
    """One of the nearest rows: its position in the batch, and the cosine to the query."""

    row: int
    cosine: float

    def at(self, row: int) -> Hit:
        """The same hit, its row counted in another order."""
        return Hit(row, self.cosine)


def search(
    queries: NDArray[np.float32], rows: NDArray[np.float32], hits: int = HITS
) -> list[list[Hit]]:
    """The ``hits`` nearest rows of each query, nearest first.

    ``queries`` float32 [queries, width], ``rows`` float32 [rows, width]; none of length zero.
    Equal cosines keep the order of the rows.
    """
    cosines = _unit(queries) @ _unit(rows).T
    return [
        [Hit(int(row), float(line[row])) for row in np.argsort(-line, kind="stable")[:hits]]
        for line in cosines
    ]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    unit: NDArray[np.float64] = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return unit
