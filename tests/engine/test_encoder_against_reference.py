"""The whole lane against a plain float64 forward pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from reference_bert import ReferenceBert
from tiny_bert import packed, random_rows, write_tiny_bert

from gpu_worker.engine import Engine

Open = Callable[..., Engine]


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"layers": 1, "hidden": 8, "heads": 1, "intermediate": 8},
        {"layers": 3, "hidden": 96, "heads": 12, "intermediate": 200, "spread": 0.1, "seed": 5},
        {"pooling": "cls", "seed": 6},
        {"normalise": False, "seed": 7},
        {"pooling": "cls", "normalise": False, "eps": 1e-5, "seed": 8},
        {"hidden": 64, "heads": 2, "intermediate": 1500, "spread": 0.1, "seed": 9},
    ],
)
def test_random_models_agree(open_engine: Open, tmp_path: Path, shape: dict[str, int]) -> None:
    """exact16 within 2e-4 of float64, relative to the row's largest value."""
    folder = write_tiny_bert(tmp_path / "model", **shape)  # type: ignore[arg-type]
    rows = random_rows(1, 25, 64)
    engine = open_engine(folder, threads=1)
    (chunk,) = engine.run("embed", *packed(rows), 100)
    reference = ReferenceBert(folder)
    pooling = str(shape.get("pooling", "mean"))
    normalise = bool(shape.get("normalise", True))

    for row, got in zip(rows, chunk.values, strict=True):
        wanted = reference.embed(row, pooling, normalise)
        assert np.abs(got - wanted).max() < 2e-4 * np.abs(wanted).max()


def test_exact8_is_coarser_but_close(open_engine: Open, tiny: Path) -> None:
    """Eight bits: a cosine of 0.999 and better on a random model."""
    rows = random_rows(2, 25, 64)
    (chunk,) = open_engine(tiny, "exact8", threads=1).run("embed", *packed(rows), 100)
    reference = ReferenceBert(tiny)

    for row, got in zip(rows, chunk.values, strict=True):
        assert got @ reference.embed(row) > 0.999


@pytest.mark.slow
@pytest.mark.timeout(900)  # 300 take half a minute on two idle cores
@pytest.mark.parametrize("paragraphs", [40, pytest.param(300, marks=pytest.mark.long)])
def test_minilm_agrees_on_every_paragraph(
    open_engine: Open, minilm_folder: Path, paragraphs: int
) -> None:
    """all-MiniLM-L6-v2 on 300 real paragraphs: cosine at least 0.99999 on every row."""
    from tokenizers import Tokenizer

    from pool.demo.corpus import read_corpus

    tokenizer = Tokenizer.from_file(str(minilm_folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    texts = [paragraph.text for paragraph in read_corpus(300)][:paragraphs]
    texts[0] = " ".join(texts)  # one row of the greatest length
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    reference = ReferenceBert(minilm_folder, np.float32)
    wanted = np.stack([reference.embed(row) for row in rows]).astype(np.float64)
    wanted /= np.sqrt((wanted**2).sum(axis=1, keepdims=True))
    for numerics, count, least in (("exact16", paragraphs, 0.99999), ("exact8", 60, 0.98)):
        engine = open_engine(minilm_folder, numerics)
        got = np.concatenate([c.values for c in engine.run("embed", *packed(rows[:count]), 64)])
        norms = np.sqrt((got.astype(np.float64) ** 2).sum(axis=1))
        cosine = (got * wanted[:count]).sum(axis=1) / norms

        assert len(rows[0]) == 256
        assert np.abs(norms - 1).max() < 1e-6
        assert cosine.min() >= least, f"{numerics}: {cosine.min()} at row {cosine.argmin()}"
        if numerics == "exact16":
            assert 1 - cosine.min() < 1e-6
