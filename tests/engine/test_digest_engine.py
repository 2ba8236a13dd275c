"""The built-in model without weights."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pytest

from gpu_worker.engine import EngineError, load_engine

MANIFEST = {
    "architecture": "blake2b",
    "operations": ["digest"],
    "numerics": "none",
    "width": 32,
    "dtype": "|u1",
    "max_tokens": 8192,
    "vocabulary": 1 << 32,
}


def test_a_row_is_the_blake2b_of_its_tokens() -> None:
    """32 bytes over the ids as little-endian uint32, in chunks."""
    rows = [[1, 2, 3], [0xFFFFFFFF], [7] * 8192]
    engine = load_engine(MANIFEST, {})
    tokens = np.array([token for row in rows for token in row], np.uint32)
    chunks = list(engine.run("digest", np.array([3, 1, 8192], np.uint32), tokens, 2))
    wanted = [
        blake2b(b"".join(token.to_bytes(4, "little") for token in row), digest_size=32).digest()
        for row in rows
    ]

    assert (engine.width, engine.dtype) == (32, "|u1")
    assert [(chunk.first_row, chunk.values.shape) for chunk in chunks] == [
        (0, (2, 32)),
        (2, (1, 32)),
    ]
    assert [bytes(row) for chunk in chunks for row in chunk.values] == wanted
    engine.close()


def test_wrong_rows_and_operations_are_refused() -> None:
    engine = load_engine(MANIFEST, {}, backend="auto")
    one = np.array([1], np.uint32)
    with pytest.raises(EngineError, match="supported: digest"):
        engine.run("embed", one, one, 1)
    with pytest.raises(EngineError, match="row 0 is empty"):
        engine.run("digest", np.array([0], np.uint32), np.array([], np.uint32), 1)
    with pytest.raises(EngineError, match="width is 16; this model gives 32"):
        load_engine(MANIFEST | {"width": 16}, {})
