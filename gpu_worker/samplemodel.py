"""A random model in the shape of a small sentence encoder, for measuring without a download."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

NAME: Final = "random, in the shape of all-MiniLM-L6-v2"
_HIDDEN: Final = 384
_INTERMEDIATE: Final = 1536
_LAYERS: Final = 6
_HEADS: Final = 12
_POSITIONS: Final = 512
_VOCABULARY: Final = 4096  # the original's 30,522 rows cost disk and show in no figure


def write_sample_model(folder: Path, *, seed: int = 1) -> Path:
    """Write a checkpoint in the sentence-transformers layout into ``folder``; returns it."""
    rng = np.random.Generator(np.random.PCG64(seed))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(_tensors(rng)), folder / "model.safetensors")
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": _HIDDEN,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "intermediate_size": _INTERMEDIATE,
        "vocab_size": _VOCABULARY,
        "max_position_embeddings": _POSITIONS,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
    }
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.{kind}"}
        for index, (path, kind) in enumerate(
            (("", "models.Transformer"), ("1_Pooling", "models.Pooling"))
        )
    ]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = {"word_embedding_dimension": _HIDDEN, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def _tensors(rng: np.random.Generator) -> Iterator[tuple[str, NDArray[Any]]]:
    def draw(*shape: int, spread: float = 0.05) -> NDArray[np.float32]:
        return np.float32(spread) * rng.standard_normal(shape, np.float32)

    def norm(name: str) -> Iterator[tuple[str, NDArray[Any]]]:
        yield f"{name}.weight", 1 + draw(_HIDDEN, spread=0.1)
        yield f"{name}.bias", draw(_HIDDEN, spread=0.1)

    for name, rows in (("word", _VOCABULARY), ("position", _POSITIONS), ("token_type", 2)):
        yield f"embeddings.{name}_embeddings.weight", draw(rows, _HIDDEN)
    yield from norm("embeddings.LayerNorm")
    for layer in range(_LAYERS):
        prefix = f"encoder.layer.{layer}"
        for name, out, width in (
            ("attention.self.query", _HIDDEN, _HIDDEN),
            ("attention.self.key", _HIDDEN, _HIDDEN),
            ("attention.self.value", _HIDDEN, _HIDDEN),
            ("attention.output.dense", _HIDDEN, _HIDDEN),
            ("intermediate.dense", _INTERMEDIATE, _HIDDEN),
            ("output.dense", _HIDDEN, _INTERMEDIATE),
        ):
            yield f"{prefix}.{name}.weight", draw(out, width)
            yield f"{prefix}.{name}.bias", draw(out)
        yield from norm(f"{prefix}.attention.output.LayerNorm")
        yield from norm(f"{prefix}.output.LayerNorm")
