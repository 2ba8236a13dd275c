"""The forward pass of a BERT encoder over packed tokens: no padding, nothing shared by rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.bertconfig import BertConfig
from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.ops import DENSE_LIMITS, F32, Bools, Group, Norm, Ops, Weight
from gpu_worker.engine.tensors import TensorFile

Array = NDArray[Any]

DENSE_LAYERS: Final = ("qkv", "attention_out", "up", "down")
NORMS: Final = ("attention_norm", "output_norm")


class Stopped(Exception):  # noqa: N818 - not an error: the caller wanted it
    """The work was given up because the caller wanted it so."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one layer, as the backend's products take them."""

    qkv: Weight
    attention_out: Weight
    attention_norm: Norm
    up: Weight
    down: Weight
    output_norm: Norm


def layer_shapes(config: BertConfig) -> dict[str, tuple[int, int]]:
    """(out, in) of each dense layer."""
    hidden, wide = config.hidden, config.intermediate
    return {
        "qkv": (3 * hidden, hidden),
        "attention_out": (hidden, hidden),
        "up": (wide, hidden),
        "down": (hidden, wide),
    }


class Encoder:
    """A model's weights and its forward pass. Read-only after construction: threads share it."""

    def __init__(
        self, config: BertConfig, numerics: str, vocabulary: int, file: TensorFile, ops: Ops
    ) -> None:
        self.config = config
        hidden = config.hidden
        self._check_names(file)
        self._word = _floats(file, "embeddings.word", (vocabulary, hidden))
        self._position = _floats(file, "embeddings.position", (config.positions, hidden))
        self._norm = self._read_norm(file, "embeddings.norm")
        self._layers = [
            self._read_layer(file, f"layer.{index}", numerics, ops)
            for index in range(config.layers)
        ]

    def encode(
        self,
        ops: Ops,
        tokens: NDArray[np.uint32],
        lengths: Sequence[int],
        stopped: Callable[[], bool],
    ) -> tuple[F32, Bools]:
        """Row vectors float32 [rows, hidden] and failed bool [rows].

        ``tokens`` is uint32 [sum of lengths]. Neighbours of equal length are computed together;
        the results do not depend on it. Raises ``Stopped`` once ``stopped()`` is true.
        """
        config = self.config
        failed = np.zeros(tokens.shape[0], np.bool_)
        positions = np.concatenate([np.arange(length, dtype=np.int64) for length in lengths])
        groups = equal_lengths(lengths)
        # Values of failing rows may overflow on the way; the rows are marked and their values
        # never reach another row.
        with np.errstate(all="ignore"):
            x = ops.embed_norm(self._word, self._position, tokens, positions, self._norm, failed)
            for layer in self._layers:
                if stopped():
                    raise Stopped
                context = ops.attention(
                    ops.quantise(x, failed), layer.qkv, config.heads, groups, failed
                )
                x = ops.dense_norm(context, layer.attention_out, x, layer.attention_norm, failed)
                wide = ops.dense_gelu(ops.quantise(x, failed), layer.up, failed)
                x = ops.dense_norm(wide, layer.down, x, layer.output_norm, failed)
            return ops.pool(x, lengths, config.pooling, config.normalise, failed)

    def _check_names(self, file: TensorFile) -> None:
        wanted = {"embeddings.word", "embeddings.position"}
        wanted |= {f"embeddings.norm.{part}" for part in ("gain", "bias")}
        for index in range(self.config.layers):
            for name in DENSE_LAYERS:
                wanted |= {f"layer.{index}.{name}.{part}" for part in ("weight", "scale", "bias")}
            for name in NORMS:
                wanted |= {f"layer.{index}.{name}.{part}" for part in ("gain", "bias")}
        odd = sorted(wanted ^ set(file.names()))
        if odd:
            raise EngineError(
                f"{file.path.name} does not match the manifest: {odd[0]} is "
                + ("missing" if odd[0] in wanted else "not expected")
            )

    def _read_norm(self, file: TensorFile, name: str) -> Norm:
        shape = (self.config.hidden,)
        return Norm(
            _floats(file, f"{name}.gain", shape),
            _floats(file, f"{name}.bias", shape),
            self.config.norm_eps,
        )

    def _read_layer(self, file: TensorFile, prefix: str, numerics: str, ops: Ops) -> Layer:
        dense = {name: self._read_dense(file, prefix, name, numerics, ops) for name in DENSE_LAYERS}
        norms = {name: self._read_norm(file, f"{prefix}.{name}") for name in NORMS}
        return Layer(
            qkv=dense["qkv"],
            attention_out=dense["attention_out"],
            attention_norm=norms["attention_norm"],
            up=dense["up"],
            down=dense["down"],
            output_norm=norms["output_norm"],
        )

    def _read_dense(
        self, file: TensorFile, layer: str, name: str, numerics: str, ops: Ops
    ) -> Weight:
        out, width = layer_shapes(self.config)[name]
        prefix = f"{layer}.{name}"
        values = file.read(f"{prefix}.weight")
        limit = DENSE_LIMITS[numerics]
        dtype = np.int16 if limit > 127 else np.int8
        if values.dtype != dtype or values.shape != (out, width):
            raise EngineError(
                f"{prefix}.weight must be {np.dtype(dtype).name} [{out}, {width}] "
                f"for {numerics}, not {values.dtype.name} {list(values.shape)}"
            )
        if int(values.max()) > limit or int(values.min()) < -limit:
            raise EngineError(f"{prefix}.weight exceeds ±{limit}")
        return ops.weight(
            values,
            _floats(file, f"{prefix}.scale", (out,)),
            _floats(file, f"{prefix}.bias", (out,)),
        )


def equal_lengths(lengths: Sequence[int]) -> list[Group]:
    """Runs of neighbours of equal length."""
    groups = []
    start = 0
    for length, run in groupby(lengths):
        rows = len(list(run))
        groups.append(Group(start, rows, length))
        start += rows * length
    return groups


def _floats(file: TensorFile, name: str, shape: tuple[int, ...]) -> F32:
    array = file.read(name)
    if array.dtype != np.float32 or array.shape != shape:
        raise EngineError(
            f"{name} must be float32 {list(shape)}, not {array.dtype.name} {list(array.shape)}"
        )
    if len(shape) > 1:
        return array  # embeddings stay in the file's mapping
    if not np.isfinite(array).all():
        raise EngineError(f"{name} holds values that are not finite")
    # A sum with +0 takes away the sign of zero, which integer products do not carry either.
    return array + np.float32(0)
