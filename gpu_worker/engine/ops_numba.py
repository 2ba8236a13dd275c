"""The exact lane on a CPU with numba: BLAS products, and compiled kernels between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpu_worker.engine import kernels_numba as kernels
from gpu_worker.engine.numerics import Exact
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
from gpu_worker.engine.ops_numpy import NumpyOps
from gpu_worker.engine.pairs import NO_POSITIONS, NO_TABLE, blocks_of_pairs, by_head, seen_keys


class NumbaOps(NumpyOps):
    """Operations for one thread; tokens run along the first axis throughout."""

    def __init__(self, numerics: Exact) -> None:
        super().__init__(numerics)
        self._top = np.float32(self.limit)

    # -- quantisation ----------------------------------------------------------------------

    def quantise(self, x: F32, failed: Bools) -> Operand:
        """See ``Ops.quantise``."""
        out = self._scratch.take("operand", x.shape, self._carrier)
        return self._quantised(x, out, failed)

    def _quantised(self, x: F32, out: Array, failed: Bools) -> Operand:
        scale = np.empty(x.shape[0], np.float32)
        kernels.quantise(x, self._top, out, scale, failed)
        return Operand(out, scale)

    # -- dense layers ----------------------------------------------------------------------

    def dense(self, x: Operand, weight: Weight) -> F32:
        """See ``Ops.dense``."""
        totals = self.product(x.values, weight.values.T, "wide")
        out = np.empty(totals.shape, np.float32)
        kernels.dense(totals, x.scale, weight.scale, weight.bias, out)
        return out

    def dense_add(self, x: Operand, weight: Weight, residual: F32) -> F32:
        """See ``Ops.dense_add``. The result takes the place of ``residual``."""
        totals = self.product(x.values, weight.values.T, "narrow")
        kernels.dense_add(totals, x.scale, weight.scale, weight.bias, residual)
        return residual

    def dense_norm(
        self, x: Operand, weight: Weight, residual: F32, norm: Norm, failed: Bools
    ) -> F32:
        """See ``Ops.dense_norm``. The result takes the place of ``residual``."""
        totals = self.product(x.values, weight.values.T, "narrow")
        kernels.dense_norm(
            totals, x.scale, weight.scale, weight.bias, residual, norm.gain, norm.bias, norm.eps,
            failed,
        )  # fmt: skip
        return residual

    def dense_act(self, x: Operand, weight: Weight, activation: str, failed: Bools) -> Operand:
        """See ``Ops.dense_act``. The result takes the place of the sums."""
        totals = self.product(x.values, weight.values.T, "wide")
        return self._behind(
            kernels.dense_act, totals, totals.shape[1], x, weight, activation, failed
        )

    def dense_glu(self, x: Operand, weight: Weight, activation: str, failed: Bools) -> Operand:
        """See ``Ops.dense_glu``."""
        totals = self.product(x.values, weight.values.T, "wide")
        width = totals.shape[1] // 2
        return self._behind(kernels.dense_glu, totals, width, x, weight, activation, failed)

    def _behind(
        self, kernel: Any, totals: Array, width: int, x: Operand, weight: Weight, activation: str,
        failed: Bools,
    ) -> Operand:  # fmt: skip
        shape = (totals.shape[0], width)
        in_place = shape == totals.shape and totals.dtype == self._carrier
        values = totals if in_place else self._scratch.take("behind", shape, self._carrier)
        scale = np.empty(shape[0], np.float32)
        kernel(
            totals, x.scale, weight.scale, weight.bias, kernels.ACTIVATION_CODES[activation],
            self._top, values, scale, failed,
        )  # fmt: skip
        return Operand(values, scale)

    def activate(self, x: F32, activation: str) -> F32:
        """See ``Ops.activate``. In place."""
        kernels.activate(x.reshape(-1), kernels.ACTIVATION_CODES[activation])
        return x

    # -- reductions ------------------------------------------------------------------------

    def norm(self, x: F32, norm: Norm, failed: Bools) -> F32:
        """See ``Ops.norm``."""
        out = np.empty_like(x)
        kernels.norm(x, norm.gain, norm.bias, norm.eps, out, failed)
        return out

    def embed_norm(self, word: F32, position: F32 | None, batch: Batch, norm: Norm) -> F32:
        """See ``Ops.embed_norm``."""
        out = np.empty((batch.tokens.shape[0], word.shape[1]), np.float32)
        # Tables may be mapped files, which numba knows as plain arrays only.
        kernels.embed_norm(
            np.asarray(word), NO_POSITIONS if position is None else np.asarray(position),
            batch.tokens, batch.segments, batch.positions, norm.gain, norm.bias, norm.eps, out,
            batch.failed,
        )  # fmt: skip
        return out

    def pool(self, x: F32, batch: Batch, pooling: str) -> tuple[F32, Bools]:
        """See ``Ops.pool``."""
        if pooling != "mean":
            return super().pool(x, batch, pooling)
        lengths = np.array(batch.lengths, np.int64)
        starts = np.cumsum(lengths, dtype=np.int64) - lengths
        values = np.empty((len(lengths), x.shape[1]), np.float32)
        failed = np.logical_or.reduceat(batch.failed, starts)
        kernels.pool_mean(x, lengths, values, failed)
        return values, failed

    # -- attention -------------------------------------------------------------------------

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
        tokens, width = x.scale.shape[0], qkv.values.shape[0] // 3
        size = width // heads
        totals = self.product(x.values, qkv.values.T, "wide")
        # Integers of heads are 16 bits wide in every numerics.
        integers = (
            totals
            if totals.dtype == np.float64
            else self._scratch.take("heads", totals.shape, np.float64)
        )
        scales = self._scratch.take("head scales", (3, heads, tokens), np.float32)
        cos, sin = (NO_TABLE, NO_TABLE) if rope is None else (rope.cos, rope.sin)
        kernels.heads(
            totals, x.scale, qkv.scale, qkv.bias, np.asarray(cos), np.asarray(sin),
            batch.positions, integers, scales, score_factor(size), batch.failed,
        )  # fmt: skip
        sums = self._scratch.take("sums", (tokens, width), np.float64)
        factor = self._scratch.take("factor", (heads, tokens), np.float32)
        for group in batch.groups:
            query, key, value = by_head(integers, group, 3, heads)
            out = by_head(sums, group, 1, heads)[0]
            for rows, queries in blocks_of_pairs(group.rows, heads, group.length):
                keys = seen_keys(queries, group.length, window)
                dots = self._dots(query[rows, :, queries], key[rows, :, keys])
                kernels.softmax(
                    dots, scales, group.start + rows.start * group.length, group.length,
                    queries.start, keys.start, window, factor, batch.failed,
                )  # fmt: skip
                mixed = out[rows, :, queries]
                np.matmul(dots, value[rows, :, keys], out=mixed)  # exact: to 32,768 keys
        values = self._scratch.take("context integers", sums.shape, self._carrier)
        scale = np.empty(tokens, np.float32)
        kernels.context(sums, factor, self._top, values, scale, batch.failed)
        return Operand(values, scale)

    def _dots(self, query: Array, key: Array) -> Array:
        """[rows, heads, queries or keys, d] to float64 [rows, heads, queries, keys]."""
        shape = (*query.shape[:-1], key.shape[-2])
        dots = self._scratch.take("pairs", shape, np.float64)
        return np.matmul(query, key.swapaxes(-1, -2), out=dots)  # exact: integers below 2^53
