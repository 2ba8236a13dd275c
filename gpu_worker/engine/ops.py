"""The operations of the exact lane: this class is their specification, in plain NumPy.

``docs/EXACT.md`` says the same in words. A backend overrides any method with something faster;
its results must be the same bits. Integers are int64 here, so sums need no argument about
rounding. Floats are float32 with every operation rounded on its own, but for a few scalars per
row of a reduction, which are float64.

``failed`` is bool [tokens] throughout: an operation sets the entry of a token that it met with
a value that is not finite or not below 2^64 in magnitude, and goes on with zeros in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.polynomials import exp2, gelu

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
Array = NDArray[Any]

LIMIT16: Final = 32639
"""127·256 + 127: both balanced signed 8-bit slices of ±32639 stay in int8."""
LIMIT8: Final = 127
LIMIT_PROBABILITY: Final = 8355711
"""127·65536 + 127·256 + 127: three balanced signed 8-bit slices."""
DENSE_LIMITS: Final = {"exact16": LIMIT16, "exact8": LIMIT8}

SCALE_FLOOR: Final = 2.0**-50
"""No scale is below this, so that products of two scales and an integer are never subnormal."""
RANGE: Final = np.float32(2.0**64)
"""Magnitudes from here on make a row fail."""
FRACTION_BITS: Final = 24
"""Fixed-point bits below a row's power of two in pooling and L2 normalisation."""
NORM_BITS: Final = 22
"""The same in layer norms: 512 squares then fit one exact float64 sum on a CPU."""
DENOMINATOR: Final = np.float32(2.0**38)
"""Scale of the softmax denominator's integers."""
LOG2_E: Final = float.fromhex("0x1.71547652b82fep+0")


@dataclass(frozen=True, slots=True)
class Operand:
    """Quantised rows: ``values`` [rows, width] integers, ``scale`` float32 [rows]."""

    values: Array
    scale: F32


@dataclass(frozen=True, slots=True)
class Weight:
    """A dense layer: ``values`` [out, in] integers, ``scale`` and ``bias`` float32 [out]."""

    values: Array
    scale: F32
    bias: F32


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer norm: ``gain`` and ``bias`` float32 [width], ``eps`` float64."""

    gain: F32
    bias: F32
    eps: float


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive rows of equal length: tokens ``start`` to ``start + rows·length``."""

    start: int
    rows: int
    length: int


def score_factor(head_width: int) -> np.float32:
    """log2(e)/√d in float64, rounded once to float32: scores come out as powers of two."""
    return np.float32(np.float64(LOG2_E) / np.sqrt(np.float64(head_width)))


def fixed_exponent(amax: F32) -> NDArray[np.int32]:
    """The e with max(amax, 2^-50) in [2^(e-1), 2^e)."""
    exponent: NDArray[np.int32] = np.frexp(np.maximum(amax, np.float32(SCALE_FLOOR)))[1]
    return exponent


def power_of_two(exponent: NDArray[np.int32]) -> F32:
    """2^exponent as float32; exponents stay within ±90 here."""
    power: F32 = np.ldexp(np.float32(1), exponent).astype(np.float32)
    return power


class Ops:
    """The specification. One object belongs to one thread.

    A result may live in scratch memory that the next call of the same method uses again, and
    an argument named ``residual`` may be overwritten.
    """

    def __init__(self, numerics: str) -> None:
        self.limit = DENSE_LIMITS[numerics]

    # -- preparing -------------------------------------------------------------------------

    def weight(self, values: Array, scale: F32, bias: F32) -> Weight:
        """Bring a layer's stored integers [out, in] into the form that products take."""
        return Weight(values.astype(np.int64), scale, bias)

    # -- quantisation ----------------------------------------------------------------------

    def quantise(self, x: F32, failed: Bools) -> Operand:
        """Rows [tokens, width] to integers of ±limit and one scale per row."""
        values, scale, bad = quantise_rows(x, self.limit)
        failed |= bad
        return Operand(values, scale)

    # -- dense layers ----------------------------------------------------------------------

    def dense(self, x: Operand, weight: Weight) -> F32:
        """((float32(Σ x·w) · row scale) · channel scale) + bias: float32 [tokens, out]."""
        total = np.matmul(x.values, weight.values.T)  # exact: int64
        result: F32 = (total.astype(np.float32) * x.scale[:, None]) * weight.scale + weight.bias
        return result

    def dense_gelu(self, x: Operand, weight: Weight, failed: Bools) -> Operand:
        """A dense layer, GELU, and the result quantised for the next layer."""
        return self.quantise(gelu(self.dense(x, weight)), failed)

    def dense_norm(
        self, x: Operand, weight: Weight, residual: F32, norm: Norm, failed: Bools
    ) -> F32:
        """norm(dense(x) + residual): float32 [tokens, width]."""
        return self.norm(self.dense(x, weight) + residual, norm, failed)

    # -- reductions ------------------------------------------------------------------------

    def norm(self, x: F32, norm: Norm, failed: Bools) -> F32:
        """Layer norm of rows [tokens, width]."""
        width = x.shape[1]
        amax, x = in_range(x, failed)
        exponent = fixed_exponent(amax)
        fixed = np.rint(x * power_of_two(NORM_BITS - exponent)[:, None]).astype(np.int64)
        total = np.sum(fixed, axis=1)  # exact: int64
        middle = np.rint(total / np.float64(width)).astype(np.int64)
        rest = total - middle * width
        squares = np.sum(np.square(fixed - middle[:, None]), axis=1)  # exact: int64
        mean, factor = norm_scalars(total, rest, squares, width, exponent, norm.eps)
        return ((x - mean[:, None]) * factor[:, None]) * norm.gain + norm.bias

    def embed_norm(
        self,
        word: F32,
        position: F32,
        tokens: NDArray[np.uint32],
        positions: NDArray[np.int64],
        norm: Norm,
        failed: Bools,
    ) -> F32:
        """norm(word[token] + position[place in the row])."""
        return self.norm(word[tokens] + position[positions], norm, failed)

    def pool(
        self, x: F32, lengths: Sequence[int], pooling: str, normalise: bool, failed: Bools
    ) -> tuple[F32, Bools]:
        """Token vectors to row vectors: float32 [rows, width], and which rows failed: [rows].

        A row fails when a token of it did. ``pooling`` is ``mean`` or ``cls`` (first token).
        """
        values = np.zeros((len(lengths), x.shape[1]), np.float32)
        rows_failed = np.zeros(len(lengths), np.bool_)
        start = 0
        for row, length in enumerate(lengths):
            stop = start + length
            vector = x[start] if pooling == "cls" else mean_row(x[start:stop], failed[start:stop])
            if normalise:
                vector = normalise_row(vector, failed[start:stop])
            rows_failed[row] = failed[start:stop].any() or not np.isfinite(vector).all()
            if not rows_failed[row]:
                values[row] = vector
            start = stop
        return values, rows_failed

    # -- attention -------------------------------------------------------------------------

    def attention(
        self, x: Operand, qkv: Weight, heads: int, groups: Sequence[Group], failed: Bools
    ) -> Operand:
        """Queries, keys and values from ``x``; every row attends to itself; quantised.

        ``qkv`` has 3·width outputs: all queries, all keys, all values, each head by head.
        """
        tokens, width = x.scale.shape[0], qkv.values.shape[0] // 3
        parts = self.dense(x, qkv).reshape(tokens * 3 * heads, width // heads)
        integers, scales, bad = quantise_rows(parts, LIMIT16)
        failed |= bad.reshape(tokens, -1).any(axis=1)
        integers = integers.reshape(tokens, 3, heads, width // heads)
        scales = scales.reshape(tokens, 3, heads)
        context = np.empty((tokens, width), np.float32)
        for group in groups:
            for row in range(group.rows):
                own = slice(
                    group.start + row * group.length, group.start + (row + 1) * group.length
                )
                for head in range(heads):
                    columns = slice(head * (width // heads), (head + 1) * (width // heads))
                    context[own, columns] = attend(
                        integers[own, :, head], scales[own, :, head], failed[own]
                    )
        return self.quantise(context, failed)


def in_range(x: F32, failed: Bools) -> tuple[F32, F32]:
    """The largest magnitude of each row, and the rows with zeros for those out of range."""
    amax = np.max(np.abs(x), axis=1)
    bad = ~(amax < RANGE)
    failed |= bad
    return np.where(bad, np.float32(0), amax), np.where(bad[:, None], np.float32(0), x)


def quantise_rows(x: F32, limit: int) -> tuple[I64, F32, Bools]:
    """Integers [rows, width], scales float32 [rows], and which rows were out of range."""
    bad = np.zeros(x.shape[0], np.bool_)
    amax, x = in_range(x, bad)
    top = np.float32(limit)
    a = np.maximum(amax, top * np.float32(SCALE_FLOOR))
    values = np.rint(x * (top / a)[:, None])
    values = np.minimum(np.maximum(values, -top), top)
    scale: F32 = (a / top).astype(np.float32)
    return values.astype(np.int64), scale, bad


def norm_scalars(
    total: Array,
    rest: Array,
    squares: Array,
    width: int,
    exponent: NDArray[np.int32],
    eps: float,
) -> tuple[F32, F32]:
    """Mean and 1/√(variance + eps) of each row as float32, from the integer sums (float64)."""
    count = np.float64(width)
    unit = np.ldexp(np.float64(1), exponent - NORM_BITS)
    mean = (total.astype(np.float64) / count) * unit
    rest = rest.astype(np.float64)
    variance = (squares.astype(np.float64) - (rest * rest) / count) / count
    factor = np.float64(1) / np.sqrt(variance * (unit * unit) + np.float64(eps))
    return mean.astype(np.float32), factor.astype(np.float32)


def mean_row(x: F32, failed: Bools) -> F32:
    """The mean of [tokens, width] over tokens, with one power of two for the whole row."""
    amax = np.max(np.abs(x))
    if not amax < RANGE:
        failed[:] = True
        return np.zeros(x.shape[1], np.float32)
    exponent = fixed_exponent(amax)
    fixed = np.rint(x * power_of_two(FRACTION_BITS - exponent)).astype(np.int64)
    total = np.sum(fixed, axis=0)  # exact: int64
    unit = np.ldexp(np.float64(1), exponent - FRACTION_BITS)
    mean = (total.astype(np.float64) / np.float64(x.shape[0])) * unit
    result: F32 = mean.astype(np.float32)
    return result


def normalise_row(x: F32, failed: Bools) -> F32:
    """x / ‖x‖ of one vector [width]; a vector of zeros stays one."""
    amax = np.max(np.abs(x))
    if not amax < RANGE:
        failed[:] = True
        return np.zeros(x.shape[0], np.float32)
    fixed = np.rint(x * power_of_two(FRACTION_BITS - fixed_exponent(amax)))
    squares = np.sum(np.square(fixed.astype(np.int64)))  # exact: int64
    if squares == 0:
        return np.zeros(x.shape[0], np.float32)
    unit = fixed.astype(np.float64) / np.sqrt(squares.astype(np.float64))
    result: F32 = unit.astype(np.float32)
    return result


def attend(integers: I64, scales: F32, failed: Bools) -> F32:
    """One head of one row: ``integers`` [length, 3, d], ``scales`` [length, 3] to [length, d]."""
    query, key, value = integers[:, 0], integers[:, 1], integers[:, 2]
    query_scale = scales[:, 0] * score_factor(integers.shape[2])
    dots = np.matmul(query, key.T)  # exact: int64
    scores = (dots.astype(np.float32) * query_scale[:, None]) * scales[:, 1]
    largest = np.max(scores, axis=1)
    bad = ~np.isfinite(largest)
    failed |= bad
    scores = np.where(bad[:, None], np.float32(0), scores)
    largest = np.where(bad, np.float32(0), largest)
    weights = exp2(scores - largest[:, None])
    parts = np.rint(weights * DENOMINATOR).astype(np.int64)
    denominator = np.sum(parts, axis=1).astype(np.float32)  # exact: int64, rounded once
    weighted = weights * scales[:, 2]
    a = np.max(weighted, axis=1)
    top = np.float32(LIMIT_PROBABILITY)
    probabilities = np.minimum(np.rint(weighted * (top / a)[:, None]), top).astype(np.int64)
    sums = np.matmul(probabilities, value)  # exact: int64
    factor = (a / top) / (denominator * np.float32(2.0**-38))
    result: F32 = sums.astype(np.float32) * factor[:, None]
    return result
