"""A plain BERT forward pass in float64, written from the architecture's definition.

It shares nothing with the engine: it reads the checkpoint with the safetensors package, takes
one row at a time, and uses NumPy's own functions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import erf, pi, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

_STEP = 1 / 256
_GRID = np.arange(-6 * 256, 6 * 256 + 1) * _STEP
_VALUES = np.array([erf(x) for x in _GRID])
_SLOPES = 2 / sqrt(pi) * np.exp(-(_GRID**2)) * _STEP


def _erf(x: NDArray[Any]) -> NDArray[np.float64]:
    """The error function by cubic interpolation of ``math.erf``, to about 1e-11."""
    place = (np.clip(x.astype(np.float64), -5.999, 5.999) + 6) / _STEP
    left = place.astype(np.int64)
    t = place - left
    a, b, da, db = _VALUES[left], _VALUES[left + 1], _SLOPES[left], _SLOPES[left + 1]
    return a + t * (da + t * (3 * (b - a) - 2 * da - db + t * (da + db - 2 * (b - a))))


class ReferenceBert:
    """One checkpoint; ``float_type`` is what every value is computed in."""

    def __init__(self, folder: Path, float_type: type[np.floating[Any]] = np.float64) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        self.kind = float_type
        self.tensors = {
            name: tensor.astype(float_type)
            for name, tensor in load_file(folder / "model.safetensors").items()
        }

    def _dense(self, name: str, x: NDArray[Any]) -> NDArray[Any]:
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def _norm(self, name: str, x: NDArray[Any]) -> NDArray[Any]:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred**2).mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(variance + self.kind(self.config["layer_norm_eps"]))
        return scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def hidden(self, row: Sequence[int]) -> NDArray[Any]:
        """The last layer's vectors of one row: [tokens, hidden]."""
        heads = self.config["num_attention_heads"]
        x = (
            self.tensors["embeddings.word_embeddings.weight"][list(row)]
            + self.tensors["embeddings.position_embeddings.weight"][: len(row)]
            + self.tensors["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._norm("embeddings.LayerNorm", x)
        width = x.shape[1] // heads
        for index in range(self.config["num_hidden_layers"]):
            layer = f"encoder.layer.{index}"
            query, key, value = (
                self._dense(f"{layer}.attention.self.{part}", x).reshape(len(row), heads, width)
                for part in ("query", "key", "value")
            )
            scores = np.einsum("ihd,jhd->hij", query, key) / self.kind(sqrt(width))
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            weights /= weights.sum(axis=-1, keepdims=True)
            context = np.einsum("hij,jhd->ihd", weights, value).reshape(len(row), -1)
            x = self._norm(
                f"{layer}.attention.output.LayerNorm",
                self._dense(f"{layer}.attention.output.dense", context) + x,
            )
            wide = self._dense(f"{layer}.intermediate.dense", x)
            wide = wide * self.kind(0.5) * (1 + _erf(wide / sqrt(2)).astype(self.kind))
            x = self._norm(
                f"{layer}.output.LayerNorm", self._dense(f"{layer}.output.dense", wide) + x
            )
        return x

    def embed(
        self, row: Sequence[int], pooling: str = "mean", normalise: bool = True
    ) -> NDArray[Any]:
        """The row's vector: [hidden]."""
        hidden = self.hidden(row)
        vector = hidden[0] if pooling == "cls" else hidden.mean(axis=0)
        return vector / np.sqrt((vector**2).sum()) if normalise else vector
