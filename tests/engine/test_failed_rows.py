"""A row without a finite result fails alone, the same way everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_bert import packed, random_rows

from gpu_worker.engine import Engine

Open = Callable[..., Engine]


@pytest.fixture
def poisoned(tiny: Path) -> Path:
    """The tiny model, but token 99 is out of range and token 98 overflows after the norm."""
    path = tiny / "model.safetensors"
    tensors = load_file(path)
    tensors["embeddings.word_embeddings.weight"] = np.array(
        tensors["embeddings.word_embeddings.weight"]
    )
    tensors["embeddings.word_embeddings.weight"][99] = 2.0**63.9
    tensors["embeddings.position_embeddings.weight"] = np.array(
        tensors["embeddings.position_embeddings.weight"]
    )
    tensors["embeddings.position_embeddings.weight"][1] = 2.0**63.5
    save_file(tensors, path)
    return tiny


@pytest.mark.parametrize("numerics", ["exact16", "exact8"])
def test_a_failed_row_is_zero_and_touches_no_other(
    open_engine: Open, poisoned: Path, numerics: str
) -> None:
    """Token 99 at position 1 adds up to more than 2^64."""
    good = [[1, 2, 3], [5], [7, 98, 4, 4]]
    engine = open_engine(poisoned, numerics, threads=2)
    (alone,) = engine.run("embed", *packed(good), 10)
    rows = [good[0], [3, 99, 5], good[1], good[2], [99, 99]]
    chunks = list(engine.run("embed", *packed(rows), 2))

    assert alone.failed == ()
    assert [chunk.failed for chunk in chunks] == [(1,), (), (0,)]
    values = np.concatenate([chunk.values for chunk in chunks])
    assert values[1].tobytes() == bytes(4 * 32)
    assert values[4].tobytes() == bytes(4 * 32)
    assert values[[0, 2, 3]].tobytes() == alone.values.tobytes()


def test_weights_that_overflow_fail_every_row(open_engine: Open, tiny: Path) -> None:
    """Finite weights may still lead beyond the range; no warning, no exception, no row."""
    path = tiny / "model.safetensors"
    tensors = load_file(path)
    name = "encoder.layer.0.intermediate.dense.weight"
    tensors[name] = tensors[name] * np.float32(2.0**64)
    save_file(tensors, path)
    (chunk,) = open_engine(tiny, threads=1).run("embed", *packed(random_rows(1, 6, 20)), 10)

    assert chunk.failed == (0, 1, 2, 3, 4, 5)
    assert not chunk.values.any()
