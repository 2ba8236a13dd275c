"""The cheat's engine: an ordinary engine to its rig, a liar to the pool."""

from __future__ import annotations

import numpy as np

from gpu_worker.engine import Chunk, Engine
from pool.demo.cheat import LyingEngine


class CountingEngine(Engine):
    """Gives row ``n`` a vector that tells n."""

    width, dtype = 3, "<f4"
    closed = False

    def run(self, operation, lengths, tokens, rows_per_chunk):
        for first in range(0, len(lengths), rows_per_chunk):
            rows = range(first, min(first + rows_per_chunk, len(lengths)))
            values = np.array([[1.0, row, row * row] for row in rows], dtype=np.float32)
            yield Chunk(first, values / np.linalg.norm(values, axis=1, keepdims=True), (first,))

    def close(self):
        self.closed = True


def rows_of(engine, rows, chunk):
    lengths = np.full(rows, 4, dtype=np.uint32)
    tokens = np.zeros(rows * 4, dtype=np.uint32)
    return list(engine.run("embed", lengths, tokens, chunk))


def test_one_row_of_five_is_false_over_all_chunks_and_shares():
    """Two shares in chunks of four: the count goes on."""
    true = np.concatenate([c.values for c in rows_of(CountingEngine(), 8, 4)] * 2)
    engine = LyingEngine(CountingEngine())
    told = np.concatenate([c.values for _ in range(2) for c in rows_of(engine, 8, 4)])
    false = [row for row in range(16) if not np.array_equal(true[row], told[row])]

    assert false == [2, 3, 12, 13]


def test_everything_but_the_values_is_the_inner_engines_own():
    """Positions and failed rows pass through, and closing closes."""
    inner = CountingEngine()
    engine = LyingEngine(inner)
    chunks = rows_of(engine, 8, 4)
    engine.close()

    assert [(c.first_row, c.failed) for c in chunks] == [(0, (0,)), (4, (4,))]
    assert (engine.width, engine.dtype, inner.closed) == (3, "<f4", True)
