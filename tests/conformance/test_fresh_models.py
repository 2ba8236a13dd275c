"""Every family, head and pooling beside transformers, on random tiny models.

Runs with ``make conformance``. CONFORMANCE_SEED draws other shapes and weights; a difference a
little above the bound is then a badly conditioned model rather than a mistake.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from zoo import (
    MODELS,
    TOLERANCE,
    Model,
    add_pooling,
    add_tokenizer,
    difference,
    longest_row,
    rows_of,
    settings_of,
    variants,
)

pytest.importorskip("torch", reason="compared by make conformance")

SEED = int(os.environ.get("CONFORMANCE_SEED", "1"))


@pytest.mark.parametrize("seed", range(SEED, SEED + 3))
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_results_agree_with_transformers(
    model: Model,
    seed: int,
    tmp_path: Path,
    compute_rows: Callable[..., Any],
    note_difference: Callable[[str, float], None],
) -> None:
    """Within 2e-4 of float64, relative to the row's largest value; float32 within 1e-5."""
    from reference import compute, save_model

    folder = tmp_path / "model"
    made = save_model(folder, model, seed)
    add_tokenizer(folder, model.family)
    rows = rows_of(seed, settings_of(model, seed)["vocab_size"], longest_row(model, seed))
    for pooling, normalise in variants(model):
        if pooling != "head":
            add_pooling(folder, pooling, normalise)
        wanted = compute(made, rows, pooling, normalise)
        worst = difference(compute_rows(folder, rows), wanted, pooling == "head")
        note_difference(f"{model.name}, {pooling}{' normalised' * normalise}", worst)

        assert worst < TOLERANCE, f"{model.name}, {pooling}, seed {seed}: {worst:.2e}"
    worst = difference(compute_rows(folder, rows, "float32"), wanted, pooling == "head")
    note_difference(f"{model.name}, {pooling}, float32", worst)

    assert worst < 1e-5, f"{model.name}, {pooling}, seed {seed}, float32: {worst:.2e}"


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_checkpoints_in_several_files(
    family: str, tmp_path: Path, compute_rows: Callable[..., Any]
) -> None:
    """As transformers cuts them: the results' bytes are those of the single file."""
    from reference import save_model

    (model,) = (model for model in MODELS if model.name == family)
    rows = rows_of(1, settings_of(model, 1)["vocab_size"], longest_row(model, 1))
    save_model(tmp_path / "whole", model, 1)
    save_model(tmp_path / "parts", model, 1, max_shard_size="20KB")
    got = [compute_rows(tmp_path / name, rows).tobytes() for name in ("whole", "parts")]

    assert len(list((tmp_path / "parts").glob("model-*.safetensors"))) > 1
    assert got[0] == got[1]


def test_long_rows_of_modernbert(
    tmp_path: Path, compute_rows: Callable[..., Any], note_difference: Callable[[str, float], None]
) -> None:
    """Published head width, window and bases, at positions far beyond the window."""
    from reference import compute, save_model

    settings = {
        "hidden_size": 128, "num_attention_heads": 2, "num_hidden_layers": 4,
        "intermediate_size": 96, "max_position_embeddings": 2048, "local_attention": 128,
        "global_attn_every_n_layers": 3,
    }  # fmt: skip
    model = Model("modernbert-long", "modernbert", settings=settings)
    made = save_model(tmp_path / "model", model, 1)
    rows = [row for row in rows_of(1, 60, 2048) if len(row) in (512, 2048)]
    add_pooling(tmp_path / "model", "cls", False)
    worst = difference(
        compute_rows(tmp_path / "model", rows), compute(made, rows, "cls", False), False
    )
    note_difference("modernbert, 2048 tokens, cls", worst)

    assert [len(row) for row in rows] == [512, 2048]
    assert worst < TOLERANCE


def test_rotary_tables_are_those_of_transformers() -> None:
    """The same float32 frequencies for published shapes; cosines and sines to the last bit."""
    import numpy as np
    import torch

    from gpu_worker.engine.registration.rope import inverse_frequencies, rope_tables

    for theta in (10_000.0, 160_000.0):
        frequencies = 1.0 / (theta ** (torch.arange(0, 64, 2, dtype=torch.float) / 64))
        angles = torch.arange(8192, dtype=torch.float)[:, None] * frequencies
        cos, sin = rope_tables(theta, 64, 8192)

        assert np.array_equal(inverse_frequencies(theta, 64), frequencies.numpy())
        assert np.abs(cos - angles.cos().numpy()).max() <= 2.0**-24
        assert np.abs(sin - angles.sin().numpy()).max() <= 2.0**-24
