"""Finding the tolerance of a model in a float numerics, when it is registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from gpu_worker.engine.encoder import ENCODERS
from gpu_worker.engine.encoderconfig import read_config
from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.layers import Weights
from gpu_worker.engine.ops import F32, Batch, Bools, Norm, Operand, Rope, Weight
from gpu_worker.engine.ops_float import FloatOps
from gpu_worker.engine.tensors import TensorFile
from gpu_worker.engine.tolerance import distance, tolerance_for

LENGTHS: Final = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)
"""Tokens of the rows that are tried, as far as the model takes them; each twice."""
SEED: Final = 20_240_502
_PARTS: Final = 5

Rows = list[NDArray[np.uint32]]


def calibrate(manifest: Mapping[str, Any], weights: Path) -> float:
    """The tolerance of a model: what honest machines may differ by, times a margin.

    ``manifest`` holds the fields that registration returns, ``weights`` is the file it wrote.
    The same random rows go through the model as it is computed here, in another order of sums,
    and with vectors rounded to the numerics' type between all operations, as machines do that
    compute in that type; the largest distance between any two of them counts. Raises
    ``EngineError`` when a row's result is not finite.
    """
    numerics, architecture = manifest["numerics"], manifest["architecture"]
    config = read_config(manifest["config"])
    file = TensorFile(weights)
    encoder = ENCODERS[architecture](
        config,
        Weights(architecture, config, numerics, manifest["vocabulary"], file, FloatOps()),
    )
    rows = calibration_rows(manifest["max_tokens"], manifest["vocabulary"])

    def compute(ops: FloatOps, together: bool) -> F32:
        cuts = [rows] if together else [[row] for row in rows]
        results = [
            encoder.encode(ops, np.concatenate(cut), [len(row) for row in cut], lambda: False)
            for cut in cuts
        ]
        if any(failed.any() for _, failed in results):
            raise EngineError(
                f"results of this model are not finite in {numerics}; "
                "register it in another numerics"
            )
        return np.concatenate([values for values, _ in results])

    # Products this small are slower on several threads, far slower where those are busy.
    with threadpool_limits(limits=1, user_api="blas"):
        found = [
            compute(FloatOps(), together=True),
            compute(OtherOrder(), together=False),
            compute(Rounding(ROUND[numerics]), together=True),
        ]
    operation = manifest["operations"][0]
    largest = max(float(distance(a, b, operation).max()) for a, b in combinations(found, 2))
    return tolerance_for(numerics, largest)


def calibration_rows(max_tokens: int, vocabulary: int) -> Rows:
    """Random rows of several lengths; the same for every model of this shape."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    lengths = sorted({min(length, max_tokens) for length in LENGTHS}, reverse=True)
    return [rng.integers(0, vocabulary, length, np.uint32) for length in lengths for _ in range(2)]


class OtherOrder(FloatOps):
    """Adds the products of a dense layer in parts, from the last to the first."""

    def dense(self, x: Operand, weight: Weight) -> F32:
        """See ``Ops.dense``."""
        depth = x.values.shape[1]
        cuts = np.linspace(0, depth, min(depth, _PARTS) + 1).astype(int)
        y = np.zeros((x.values.shape[0], weight.values.shape[0]), np.float32)
        for first, last in reversed(list(pairwise(cuts))):
            y += x.values[:, first:last] @ weight.values[:, first:last].T
        return y + weight.bias


class Rounding(FloatOps):
    """Rounds vectors to a type between operations, as machines do that compute in it."""

    def __init__(self, rounded: Callable[[F32], F32]) -> None:
        super().__init__()
        self._rounded = rounded

    def quantise(self, x: F32, failed: Bools) -> Operand:
        """See ``FloatOps.quantise``."""
        return super().quantise(self._rounded(x), failed)

    def dense(self, x: Operand, weight: Weight) -> F32:
        """See ``Ops.dense``."""
        return self._rounded(super().dense(x, weight))

    def dense_add(self, x: Operand, weight: Weight, residual: F32) -> F32:
        """See ``Ops.dense_add``."""
        return self._rounded(super().dense_add(x, weight, residual))

    def dense_glu(self, x: Operand, weight: Weight, activation: str, failed: Bools) -> Operand:
        """See ``Ops.dense_glu``."""
        return self.quantise(super().dense_glu(x, weight, activation, failed).values, failed)

    def norm(self, x: F32, norm: Norm, failed: Bools) -> F32:
        """See ``Ops.norm``."""
        return self._rounded(super().norm(x, norm, failed))

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
        context = super().attention(x, qkv, heads, batch, rope, window)
        return self.quantise(context.values, batch.failed)


def _to_float32(x: F32) -> F32:
    return x


def _to_float16(x: F32) -> F32:
    return x.astype(np.float16).astype(np.float32)


def _to_bfloat16(x: F32) -> F32:
    """The nearest float32 whose lower half is zero, ties to even; NaN and infinity stay."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    upper = (bits + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)
    rounded: F32 = np.where(np.isfinite(x), upper.view(np.float32), x)
    return rounded


ROUND: Final = {"float32": _to_float32, "float16": _to_float16, "bfloat16": _to_bfloat16}
