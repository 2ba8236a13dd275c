"""The forward pass of an encoder over packed tokens: no padding, nothing shared by rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.encoderconfig import EncoderConfig
from gpu_worker.engine.head import Head
from gpu_worker.engine.layers import Weights, layer_names
from gpu_worker.engine.ops import F32, Batch, Bools, Norm, Ops, Rope, Weight

Array = NDArray[Any]


class Stopped(Exception):  # noqa: N818 - not an error: the caller wanted it
    """The work was given up because the caller wanted it so."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one layer, as the backend's products take them."""

    qkv: Weight
    attention_out: Weight
    attention_norm: Norm | None
    up: Weight
    down: Weight
    output_norm: Norm


class Encoder(ABC):
    """A model's weights and its forward pass. Read-only after construction: threads share it."""

    def __init__(self, config: EncoderConfig, weights: Weights) -> None:
        self.config = config
        self._word = weights.table("embeddings.word")
        self._norm = weights.norm("embeddings.norm")
        self._head = Head(config, weights)
        self._layers = [_read_layer(weights, name) for name in layer_names(config)]

    def encode(
        self,
        ops: Ops,
        tokens: NDArray[np.uint32],
        lengths: Sequence[int],
        stopped: Callable[[], bool],
    ) -> tuple[F32, Bools]:
        """Results float32 [rows, config.width] and failed bool [rows].

        ``tokens`` is uint32 [sum of lengths]. Neighbours of equal length are computed together;
        the results do not depend on it. Raises ``Stopped`` once ``stopped()`` is true.
        """
        # Values of failing rows may overflow on the way; the rows are marked and their values
        # never reach another row.
        with np.errstate(all="ignore"):
            batch = ops.batch(tokens, lengths, self.config.separator)
            x = self._embed(ops, batch)
            for index, layer in enumerate(self._layers):
                if stopped():
                    raise Stopped
                x = self._forward(ops, x, index, layer, batch)
            values, failed = ops.pool(self._last(ops, x, batch), batch, self.config.pooling)
            if self.config.normalise:
                values = ops.normalise(values, failed)
            return ops.finish(self._head.logits(ops, values, failed), failed)

    @abstractmethod
    def _embed(self, ops: Ops, batch: Batch) -> F32:
        """Token ids to the first layer's input [tokens, hidden]."""

    @abstractmethod
    def _forward(self, ops: Ops, x: F32, index: int, layer: Layer, batch: Batch) -> F32:
        """One layer; may overwrite ``x``."""

    def _last(self, ops: Ops, x: F32, batch: Batch) -> F32:
        """What follows the last layer, before pooling."""
        return x


class BertEncoder(Encoder):
    """Norms after each block; positions are a table that is added to the words'."""

    def __init__(self, config: EncoderConfig, weights: Weights) -> None:
        super().__init__(config, weights)
        self._position = weights.table("embeddings.position")

    def _embed(self, ops: Ops, batch: Batch) -> F32:
        return ops.embed_norm(self._word, self._position, batch, self._norm)

    def _forward(self, ops: Ops, x: F32, index: int, layer: Layer, batch: Batch) -> F32:
        config, failed = self.config, batch.failed
        assert layer.attention_norm is not None
        context = ops.attention(ops.quantise(x, failed), layer.qkv, config.heads, batch)
        x = ops.dense_norm(context, layer.attention_out, x, layer.attention_norm, failed)
        wide = ops.dense_act(ops.quantise(x, failed), layer.up, config.activation, failed)
        return ops.dense_norm(wide, layer.down, x, layer.output_norm, failed)


class ModernBertEncoder(Encoder):
    """Norms before each block, rotary positions, gated blocks, local and global attention."""

    def __init__(self, config: EncoderConfig, weights: Weights) -> None:
        super().__init__(config, weights)
        self._final_norm = weights.norm("final_norm")
        self._global = weights.rope("global")
        self._local: Rope | None = weights.rope("local") if config.window else None

    def _embed(self, ops: Ops, batch: Batch) -> F32:
        return ops.embed_norm(self._word, None, batch, self._norm)

    def _forward(self, ops: Ops, x: F32, index: int, layer: Layer, batch: Batch) -> F32:
        config, failed = self.config, batch.failed
        norm = layer.attention_norm
        # The first layer's input has just been normed.
        given = ops.quantise(x, failed) if norm is None else ops.norm_quantise(x, norm, failed)
        whole = config.is_global(index)
        context = ops.attention(
            given,
            layer.qkv,
            config.heads,
            batch,
            rope=self._global if whole else self._local,
            window=0 if whole else config.window,
        )
        x = ops.dense_add(context, layer.attention_out, x)
        given = ops.norm_quantise(x, layer.output_norm, failed)
        wide = ops.dense_glu(given, layer.up, config.activation, failed)
        return ops.dense_add(wide, layer.down, x)

    def _last(self, ops: Ops, x: F32, batch: Batch) -> F32:
        return ops.norm(x, self._final_norm, batch.failed)


ENCODERS: dict[str, type[Encoder]] = {"bert": BertEncoder, "modernbert": ModernBertEncoder}


def _read_layer(weights: Weights, name: str) -> Layer:
    norm = f"{name}.attention_norm"
    return Layer(
        qkv=weights.dense(f"{name}.qkv"),
        attention_out=weights.dense(f"{name}.attention_out"),
        attention_norm=weights.norm(norm) if weights.has(norm) else None,
        up=weights.dense(f"{name}.up"),
        down=weights.dense(f"{name}.down"),
        output_norm=weights.norm(f"{name}.output_norm"),
    )
