"""The promise that carries everything: a row's bits depend on the model and the row alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_bert import packed, random_rows, write_tiny_bert

from gpu_worker.engine import Engine

numerics = pytest.mark.parametrize("numerics", ["exact16", "exact13", "exact8w", "exact8"])
Open = Callable[..., Engine]


def embed(engine: Engine, rows: Sequence[Sequence[int]], step: int = 64) -> NDArray[np.uint32]:
    """The bits of every row."""
    values = [chunk.values for chunk in engine.run("embed", *packed(rows), step)]
    return np.concatenate(values).view(np.uint32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Wide enough that exact8 splits a product, long enough that rows meet and part."""
    return write_tiny_bert(
        tmp_path / "wide", hidden=96, heads=6, intermediate=1100, positions=128, seed=3
    )


@numerics
def test_any_thread_count_and_chunk_size(open_engine: Open, model: Path, numerics: str) -> None:
    """1, 2 and 4 threads, chunks of 1, 7 and everything."""
    rows = random_rows(1, 60, 120)
    results = [
        embed(open_engine(model, numerics, threads=threads), rows, step)
        for threads, step in ((1, 64), (2, 1), (4, 7), (2, 1000))
    ]

    for other in results[1:]:
        assert np.array_equal(results[0], other)


@numerics
def test_single_rows_shuffled_rows_and_sorted_rows(
    open_engine: Open, model: Path, numerics: str
) -> None:
    """Alone, in any order, next to any neighbour, twice."""
    rows = random_rows(2, 40, 128)
    engine = open_engine(model, numerics, threads=2)
    whole = embed(engine, rows)
    order = np.random.default_rng(5).permutation(len(rows))
    by_length = np.argsort([-len(row) for row in rows], kind="stable")

    assert np.array_equal(np.concatenate([embed(engine, [row]) for row in rows]), whole)
    assert np.array_equal(embed(engine, [rows[i] for i in order]), whole[order])
    assert np.array_equal(embed(engine, [rows[i] for i in by_length]), whole[by_length])
    assert np.array_equal(embed(engine, rows + rows), np.concatenate([whole, whole]))


@numerics
def test_any_size_of_micro_batches_and_blocks(
    open_engine: Open, model: Path, numerics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sizes that speed is tuned with have no influence."""
    rows = random_rows(3, 20, 128)
    engine = open_engine(model, numerics, threads=2)
    whole = embed(engine, rows)
    for tokens, block, pairs in ((1, 500, 50), (100, 3000, 999), (10_000, 10**6, 10**6)):
        monkeypatch.setattr("gpu_worker.engine.plan.TOKENS", tokens)
        monkeypatch.setattr("gpu_worker.engine.ops_numpy.BLOCK_VALUES", block)
        monkeypatch.setattr("gpu_worker.engine.ops_numpy.PAIR_VALUES", pairs)
        monkeypatch.setattr("gpu_worker.engine.pairs.PAIRS", pairs)

        assert np.array_equal(embed(engine, rows), whole)


@numerics
def test_the_specification_itself_gives_these_bits(
    open_engine: Open, model: Path, numerics: str
) -> None:
    """The plain operations, in int64 and row by row, compute the same model."""
    from gpu_worker.engine.encoder import BertEncoder
    from gpu_worker.engine.encoderengine import EncoderEngine
    from gpu_worker.engine.layers import Weights
    from gpu_worker.engine.numerics import EXACT
    from gpu_worker.engine.ops import Ops
    from gpu_worker.engine.tensors import TensorFile

    rows = random_rows(4, 8, 100)
    fast = open_engine(model, numerics, threads=1)
    assert isinstance(fast, EncoderEngine)
    path = next(model.parent.glob(f"quantised-*-{numerics}/weights.safetensors"))
    ops = Ops(EXACT[numerics])
    config = fast._encoder.config
    slow = BertEncoder(config, Weights("bert", config, numerics, 100, TensorFile(path), ops))
    expected = [
        slow.encode(ops, np.array(row, np.uint32), [len(row)], lambda: False)[0] for row in rows
    ]

    assert np.array_equal(np.concatenate(expected).view(np.uint32), embed(fast, rows))
