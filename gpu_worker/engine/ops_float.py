"""The float numerics in plain NumPy: float32 arithmetic on weights of float32, float16 or bfloat16.

Results agree with other machines' within the model's tolerance, not to the bit, so sums and
library functions are used freely. A row whose result is not finite fails.
"""

from __future__ import annotations

import numpy as np

from gpu_worker.engine.ops import (
    F32,
    Array,
    Batch,
    Bools,
    Norm,
    Operand,
    Ops,
    Rope,
    Weight,
    rotate,
    score_factor,
    visible,
)
from gpu_worker.engine.polynomials import ACTIVATIONS
from gpu_worker.engine.scratch import Scratch

_NO_SCALE = np.empty(0, np.float32)


class FloatOps(Ops):
    """Operations for one thread. An operand is the float32 vectors themselves, without scales."""

    def __init__(self) -> None:
        self._scratch = Scratch()

    def weight(self, values: Array, scale: F32, bias: F32) -> Weight:
        """The weights as float32, whatever type they are stored in."""
        # One input's weights lie together in memory, which BLAS multiplies a little faster.
        return Weight(np.asfortranarray(values, np.float32), _NO_SCALE, bias)

    def quantise(self, x: F32, failed: Bools) -> Operand:
        """Nothing is quantised."""
        return Operand(x, _NO_SCALE)

    def dense(self, x: Operand, weight: Weight) -> F32:
        """x · w + bias: float32 [tokens, out]."""
        y = self.product(x, weight, "wide").copy()
        y += weight.bias
        return y

    def product(self, x: Operand, weight: Weight, name: str) -> F32:
        """x · w without bias, in scratch memory called ``name``."""
        shape = (x.values.shape[0], weight.values.shape[0])
        out: F32 = self._scratch.take(name, shape, np.float32)
        return np.matmul(x.values, weight.values.T, out=out)

    def dense_glu(self, x: Operand, weight: Weight, activation: str, failed: Bools) -> Operand:
        """See ``Ops.dense_glu``."""
        first, second = np.split(self.dense(x, weight), 2, axis=1)
        return Operand(ACTIVATIONS[activation](first) * second, _NO_SCALE)

    def norm(self, x: F32, norm: Norm, failed: Bools) -> F32:
        """Layer norm of rows [tokens, width], the sums in float64."""
        mean = x.mean(axis=1, dtype=np.float64, keepdims=True)
        variance = np.square(x - mean).mean(axis=1, keepdims=True)
        centred = (x - mean) / np.sqrt(variance + norm.eps)
        result: F32 = centred.astype(np.float32) * norm.gain + norm.bias
        return result

    def pool(self, x: F32, batch: Batch, pooling: str) -> tuple[F32, Bools]:
        """See ``Ops.pool``."""
        values = np.empty((len(batch.lengths), x.shape[1]), np.float32)
        start = 0
        for row, length in enumerate(batch.lengths):
            own = x[start : start + length]
            if pooling == "cls":
                values[row] = own[0]
            else:
                values[row] = own.mean(axis=0) if pooling == "mean" else own.max(axis=0)
            start += length
        return values, np.zeros(len(batch.lengths), np.bool_)

    def normalise(self, x: F32, failed: Bools) -> F32:
        """See ``Ops.normalise``."""
        length = np.sqrt(np.square(x.astype(np.float64)).sum(axis=1, keepdims=True))
        result: F32 = (x / np.where(length == 0, 1, length)).astype(np.float32)
        return result

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
        parts = self.dense(x, qkv).reshape(tokens, 3, heads, width // heads)
        if rope is not None:
            parts[:, :2] = rotate(parts[:, :2], rope, batch.positions)
        parts[:, 0] *= score_factor(width // heads)
        context = np.empty((tokens, width), np.float32)
        start = 0
        for length in batch.lengths:
            own = slice(start, start + length)
            query, key, value = parts[own].transpose(1, 2, 0, 3)
            scores = query @ key.swapaxes(-1, -2)
            if window:
                scores = np.where(visible(length, window), scores, -np.float32(np.inf))
            weights = np.exp2(scores - scores.max(axis=-1, keepdims=True))
            weights /= weights.sum(axis=-1, keepdims=True)
            context[own] = (weights @ value).transpose(1, 0, 2).reshape(length, width)
            start += length
        return Operand(context, _NO_SCALE)
