"""Random small BERT checkpoints, the same on every machine for one seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file


def _draw(rng: np.random.Generator, shape: tuple[int, ...], spread: float) -> NDArray[np.float32]:
    """Near-normal float32 numbers from integers alone: sums of twelve uniform ones."""
    steps = rng.integers(-(1 << 15), 1 << 15, (12, *shape)).sum(axis=0)
    return (steps.astype(np.float32) * np.float32(2.0**-15)) * np.float32(spread / 2)


def write_tiny_bert(
    folder: Path,
    *,
    seed: int = 1,
    layers: int = 2,
    hidden: int = 32,
    heads: int = 4,
    intermediate: int = 64,
    vocabulary: int = 100,
    positions: int = 64,
    pooling: str = "mean",
    normalise: bool = True,
    spread: float = 0.2,
    eps: float = 1e-12,
    **changes: Any,
) -> Path:
    """Write a folder in the sentence-transformers layout; ``changes`` go into config.json."""
    rng = np.random.Generator(np.random.PCG64(seed))
    tensors: dict[str, NDArray[np.float32]] = {}

    def dense(name: str, out: int, width: int) -> None:
        tensors[f"{name}.weight"] = _draw(rng, (out, width), spread)
        tensors[f"{name}.bias"] = _draw(rng, (out,), 0.1)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = _draw(rng, (hidden,), 0.3) + np.float32(1)
        tensors[f"{name}.bias"] = _draw(rng, (hidden,), 0.1)

    for name, rows in (
        ("word", vocabulary),
        ("position", positions),
        ("token_type", 2),
    ):
        tensors[f"embeddings.{name}_embeddings.weight"] = _draw(rng, (rows, hidden), 0.5)
    norm("embeddings.LayerNorm")
    for index in range(layers):
        layer = f"encoder.layer.{index}"
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", hidden, hidden)
        dense(f"{layer}.attention.output.dense", hidden, hidden)
        norm(f"{layer}.attention.output.LayerNorm")
        dense(f"{layer}.intermediate.dense", intermediate, hidden)
        dense(f"{layer}.output.dense", hidden, intermediate)
        norm(f"{layer}.output.LayerNorm")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "type_vocab_size": 2,
        "layer_norm_eps": eps,
        "position_embedding_type": "absolute",
    } | changes
    (folder / "config.json").write_text(json.dumps(config))
    kinds = ["Transformer", "Pooling"] + (["Normalize"] if normalise else [])
    modules = [
        {
            "idx": place,
            "name": str(place),
            "path": f"{place}_{kind}" if place else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for place, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {f"pooling_mode_{mode}": False for mode in ("cls_token", "mean_tokens", "max_tokens")}
    modes["pooling_mode_cls_token" if pooling == "cls" else "pooling_mode_mean_tokens"] = True
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    return folder


def random_rows(seed: int, rows: int, longest: int, vocabulary: int = 100) -> list[list[int]]:
    """Rows of 1 to ``longest`` tokens."""
    rng = np.random.Generator(np.random.PCG64(seed))
    lengths = rng.integers(1, longest + 1, rows)
    return [rng.integers(0, vocabulary, int(length)).tolist() for length in lengths]


def packed(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Lengths and tokens as the engine takes them."""
    lengths = np.array([len(row) for row in rows], np.uint32)
    return lengths, np.array([token for row in rows for token in row], np.uint32)
