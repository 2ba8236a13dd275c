"""The operations of the exact lane: this class is their specification, in plain NumPy.

``docs/EXACT.md`` says the same in words. A backend overrides any method with something faster;
its results must be the same bits. Integers are int64 here, so sums need no argument about
rounding. Floats are float32 with every operation rounded on its own, but for a few scalars per
row of a reduction, which are float64.

``failed`` is bool [tokens], or [rows] after pooling: an operation sets the entry of a vector
that it met with a value that is not finite or not below 2^64 in magnitude, and goes on with
zeros in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.numerics import LIMIT16, LIMIT_PROBABILITY, Exact
from gpu_worker.engine.polynomials import ACTIVATIONS, exp2

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
Array = NDArray[Any]

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
class Rope:
    """Rotary positions: ``cos`` and ``sin`` float32 [positions, d/2]."""

    cos: F32
    sin: F32


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive rows of equal length: tokens ``start`` to ``start + rows·length``."""

    start: int
    rows: int
    length: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed rows that are computed together; arrays live where the backend computes.

    ``tokens`` uint32 [tokens]; ``positions`` int64 [tokens], each token's place in its row;
    ``segments`` int64 [tokens], 0 or 1; ``failed`` bool [tokens].
    """

    lengths: tuple[int, ...]
    groups: tuple[Group, ...]
    tokens: Array
    positions: Array
    segments: Array
    failed: Array


def equal_lengths(lengths: Sequence[int]) -> tuple[Group, ...]:
    """Runs of neighbours of equal length."""
    groups = []
    start = 0
    for length, run in groupby(lengths):
        rows = len(list(run))
        groups.append(Group(start, rows, length))
        start += rows * length
    return tuple(groups)


def row_positions(lengths: Sequence[int]) -> I64:
    """Each token's place in its row."""
    sizes = np.asarray(lengths, np.int64)
    ends = np.cumsum(sizes, dtype=np.int64)
    total = int(np.sum(sizes, dtype=np.int64))
    return np.arange(total, dtype=np.int64) - np.repeat(ends - sizes, sizes)


def row_segments(tokens: NDArray[np.uint32], lengths: Sequence[int], separator: int) -> I64:
    """1 for the tokens that come after the first ``separator`` of their row, 0 for the others.

    A ``separator`` below 0 gives zeros.
    """
    segments = np.zeros(tokens.shape[0], np.int64)
    if separator < 0:
        return segments
    start = 0
    for length in lengths:
        places = np.flatnonzero(tokens[start : start + length] == separator)
        if places.size:
            segments[start + int(places[0]) + 1 : start + length] = 1
        start += length
    return segments


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

    def __init__(self, numerics: Exact) -> None:
        self.limit = numerics.activations

    # -- preparing and finishing -------------------------------------------------------------

    def weight(self, values: Array, scale: F32, bias: F32) -> Weight:
        """Bring a layer's stored integers [out, in] into the form that products take."""
        return Weight(values.astype(np.int64), scale, bias)

    def constant(self, values: Array) -> Array:
        """Bring a table or vector of the model to where the backend computes."""
        return values

    def batch(
        self, tokens: NDArray[np.uint32], lengths: Sequence[int], separator: int = -1
    ) -> Batch:
        """Take rows in: ``tokens`` [sum of lengths], row after row."""
        return Batch(
            lengths=tuple(lengths),
            groups=equal_lengths(lengths),
            tokens=tokens,
            positions=row_positions(lengths),
            segments=row_segments(tokens, lengths, separator),
            failed=np.zeros(tokens.shape[0], np.bool_),
        )

    def read(self, x: Array) -> Array:
        """A copy of an array in memory of the host."""
        return np.array(x)

    def read_operand(self, x: Operand) -> Operand:
        """A copy in memory of the host, with int64 values."""
        return Operand(np.array(x.values, np.int64), np.array(x.scale))

    def finish(self, values: F32, failed: Bools) -> tuple[F32, Bools]:
        """Results [rows, width] and which rows failed [rows], in memory of the host.

        A row with a value that is not finite fails as well; failed rows are zeros.
        """
        failed = failed | ~np.isfinite(values).all(axis=1)
        return np.where(failed[:, None], np.float32(0), values), failed

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

    def dense_add(self, x: Operand, weight: Weight, residual: F32) -> F32:
        """dense(x) + residual: float32 [tokens, width]."""
        return self.dense(x, weight) + residual

    def dense_norm(
        self, x: Operand, weight: Weight, residual: F32, norm: Norm, failed: Bools
    ) -> F32:
        """norm(dense(x) + residual): float32 [tokens, width]."""
        return self.norm(self.dense_add(x, weight, residual), norm, failed)

    def dense_act(self, x: Operand, weight: Weight, activation: str, failed: Bools) -> Operand:
        """A dense layer, an activation, and the result quantised for the next layer."""
        return self.quantise(ACTIVATIONS[activation](self.dense(x, weight)), failed)

    def dense_glu(self, x: Operand, weight: Weight, activation: str, failed: Bools) -> Operand:
        """A dense layer of 2·width outputs; activation(first half) · second half, quantised."""
        first, second = np.split(self.dense(x, weight), 2, axis=1)
        return self.quantise(ACTIVATIONS[activation](first) * second, failed)

    def activate(self, x: F32, activation: str) -> F32:
        """An activation of each value, for the few rows of a head."""
        return ACTIVATIONS[activation](x)

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

    def norm_quantise(self, x: F32, norm: Norm, failed: Bools) -> Operand:
        """quantise(norm(x)); ``x`` is kept."""
        return self.quantise(self.norm(x, norm, failed), failed)

    def embed_norm(self, word: F32, position: F32 | None, batch: Batch, norm: Norm) -> F32:
        """norm(word[token] + position[segment, place in the row]): float32 [tokens, width].

        ``word`` is [vocabulary, width]; ``position`` is [segments, positions, width], or None
        for models whose positions are rotary.
        """
        x = word[batch.tokens]
        if position is not None:
            x = x + position[batch.segments, batch.positions]
        return self.norm(x, norm, batch.failed)

    def pool(self, x: F32, batch: Batch, pooling: str) -> tuple[F32, Bools]:
        """Token vectors to row vectors: float32 [rows, width], and which rows failed: [rows].

        A row fails when a token of it did. ``pooling`` is ``mean``, ``max`` or ``cls`` (first
        token).
        """
        values = np.empty((len(batch.lengths), x.shape[1]), np.float32)
        failed = np.zeros(len(batch.lengths), np.bool_)
        start = 0
        for row, length in enumerate(batch.lengths):
            own = slice(start, start + length)
            if pooling == "cls":
                values[row] = x[start]
            else:
                vectors = x[own]
                if not np.max(np.abs(vectors)) < RANGE:
                    failed[row], vectors = True, np.zeros_like(vectors)
                values[row] = mean_row(vectors) if pooling == "mean" else max_row(vectors)
            failed[row] |= batch.failed[own].any()
            start += length
        return values, failed

    def normalise(self, x: F32, failed: Bools) -> F32:
        """x / ‖x‖ of row vectors [rows, width]; a vector of zeros stays one."""
        _, x = in_range(x, failed)
        return np.stack([normalise_row(vector) for vector in x])

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
        """Queries, keys and values from ``x``; every row attends to itself; quantised.

        ``qkv`` has 3·width outputs: all queries, all keys, all values, each head by head.
        ``rope`` turns queries and keys. With a ``window`` a token sees the tokens of its row at
        most so many places away, on either side.
        """
        tokens, width = x.scale.shape[0], qkv.values.shape[0] // 3
        size = width // heads
        parts = self.dense(x, qkv).reshape(tokens, 3, heads, size)
        if rope is not None:
            parts[:, :2] = rotate(parts[:, :2], rope, batch.positions)
        integers, scales, bad = quantise_rows(parts.reshape(-1, size), LIMIT16)
        batch.failed[bad.reshape(tokens, -1).any(axis=1)] = True
        integers = integers.reshape(tokens, 3, heads, size)
        scales = scales.reshape(tokens, 3, heads)
        context = np.empty((tokens, width), np.float32)
        start = 0
        for length in batch.lengths:
            own = slice(start, start + length)
            for head in range(heads):
                context[own, head * size : (head + 1) * size] = attend(
                    integers[own, :, head], scales[own, :, head], window, batch.failed[own]
                )
            start += length
        return self.quantise(context, batch.failed)


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


def mean_row(x: F32) -> F32:
    """The mean of [tokens, width] over tokens, with one power of two for the whole row."""
    exponent = fixed_exponent(np.max(np.abs(x)))
    fixed = np.rint(x * power_of_two(FRACTION_BITS - exponent)).astype(np.int64)
    total = np.sum(fixed, axis=0)  # exact: int64
    unit = np.ldexp(np.float64(1), exponent - FRACTION_BITS)
    mean = (total.astype(np.float64) / np.float64(x.shape[0])) * unit
    result: F32 = mean.astype(np.float32)
    return result


def max_row(x: F32) -> F32:
    """The maximum of [tokens, width] over tokens; zeros count as +0, so that ties have one sign."""
    result: F32 = np.max(x + np.float32(0), axis=0)
    return result


def normalise_row(x: F32) -> F32:
    """x / ‖x‖ of one vector [width]."""
    exponent = fixed_exponent(np.max(np.abs(x)))
    fixed = np.rint(x * power_of_two(FRACTION_BITS - exponent))
    squares = np.sum(np.square(fixed.astype(np.int64)))  # exact: int64
    if squares == 0:
        return np.zeros(x.shape[0], np.float32)
    unit = fixed.astype(np.float64) / np.sqrt(squares.astype(np.float64))
    result: F32 = unit.astype(np.float32)
    return result


def rotate(x: F32, rope: Rope, positions: I64) -> F32:
    """Rotary positions: ``x`` [tokens, parts, heads, d], each half of d a coordinate of pairs."""
    first, second = np.split(x, 2, axis=-1)
    cos = rope.cos[positions][:, None, None, :]
    sin = rope.sin[positions][:, None, None, :]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def visible(length: int, window: int) -> Bools:
    """Which keys a query sees: bool [queries, keys]."""
    if window == 0:
        return np.ones((length, length), np.bool_)
    places = np.arange(length)
    seen: Bools = np.abs(places[:, None] - places) <= window
    return seen


def attend(integers: I64, scales: F32, window: int, failed: Bools) -> F32:
    """One head of one row: ``integers`` [length, 3, d], ``scales`` [length, 3] to [length, d].

    Keys that a query does not see have no part in its maximum and no weight.
    """
    query, key, value = integers[:, 0], integers[:, 1], integers[:, 2]
    seen = visible(integers.shape[0], window)
    query_scale = scales[:, 0] * score_factor(integers.shape[2])
    dots = np.matmul(query, key.T)  # exact: int64
    scores = (dots.astype(np.float32) * query_scale[:, None]) * scales[:, 1]
    scores = np.where(seen, scores, -np.float32(np.inf))
    largest = np.max(scores, axis=1)
    bad = ~np.isfinite(largest)
    failed |= bad
    scores = np.where(bad[:, None] & seen, np.float32(0), scores)
    largest = np.where(bad, np.float32(0), largest)
    weights = np.where(seen, exp2(scores - largest[:, None]), np.float32(0))
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
