"""The float numerics with numba between the products."""

from __future__ import annotations

import numpy as np

from gpu_worker.engine import kernels_float as kernels
from gpu_worker.engine.kernels_numba import ACTIVATION_CODES
from gpu_worker.engine.ops import (
    F32,
    Array,
    Batch,
    Bools,
    Norm,
    Operand,
    Rope,
    Weight,
    score_factor,
)
from gpu_worker.engine.ops_float import FloatOps
from gpu_worker.engine.pairs import NO_POSITIONS, NO_TABLE, blocks_of_pairs, by_head, seen_keys

_NO_SCALE = np.empty(0, np.float32)


class NumbaFloatOps(FloatOps):
    """Operations for one thread."""

    def dense_add(self, x: Operand, weight: Weight, residual: F32) -> F32:
        """See ``Ops.dense_add``. The result takes the place of ``residual``."""
        kernels.dense_add(self.product(x, weight, "narrow"), weight.bias, residual)
        return residual

    def dense_norm(
        self, x: Operand, weight: Weight, residual: F32, norm: Norm, failed: Bools
    ) -> F32:
        """See ``Ops.dense_norm``. The result takes the place of ``residual``."""
        sums = self.product(x, weight, "narrow")
        kernels.dense_norm(sums, weight.bias, residual, norm.gain, norm.bias, norm.eps)
        return residual

    def dense_act(self, x: Operand, weight: Weight, activation: str, failed: Bools) -> Operand:
        """See ``Ops.dense_act``."""
        sums = self.product(x, weight, "wide")
        kernels.dense_act(sums, weight.bias, ACTIVATION_CODES[activation])
        return Operand(sums, _NO_SCALE)

    def dense_glu(self, x: Operand, weight: Weight, activation: str, failed: Bools) -> Operand:
        """See ``Ops.dense_glu``."""
        sums = self.product(x, weight, "wide")
        out: F32 = self._scratch.take("gated", (sums.shape[0], sums.shape[1] // 2), np.float32)
        kernels.dense_glu(sums, weight.bias, ACTIVATION_CODES[activation], out)
        return Operand(out, _NO_SCALE)

    def norm(self, x: F32, norm: Norm, failed: Bools) -> F32:
        """See ``Ops.norm``."""
        out = np.empty_like(x)
        kernels.norm(x, norm.gain, norm.bias, norm.eps, out)
        return out

    def embed_norm(self, word: F32, position: F32 | None, batch: Batch, norm: Norm) -> F32:
        """See ``Ops.embed_norm``."""
        out = np.empty((batch.tokens.shape[0], word.shape[1]), np.float32)
        kernels.embed_norm(
            np.asarray(word), NO_POSITIONS if position is None else np.asarray(position),
            batch.tokens, batch.segments, batch.positions, norm.gain, norm.bias, norm.eps, out,
        )  # fmt: skip
        return out

    def attention(
        self,
        x: Operand,
        qkv: Weight,
        heads: int,
        batch: Batch,
        rope: Rope | None = None,
        window: int = 0,
    ) -> Operand:
        """See ``Ops.attention``."""
        tokens, width = x.values.shape[0], qkv.values.shape[0] // 3
        parts = self.product(x, qkv, "wide")
        cos, sin = (NO_TABLE, NO_TABLE) if rope is None else (rope.cos, rope.sin)
        kernels.heads(
            parts, qkv.bias, np.asarray(cos), np.asarray(sin), batch.positions, heads,
            score_factor(width // heads),
        )  # fmt: skip
        context = self._scratch.take("context", (tokens, width), np.float32)
        for group in batch.groups:
            query, key, value = by_head(parts, group, 3, heads)
            out = by_head(context, group, 1, heads)[0]
            for rows, queries in blocks_of_pairs(group.rows, heads, group.length):
                keys = seen_keys(queries, group.length, window)
                scores = self._scores(query[rows, :, queries], key[rows, :, keys])
                kernels.softmax(scores, queries.start, keys.start, window)
                np.matmul(scores, value[rows, :, keys], out=out[rows, :, queries])
        return Operand(context, _NO_SCALE)

    def _scores(self, query: Array, key: Array) -> Array:
        """[rows, heads, queries or keys, d] to [rows, heads, queries, keys]."""
        shape = (*query.shape[:-1], key.shape[-2])
        scores = self._scratch.take("pairs", shape, np.float32)
        return np.matmul(query, key.swapaxes(-1, -2), out=scores)
