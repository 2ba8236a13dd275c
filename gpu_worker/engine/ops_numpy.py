"""The exact lane on a CPU: BLAS products on integers held in floats, and few passes over memory.

Same bits as ``Ops``. What makes that so is noted beside each shortcut: a float sum is used only
where every partial sum is an integer that the float holds exactly (the bounds are in
``docs/EXACT.md``), and a clamp is left out only where it cannot act.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.numerics import LIMIT8, LIMIT16, LIMIT_PROBABILITY, Exact
from gpu_worker.engine.ops import (
    DENOMINATOR,
    NORM_BITS,
    RANGE,
    SCALE_FLOOR,
    Array,
    Batch,
    Bools,
    Norm,
    Operand,
    Ops,
    Rope,
    Weight,
    fixed_exponent,
    norm_scalars,
    power_of_two,
    score_factor,
)
from gpu_worker.engine.pairs import seen_keys
from gpu_worker.engine.polynomials import (
    ACTIVATIONS,
    EXP2,
    EXP2_LOWEST,
    HALF,
    NORMAL_BOTTOM,
    NORMAL_CLAMP,
    NORMAL_TOP,
)
from gpu_worker.engine.scratch import Scratch

F32 = NDArray[np.float32]

FLOAT32_DEPTH: Final = 1024
"""Products of ±127 (or -128) that float32 adds exactly: 2^14 · 2^10 = 2^24."""
SQUARES_DEPTH: Final = 512
"""Squares of 22-bit integers that float64 adds exactly."""
BLOCK_VALUES: Final = 65_536
"""Values that elementwise passes work on at a time: few calls, and scratch that stays in cache."""
PAIR_VALUES: Final = 131_072
"""Query-key pairs that attention works on at a time."""
ROUNDER: Final = np.float32(1.5 * 2**23)
"""z + ROUNDER is rint(z) in the low bits, for |z| ≤ 2^22."""


class NumpyOps(Ops):
    """Operations over NumPy and its BLAS, for one thread."""

    def __init__(self, numerics: Exact) -> None:
        super().__init__(numerics)
        small = max(numerics.activations, numerics.weights) <= LIMIT8
        self._carrier = np.dtype(np.float32 if small else np.float64)
        self._scratch = Scratch()

    def weight(self, values: Array, scale: F32, bias: F32) -> Weight:
        """The integers as floats, once, in the type that the products run in."""
        # One input's weights lie together in memory, which BLAS multiplies a little faster.
        return Weight(values.astype(self._carrier, order="F"), scale, bias)

    # -- quantisation ----------------------------------------------------------------------

    def quantise(self, x: F32, failed: Bools) -> Operand:
        """See ``Ops.quantise``."""
        out = self._scratch.take("operand", x.shape, self._carrier)
        scale = np.empty(x.shape[0], np.float32)
        for rows in _blocks(x.shape[0], x.shape[1]):
            scale[rows] = self._quantise_block(x[rows], out[rows], failed[rows])
        return Operand(out, scale)

    def _quantise_block(self, x: F32, out: Array, failed: Bools) -> F32:
        """Integers of ``x`` [rows, width] into ``out``; ``x`` may be overwritten. The scales."""
        work = self._scratch.take("quantise", x.shape, np.float32)
        np.abs(x, out=work)
        amax = np.max(work, axis=1)
        bad = ~(amax < RANGE)
        if bad.any():
            failed |= bad
            x = np.where(bad[:, None], np.float32(0), x)
            amax = np.where(bad, np.float32(0), amax)
        top = np.float32(self.limit)
        a = np.maximum(amax, top * np.float32(SCALE_FLOOR))
        np.multiply(x, (top / a)[:, None], out=work)
        # |x · (top/a)| < top + 1/2, so the clamp of the definition cannot act.
        np.rint(work, out=work)
        np.copyto(out, work)
        scale: F32 = a / top
        return scale

    # -- dense layers ----------------------------------------------------------------------

    def product(self, x: Array, y: Array, name: str) -> Array:
        """x @ y for integers in floats: exact, as float64 or float32 [x rows, y columns]."""
        shape, depth = (x.shape[0], y.shape[1]), x.shape[1]
        if self._carrier == np.float64 or depth <= FLOAT32_DEPTH:
            out = self._scratch.take(name, shape, self._carrier)
            return np.matmul(x, y, out=out)  # exact: integers below 2^53, or 2^24 in float32
        part = self._scratch.take(name + " part", shape, np.float32)
        # Two exact parts have an exact or once rounded float32 sum; more parts need float64.
        kind = np.float32 if depth <= 2 * FLOAT32_DEPTH else np.float64
        total = self._scratch.take(name, shape, kind)
        total[...] = 0
        for start in range(0, depth, FLOAT32_DEPTH):
            own = slice(start, start + FLOAT32_DEPTH)
            np.matmul(x[:, own], y[own], out=part)  # exact: integers up to 2^24 in float32
            total += part
        return total

    def _finish_dense(self, totals: Array, scale: F32, weight: Weight, out: F32) -> None:
        """Exact sums [rows, out] to float32, scaled, with bias."""
        np.copyto(out, totals, casting="same_kind")
        out *= scale[:, None]
        out *= weight.scale
        out += weight.bias

    def dense(self, x: Operand, weight: Weight) -> F32:
        """See ``Ops.dense``."""
        totals = self.product(x.values, weight.values.T, "wide")
        out = np.empty(totals.shape, np.float32)
        self._finish_dense(totals, x.scale, weight, out)
        return out

    def dense_add(self, x: Operand, weight: Weight, residual: F32) -> F32:
        """See ``Ops.dense_add``. The result takes the place of ``residual``."""
        totals = self.product(x.values, weight.values.T, "narrow")
        for rows in _blocks(*totals.shape):
            block = self._scratch.take("dense", totals[rows].shape, np.float32)
            self._finish_dense(totals[rows], x.scale[rows], weight, block)
            np.add(block, residual[rows], out=residual[rows])
        return residual

    def dense_act(self, x: Operand, weight: Weight, activation: str, failed: Bools) -> Operand:
        """See ``Ops.dense_act``. The result takes the place of the sums."""
        totals = self.product(x.values, weight.values.T, "wide")
        width = totals.shape[1]
        values = totals if totals.dtype == self._carrier else np.empty(totals.shape, self._carrier)
        scale = np.empty(totals.shape[0], np.float32)
        for rows in _blocks(totals.shape[0], width):
            block = self._scratch.take("dense", (rows.stop - rows.start, width), np.float32)
            self._finish_dense(totals[rows], x.scale[rows], weight, block)
            self._activate(block, activation)
            scale[rows] = self._quantise_block(block, values[rows], failed[rows])
        return Operand(values, scale)

    def dense_glu(self, x: Operand, weight: Weight, activation: str, failed: Bools) -> Operand:
        """See ``Ops.dense_glu``."""
        totals = self.product(x.values, weight.values.T, "wide")
        width = totals.shape[1] // 2
        values = self._scratch.take("glu", (totals.shape[0], width), self._carrier)
        scale = np.empty(totals.shape[0], np.float32)
        for rows in _blocks(*totals.shape):
            block = self._scratch.take("dense", totals[rows].shape, np.float32)
            self._finish_dense(totals[rows], x.scale[rows], weight, block)
            gate = self._scratch.take("gate", (block.shape[0], width), np.float32)
            np.copyto(gate, block[:, :width])
            self._activate(gate, activation)
            gate *= block[:, width:]
            scale[rows] = self._quantise_block(gate, values[rows], failed[rows])
        return Operand(values, scale)

    def _activate(self, x: F32, activation: str) -> None:
        """An activation in place."""
        if activation == "gelu":
            self._gelu(x)
        else:
            np.copyto(x, ACTIVATIONS[activation](x))

    def dense_norm(
        self, x: Operand, weight: Weight, residual: F32, norm: Norm, failed: Bools
    ) -> F32:
        """See ``Ops.dense_norm``. The result takes the place of ``residual``."""
        totals = self.product(x.values, weight.values.T, "narrow")
        width = totals.shape[1]
        for rows in _blocks(totals.shape[0], width):
            block = self._scratch.take("dense", (rows.stop - rows.start, width), np.float32)
            self._finish_dense(totals[rows], x.scale[rows], weight, block)
            block += residual[rows]
            self._norm_block(block, norm, failed[rows], residual[rows])
        return residual

    def _gelu(self, x: F32) -> None:
        """x · Φ(x) in place, as ``polynomials.gelu``."""
        u = self._scratch.take("gelu u", x.shape, np.float32)
        t = self._scratch.take("gelu t", x.shape, np.float32)
        top = self._scratch.take("gelu top", x.shape, np.float32)
        np.clip(x, -NORMAL_CLAMP, NORMAL_CLAMP, out=u)
        np.multiply(u, u, out=t)
        _horner(NORMAL_TOP, t, top)
        u *= top
        _horner(NORMAL_BOTTOM, t, top)
        u /= top
        u += HALF
        x *= u

    # -- reductions ------------------------------------------------------------------------

    def norm(self, x: F32, norm: Norm, failed: Bools) -> F32:
        """See ``Ops.norm``."""
        out = np.empty_like(x)
        for rows in _blocks(x.shape[0], x.shape[1]):
            self._norm_block(x[rows], norm, failed[rows], out[rows])
        return out

    def _norm_block(self, x: F32, norm: Norm, failed: Bools, out: F32) -> None:
        """Layer norm of ``x`` [rows, width] into ``out``; ``x`` may be overwritten."""
        width = x.shape[1]
        work = self._scratch.take("norm", x.shape, np.float32)
        np.abs(x, out=work)
        amax = np.max(work, axis=1)
        bad = ~(amax < RANGE)
        if bad.any():
            failed |= bad
            x[bad] = 0
            amax = np.where(bad, np.float32(0), amax)
        exponent = fixed_exponent(amax)
        fixed = self._scratch.take("norm fixed", x.shape, np.float64)
        np.multiply(x, power_of_two(NORM_BITS - exponent)[:, None], out=work)
        np.rint(work, out=work)
        np.copyto(fixed, work)
        total = np.matmul(fixed, self._ones(width))  # exact: integers below 2^22 · width
        squares = sum_squares(fixed)
        sums = total.astype(np.int64)
        middle = np.rint(total / np.float64(width)).astype(np.int64)
        rest = sums - middle * width
        # Σ(q - m)² = Σq² - m·(2·Σq - m·width), in int64
        squares -= middle * (2 * sums - middle * width)
        mean, factor = norm_scalars(total, rest, squares, width, exponent, norm.eps)
        np.subtract(x, mean[:, None], out=out)
        out *= factor[:, None]
        out *= norm.gain
        out += norm.bias

    def _ones(self, width: int) -> NDArray[np.float64]:
        ones: NDArray[np.float64] = self._scratch.take("ones", (width,), np.float64)
        ones[...] = 1
        return ones

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
        """See ``Ops.attention``. Tokens run along the last axis until the context is done."""
        failed = batch.failed
        tokens, channels = x.scale.shape[0], qkv.values.shape[0]
        width = channels // 3
        head_width = width // heads
        integers = self._scratch.take("heads", (3 * heads, head_width, tokens), np.float64)
        scales = self._scratch.take("head scales", (3 * heads, tokens), np.float32)
        totals = self.product(qkv.values, x.values.T, "wide")
        totals = totals.reshape(3 * heads, head_width, tokens)
        turn = None if rope is None else (rope.cos[batch.positions].T, rope.sin[batch.positions].T)
        for block in _blocks(3 * heads, head_width * tokens):
            self._quantise_heads(
                totals[block],
                x.scale,
                qkv.scale.reshape(3 * heads, head_width, 1)[block],
                qkv.bias.reshape(3 * heads, head_width, 1)[block],
                None if turn is None else (max(0, 2 * heads - block.start), *turn),
                integers[block],
                scales[block],
                failed,
            )
        scales[:heads] *= score_factor(head_width)
        context = self._scratch.take("context", (heads, head_width, tokens), np.float32)
        for group in batch.groups:
            own = slice(group.start, group.start + group.rows * group.length)
            shape = (heads, head_width, group.rows, group.length)
            query, key, value = (
                integers[part * heads : (part + 1) * heads, :, own]
                .reshape(shape)
                .transpose(2, 0, 1, 3)
                for part in range(3)
            )
            query_scale, key_scale, value_scale = (
                scales[part * heads : (part + 1) * heads, own]
                .reshape(heads, group.rows, group.length)
                .transpose(1, 0, 2)
                for part in range(3)
            )
            out = context[:, :, own].reshape(shape).transpose(2, 0, 1, 3)
            bad = failed[own].reshape(group.rows, group.length)
            for rows, some, queries in _pair_blocks(group.rows, heads, group.length):
                keys = seen_keys(queries, group.length, window)
                self._attend(
                    query[rows, some, :, queries],
                    key[rows, some, :, keys],
                    value[rows, some, :, keys],
                    query_scale[rows, some, queries],
                    key_scale[rows, some, keys],
                    value_scale[rows, some, keys],
                    out[rows, some, :, queries],
                    bad[rows, queries],
                    _hidden(queries, keys, group.length, window),
                )
        return self._quantise_columns(context.reshape(width, tokens), failed)

    def _quantise_heads(
        self,
        totals: Array,
        scale: F32,
        channel_scale: F32,
        channel_bias: F32,
        turn: tuple[int, F32, F32] | None,
        out: Array,
        scales: F32,
        failed: Bools,
    ) -> None:
        """Finish a dense layer [parts, d, tokens] and quantise each part of each token.

        ``turn``: how many parts are turned first, by which cos and sin [d/2, tokens].
        """
        work = self._scratch.take("dense", totals.shape, np.float32)
        absolute = self._scratch.take("quantise", totals.shape, np.float32)
        np.copyto(work, totals, casting="same_kind")
        work *= scale
        work *= channel_scale
        work += channel_bias
        if turn is not None:
            parts, cos, sin = turn
            _rotate(work[:parts], cos, sin)
        np.abs(work, out=absolute)
        amax = np.max(absolute, axis=1)
        bad = ~(amax < RANGE)
        if bad.any():
            failed |= bad.any(axis=0)
            np.copyto(work, np.float32(0), where=bad[:, None, :])
            amax = np.where(bad, np.float32(0), amax)
        top = np.float32(LIMIT16)
        a = np.maximum(amax, top * np.float32(SCALE_FLOOR))
        work *= (top / a)[:, None, :]
        # The clamp of the definition cannot act, as in _quantise_block.
        np.rint(work, out=work)
        np.copyto(out, work)
        np.divide(a, top, out=scales)

    def _quantise_columns(self, x: F32, failed: Bools) -> Operand:
        """Quantise [width, tokens] for each token; the values come back as [tokens, width]."""
        work = self._scratch.take("columns", x.shape, np.float32)
        np.abs(x, out=work)
        amax = np.max(work, axis=0)
        bad = ~(amax < RANGE)
        if bad.any():
            failed |= bad
            x[:, bad] = 0
            amax = np.where(bad, np.float32(0), amax)
        top = np.float32(self.limit)
        a = np.maximum(amax, top * np.float32(SCALE_FLOOR))
        np.multiply(x, top / a, out=work)
        np.rint(work, out=work)
        values = self._scratch.take("context integers", x.shape, self._carrier)
        np.copyto(values, work)
        return Operand(values.T, a / top)

    def _attend(
        self,
        query: Array,
        key: Array,
        value: Array,
        query_scale: F32,
        key_scale: F32,
        value_scale: F32,
        out: F32,
        failed: Bools,
        hidden: Bools | None,
    ) -> None:
        """Some heads of some rows, some queries against their keys; see ``ops.attend``.

        ``query`` and ``out`` are [rows, heads, d, queries], ``key`` and ``value`` [rows, heads,
        d, keys], the scales without d; ``failed`` is [rows, queries]. ``hidden`` [keys, queries]
        marks keys that a query does not see, if there are such.
        """
        take = self._scratch.take
        keys = key.shape[-1]
        # Keys come first, so that maxima and sums over them run along contiguous memory.
        shape = (keys, *query_scale.shape)
        exact = take("pairs exact", shape, np.float64)
        weights = take("pairs", shape, np.float32)
        work = take("pairs work", shape, np.float32)
        matrices = exact.transpose(1, 2, 0, 3)
        np.matmul(key.swapaxes(-1, -2), query, out=matrices)  # exact: integers below 2^53
        np.copyto(weights, exact, casting="same_kind")
        weights *= query_scale
        weights *= key_scale.transpose(2, 0, 1)[..., None]
        if hidden is not None:
            np.copyto(weights, -np.float32(np.inf), where=hidden[:, None, None, :])
        largest = np.max(weights, axis=0)
        bad = ~np.isfinite(largest)
        if bad.any():
            failed |= bad.any(axis=1)
            weights[:, bad] = 0
            largest = np.where(bad, np.float32(0), largest)
        weights -= largest
        self._exp2(weights)
        if hidden is not None:
            np.copyto(weights, np.float32(0), where=hidden[:, None, None, :])
        np.multiply(weights, DENOMINATOR, out=work)
        np.rint(work, out=work)
        np.copyto(exact, work)
        total = np.sum(exact, axis=0)  # exact: integers below 2^38 · 32,768 in float64
        weights *= value_scale.transpose(2, 0, 1)[..., None]
        a = np.max(weights, axis=0)
        top = np.float32(LIMIT_PROBABILITY)
        ratio = top / a
        weights *= ratio
        np.rint(weights, out=weights)
        # The largest of a query becomes rint(a · ratio): where that is in bounds, all are.
        if (np.rint(a * ratio) > top).any():
            np.minimum(weights, top, out=weights)
        np.copyto(exact, weights)
        sums = take("pairs sums", (*key.shape[:-1], query.shape[-1]), np.float64)
        np.matmul(value, matrices, out=sums)  # exact: below 2^53 to 32,768 keys
        factor = (a / top) / (total.astype(np.float32) * np.float32(2.0**-38))
        np.copyto(out, sums, casting="same_kind")
        out *= factor[:, :, None, :]

    def _exp2(self, z: F32) -> None:
        """2^z in place for z ≤ 0, as ``polynomials.exp2``."""
        if z.size and not np.min(z) >= EXP2_LOWEST:
            np.maximum(z, EXP2_LOWEST, out=z)
        shifted = self._scratch.take("exp2 shifted", z.shape, np.float32)
        work = self._scratch.take("pairs work", z.shape, np.float32)
        np.add(z, ROUNDER, out=shifted)
        np.subtract(shifted, ROUNDER, out=work)  # rint(z), exactly
        z -= work
        _horner(EXP2, z, work)
        power = shifted.view(np.uint32)
        power <<= 23  # the integer in the low bits of the sum, moved to the exponent's place
        np.add(work.view(np.uint32), power, out=z.view(np.uint32))


def sum_squares(fixed: NDArray[np.float64]) -> NDArray[np.int64]:
    """Σq² of each row [rows, width] of integers of at most 2^22 in magnitude: int64 [rows]."""
    total = np.zeros(fixed.shape[0], np.int64)
    for start in range(0, fixed.shape[1], SQUARES_DEPTH):
        some = fixed[:, start : start + SQUARES_DEPTH]
        total += np.vecdot(some, some).astype(np.int64)  # exact: at most 2^44 · 2^9 = 2^53
    return total


def _horner(coefficients: Sequence[np.float32], x: F32, out: F32) -> None:
    """``polynomials.horner`` into ``out``."""
    np.multiply(x, coefficients[-1], out=out)
    for coefficient in coefficients[-2:0:-1]:
        out += coefficient
        out *= x
    out += coefficients[0]


def _blocks(rows: int, width: int) -> list[slice]:
    """Slices of rows with about BLOCK_VALUES values each."""
    step = max(1, BLOCK_VALUES // width)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _rotate(x: F32, cos: F32, sin: F32) -> None:
    """``ops.rotate`` in place: ``x`` [parts, d, tokens], ``cos`` and ``sin`` [d/2, tokens]."""
    half = x.shape[1] // 2
    first, second = x[:, :half], x[:, half:]
    turned = first * cos
    turned -= second * sin
    crossed = first * sin
    second *= cos
    second += crossed
    first[...] = turned


def _hidden(queries: slice, keys: slice, length: int, window: int) -> Bools | None:
    """Which of these keys [keys, queries] a query does not see; None if it sees them all."""
    first, last = queries.start, min(queries.stop, length) - 1
    if window == 0 or (last - keys.start <= window and keys.stop - 1 - first <= window):
        return None
    hidden: Bools = (
        np.abs(np.arange(keys.start, keys.stop)[:, None] - np.arange(first, last + 1)) > window
    )
    return hidden


def _pair_blocks(rows: int, heads: int, length: int) -> list[tuple[slice, slice, slice]]:
    """Slices of rows, heads and queries with about PAIR_VALUES pairs each."""
    queries = min(length, max(1, PAIR_VALUES // length))
    some = min(heads, max(1, PAIR_VALUES // (length * queries)))
    step = max(1, PAIR_VALUES // (length * queries * some)) if some == heads else 1
    return [
        (slice(r, r + step), slice(h, h + some), slice(q, q + queries))
        for r in range(0, rows, step)
        for h in range(0, heads, some)
        for q in range(0, length, queries)
    ]
