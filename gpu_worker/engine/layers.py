"""The tensors of a weights file: which there are, of which shape, and how a backend takes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.encoderconfig import EncoderConfig
from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.numerics import EXACT
from gpu_worker.engine.ops import F32, Norm, Ops, Rope, Weight
from gpu_worker.engine.tensors import TensorFile

Array = NDArray[Any]

ROPES: Final = ("global", "local")


@dataclass(frozen=True, slots=True)
class Shapes:
    """What a model's weights file holds: {name: shape}."""

    dense: dict[str, tuple[int, int]]
    """[out, in]; ``.weight``, ``.scale`` [out] (exact numerics) and ``.bias`` [out] of each."""
    norms: tuple[str, ...]
    """``.gain`` and ``.bias`` [hidden] of each."""
    tables: dict[str, tuple[int, ...]]
    """float32."""


def shapes(architecture: str, config: EncoderConfig, vocabulary: int) -> Shapes:
    """The tensors of a model of this shape."""
    hidden, wide = config.hidden, config.intermediate
    dense: dict[str, tuple[int, int]] = {}
    norms = ["embeddings.norm"]
    tables: dict[str, tuple[int, ...]] = {"embeddings.word": (vocabulary, hidden)}
    modern = architecture == "modernbert"
    for index in range(config.layers):
        layer = f"layer.{index}"
        dense[f"{layer}.qkv"] = (3 * hidden, hidden)
        dense[f"{layer}.attention_out"] = (hidden, hidden)
        dense[f"{layer}.up"] = (2 * wide if modern else wide, hidden)
        dense[f"{layer}.down"] = (hidden, wide)
        # A modernbert's first layer takes the embeddings' norm as it is.
        if not modern or index > 0:
            norms.append(f"{layer}.attention_norm")
        norms.append(f"{layer}.output_norm")
    if modern:
        norms.append("final_norm")
        for kind in ROPES if config.window else ROPES[:1]:
            for part in ("cos", "sin"):
                half = hidden // config.heads // 2
                tables[f"rope.{kind}.{part}"] = (config.positions, half)
    else:
        tables["embeddings.position"] = (config.segments, config.positions, hidden)
    if config.head not in ("none", "linear"):
        dense["head.dense"] = (hidden, hidden)
    if config.head == "gelu_norm":
        norms.append("head.norm")
    if config.head != "none":
        dense["head.out"] = (config.labels, hidden)
    return Shapes(dense, tuple(norms), tables)


class Weights:
    """Reads a weights file for one backend; ``EngineError`` names what does not match."""

    def __init__(
        self,
        architecture: str,
        config: EncoderConfig,
        numerics: str,
        vocabulary: int,
        file: TensorFile,
        ops: Ops,
    ) -> None:
        self._shapes = shapes(architecture, config, vocabulary)
        self._config = config
        self._numerics = numerics
        self._file = file
        self._ops = ops
        self._check_names()

    def has(self, norm: str) -> bool:
        """Whether the model has this norm."""
        return norm in self._shapes.norms

    def table(self, name: str) -> F32:
        """A float32 table, where the backend computes."""
        # Tables stay in the file's mapping where the backend computes on the host.
        return self._ops.constant(self._read(name, np.dtype(np.float32), self._shapes.tables[name]))

    def rope(self, kind: str) -> Rope:
        """The rotary positions of ``global`` or ``local`` layers."""
        return Rope(self.table(f"rope.{kind}.cos"), self.table(f"rope.{kind}.sin"))

    def norm(self, name: str) -> Norm:
        """A layer norm."""
        return Norm(
            self._ops.constant(self._vector(f"{name}.gain", self._config.hidden)),
            self._ops.constant(self._vector(f"{name}.bias", self._config.hidden)),
            self._config.norm_eps,
        )

    def dense(self, name: str) -> Weight:
        """A dense layer."""
        out, width = self._shapes.dense[name]
        bias = self._vector(f"{name}.bias", out)
        exact = EXACT.get(self._numerics)
        if exact is None:
            values = self._file.as_float32(self._typed(f"{name}.weight", (out, width)))
            return self._ops.weight(values, np.ones(out, np.float32), bias)
        values = self._read(f"{name}.weight", np.dtype(exact.weight_dtype), (out, width))
        if int(values.max()) > exact.weights or int(values.min()) < -exact.weights:
            raise EngineError(f"{name}.weight exceeds ±{exact.weights}")
        return self._ops.weight(values, self._vector(f"{name}.scale", out), bias)

    def _check_names(self) -> None:
        parts = ("weight", "scale", "bias") if self._numerics in EXACT else ("weight", "bias")
        wanted = set(self._shapes.tables)
        wanted |= {f"{name}.{part}" for name in self._shapes.dense for part in parts}
        wanted |= {f"{name}.{part}" for name in self._shapes.norms for part in ("gain", "bias")}
        odd = sorted(wanted ^ set(self._file.names()))
        if odd:
            raise EngineError(
                f"{self._file.path.name} does not match the manifest: {odd[0]} is "
                + ("missing" if odd[0] in wanted else "not expected")
            )

    def _typed(self, name: str, shape: tuple[int, ...]) -> str:
        """``name``, after a check that it is stored as the float numerics says."""
        kind, found = self._file.describe(name)
        wanted = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[self._numerics]
        if kind != wanted or found != shape:
            raise EngineError(f"{name} must be {wanted} {list(shape)}, not {kind} {list(found)}")
        return name

    def _vector(self, name: str, size: int) -> F32:
        array = self._read(name, np.dtype(np.float32), (size,))
        if not np.isfinite(array).all():
            raise EngineError(f"{name} holds values that are not finite")
        # A sum with +0 takes away the sign of zero, which integer products do not carry either.
        vector: F32 = array + np.float32(0)
        return vector

    def _read(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        array = self._file.read(name)
        if array.dtype != dtype or array.shape != shape:
            raise EngineError(
                f"{name} must be {dtype.name} {list(shape)} for {self._numerics}, "
                f"not {array.dtype.name} {list(array.shape)}"
            )
        return array


def layer_names(config: EncoderConfig) -> Iterator[str]:
    """``layer.0`` and so on."""
    return (f"layer.{index}" for index in range(config.layers))
