"""Every family, head and pooling beside stored outputs of transformers: no torch is needed."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from zoo import (
    MODELS,
    TOLERANCE,
    VECTORS,
    Model,
    add_pooling,
    add_tokenizer,
    difference,
    longest_row,
    rows_of,
    settings_of,
    stored_variants,
    write_checkpoint,
)


def stored(model: Model) -> dict[str, Any]:
    vectors: dict[str, Any] = json.loads((VECTORS / f"{model.name}.json").read_text())
    return vectors


def outputs(vectors: dict[str, Any], name: str, rows: int) -> NDArray[np.float32]:
    return np.frombuffer(b64decode(vectors["outputs"][name]), "<f4").reshape(rows, -1)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_stored_outputs(model: Model, tmp_path: Path, compute_rows: Callable[..., Any]) -> None:
    """exact16 within 2e-4, relative to the row's largest value; float32 within 1e-5.

    The second leaves no room for a mistake in the order of things that noise would hide.
    """
    vectors = stored(model)
    folder = write_checkpoint(tmp_path / "model", vectors["config"], vectors["shapes"], 0)
    rows = rows_of(0, settings_of(model, 0)["vocab_size"], longest_row(model, 0))
    add_tokenizer(folder, model.family)
    for pooling, normalise in stored_variants(model):
        if pooling != "head":
            add_pooling(folder, pooling, normalise)
        wanted = outputs(vectors, f"{pooling} normalised" if normalise else pooling, len(rows))
        for numerics, most in (("exact16", TOLERANCE), ("float32", 1e-5)):
            got = compute_rows(folder, rows, numerics)

            assert difference(got, wanted, pooling == "head") < most


@pytest.mark.parametrize(
    ("numerics", "most"),
    [
        ("exact13", 1e-3), ("exact8w", 5e-2), ("exact8", 1e-1),
        ("float16", 5e-3), ("bfloat16", 2e-2),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["bert", "modernbert", "distilbert-classify"])
def test_other_numerics_stay_close(
    name: str, numerics: str, most: float, tmp_path: Path, compute_rows: Callable[..., Any]
) -> None:
    """As far as their integers and floats go."""
    (model,) = (model for model in MODELS if model.name == name)
    vectors = stored(model)
    folder = write_checkpoint(tmp_path / "model", vectors["config"], vectors["shapes"], 0)
    rows = rows_of(0, settings_of(model, 0)["vocab_size"], longest_row(model, 0))
    pooling = "head" if model.labels else "mean"
    if pooling == "mean":
        add_pooling(folder, "mean", False)
    got = compute_rows(folder, rows, numerics)

    assert difference(got, outputs(vectors, pooling, len(rows)), bool(model.labels)) < most
