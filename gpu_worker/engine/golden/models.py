"""Whole tiny models for the golden vectors: weights made from seeds, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.encoder import ENCODERS
from gpu_worker.engine.encoderconfig import EncoderConfig
from gpu_worker.engine.golden.inputs import below, integers, uniform
from gpu_worker.engine.layers import Weights, shapes
from gpu_worker.engine.numerics import Exact
from gpu_worker.engine.ops import Operand, Ops
from gpu_worker.engine.tensors import TensorFile, write_tensors

Array = NDArray[Any]

VOCABULARY: Final = 120


@dataclass(frozen=True, slots=True)
class TinyModel:
    """A configuration and the rows that it computes."""

    name: str
    architecture: str
    config: EncoderConfig
    lengths: Sequence[int]

    def tensors(self, numerics: Exact) -> dict[str, Array]:
        """The weights file's tensors. A tensor's seed is its place among the sorted names."""
        wanted = shapes(self.architecture, self.config, VOCABULARY)
        names = sorted([*wanted.dense, *wanted.norms, *wanted.tables])
        tensors: dict[str, Array] = {}
        for place, name in enumerate(names):
            seed = 1000 + 10 * place
            if name in wanted.dense:
                out, width = wanted.dense[name]
                values = integers(seed, (out, width), numerics.weights)
                tensors[f"{name}.weight"] = values.astype(numerics.weight_dtype)
                step = np.abs(uniform(seed + 1, (out,), -2)) + np.float32(2.0**-6)
                tensors[f"{name}.scale"] = step / np.float32(numerics.weights)
                tensors[f"{name}.bias"] = uniform(seed + 2, (out,), -3)
            elif name in wanted.norms:
                tensors[f"{name}.gain"] = uniform(seed, (self.config.hidden,), -2) + np.float32(1)
                tensors[f"{name}.bias"] = uniform(seed + 1, (self.config.hidden,), -3)
            else:
                tensors[name] = uniform(seed, wanted.tables[name])
        return tensors

    def compute(self, ops: Ops, numerics: Exact) -> Iterator[tuple[str, Array | Operand]]:
        """What every operation gives, in order, and the rows' results."""
        with TemporaryDirectory() as folder:
            path = Path(folder, "weights.safetensors")
            write_tensors(path, self.tensors(numerics))
            weights = Weights(
                self.architecture, self.config, numerics.name, VOCABULARY, TensorFile(path), ops
            )
            encoder = ENCODERS[self.architecture](self.config, weights)
            tokens = below(900, sum(self.lengths), VOCABULARY)
            tracer = _Tracer(ops)
            values, failed = encoder.encode(cast(Ops, tracer), tokens, self.lengths, lambda: False)
        yield from tracer.seen
        yield "result", values
        yield "failed", failed


class _Tracer:
    """Passes operations on and keeps a copy of what they give, as ``place.operation``."""

    def __init__(self, ops: Ops) -> None:
        self.seen: list[tuple[str, Array | Operand]] = []
        self._ops = ops

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._ops, name)
        if name not in _TRACED:
            return operation

        def traced(*given: Any, **named: Any) -> Any:
            result = operation(*given, **named)
            value = result[0] if isinstance(result, tuple) else result
            copy: Array | Operand
            if isinstance(value, Operand):
                copy = self._ops.read_operand(value)
            else:
                copy = self._ops.read(value)
            self.seen.append((f"{len(self.seen):02}.{name}", copy))
            return result

        return traced


_TRACED: Final = (
    "quantise", "dense", "dense_add", "dense_norm", "dense_act", "dense_glu", "activate", "norm",
    "norm_quantise", "embed_norm", "pool", "normalise", "attention",
)  # fmt: skip


def _bert(name: str, **changes: Any) -> TinyModel:
    config: dict[str, Any] = {
        "layers": 1, "hidden": 48, "heads": 3, "intermediate": 1100, "positions": 150,
        "norm_eps": 1e-12,
    } | changes  # fmt: skip
    return TinyModel(name, "bert", EncoderConfig(**config), _LENGTHS)


def _modern(name: str, **changes: Any) -> TinyModel:
    config: dict[str, Any] = {
        "layers": 2, "hidden": 48, "heads": 3, "intermediate": 72, "positions": 150,
        "norm_eps": 1e-5, "window": 8, "global_every": 3,
    } | changes  # fmt: skip
    return TinyModel(name, "modernbert", EncoderConfig(**config), _LENGTHS)


_LENGTHS: Final = (150, 31, 31, 7, 1, 1)

MODELS: Final = (
    _bert("bert mean", layers=2, normalise=True),
    _bert("bert cls", pooling="cls", activation="gelu_tanh"),
    _bert("bert max", pooling="max", activation="relu", normalise=True),
    _bert(
        "bert score", pooling="cls", head="tanh", labels=1, probability="sigmoid", segments=2,
        separator=7,
    ),
    _bert("bert classify", pooling="cls", head="relu", labels=5, probability="softmax"),
    _modern("modernbert mean", layers=4, normalise=True),
    _modern("modernbert score", pooling="cls", head="gelu_norm", labels=1, probability="sigmoid"),
)  # fmt: skip
