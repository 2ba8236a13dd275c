"""The built-in model without weights: a row's result is the BLAKE2b of its token ids."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.interface import Chunk, Engine
from gpu_worker.engine.rows import check_rows


class DigestEngine(Engine):
    """32 bytes a row: BLAKE2b (digest size 32) over its token ids as little-endian uint32."""

    width = 32
    dtype = "|u1"

    def __init__(self, max_tokens: int, vocabulary: int) -> None:
        self._max_tokens = max_tokens
        self._vocabulary = vocabulary

    def run(
        self,
        operation: str,
        lengths: NDArray[np.uint32],
        tokens: NDArray[np.uint32],
        rows_per_chunk: int,
    ) -> Iterator[Chunk]:
        """See ``Engine.run``; the operation is ``digest``."""
        check_rows(
            operation, ("digest",), lengths, tokens, rows_per_chunk,
            self._max_tokens, self._vocabulary,
        )  # fmt: skip
        return _digests(lengths, np.ascontiguousarray(tokens, "<u4"), rows_per_chunk)

    def close(self) -> None:
        """Nothing to free."""


def _digests(lengths: NDArray[np.uint32], tokens: NDArray[np.uint32], step: int) -> Iterator[Chunk]:
    data = tokens.view(np.uint8)
    place = 0
    for first in range(0, lengths.size, step):
        own = lengths[first : first + step].tolist()
        values = np.empty((len(own), 32), np.uint8)
        for row, length in enumerate(own):
            stop = place + 4 * length
            digest = blake2b(data[place:stop].data, digest_size=32).digest()
            values[row] = np.frombuffer(digest, np.uint8)
            place = stop
        yield Chunk(first, values, ())
