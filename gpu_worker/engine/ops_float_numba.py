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
from gpu_worker.engine.pairs import NO_POSITIONS, NO_TABLE, blocks_of_pairs, seen_keys

_NO_SCALE = np.empty(0, np.float32)


class NumbaFloatOps(FloatOps):
    """Operations for one thread."""

    def product(self, x: Operand, weight: Weight, name: str) -> F32:
        """x · w without bias, in scratch memory called ``name``."""
        shape = (x.values.shape[0], weight.values.shape[0])
        out: F32 = self._scratch.take(name, shape, np.float32)
        return np.matmul(x.values, weight.values.T, out=out)

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
        size = width // heads
        parts = self._scratch.take("heads", (3, heads, tokens, size), np.float32)
        cos, sin = (NO_TABLE, NO_TABLE) if rope is None else (rope.cos, rope.sin)
        kernels.heads(
            self.product(x, qkv, "wide"), qkv.bias, np.asarray(cos), np.asarray(sin),
            batch.positions, score_factor(size), parts,
        )  # fmt: skip
        context = self._scratch.take("context", (tokens, width), np.float32)
        for group in batch.groups:
            own = slice(group.start, group.start + group.rows * group.length)
            some = parts[:, :, own].reshape(3, heads, group.rows, group.length, size)
            for rows, queries in blocks_of_pairs(group.rows, heads, group.length):
                start = group.start + rows.start * group.length
                self._attend(some[:, :, rows], queries, window, context, start)
        return Operand(context, _NO_SCALE)

    def _attend(self, parts: Array, queries: slice, window: int, context: F32, start: int) -> None:
        """Some rows of one length, some queries: ``parts`` [3, heads, rows, length, d]."""
        _, heads, rows, length, size = parts.shape
        count = queries.stop - queries.start
        keys = seen_keys(queries, length, window)
        shape = (heads, rows, count, keys.stop - keys.start)
        scores = self._scratch.take("pairs", shape, np.float32)
        np.matmul(parts[0][:, :, queries], parts[1][:, :, keys].swapaxes(-1, -2), out=scores)
        kernels.softmax(scores, queries.start, keys.start, window)
        sums = self._scratch.take("pairs sums", (heads, rows, count, size), np.float32)
        np.matmul(scores, parts[2][:, :, keys], out=sums)
        kernels.context(sums, start, length, queries.start, context)
