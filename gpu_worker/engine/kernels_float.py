"""What lies between the products of the float numerics, compiled by numba.

Here the compiler may fuse and reassociate: results are compared within a tolerance. It may not
assume that values are finite.
"""

from __future__ import annotations

from math import sqrt
from typing import Final

import numpy as np

from gpu_worker.engine.compiled import compiled
from gpu_worker.engine.kernels_numba import activate, exp2

_compiled: Final = compiled(fastmath={"reassoc", "contract", "arcp", "nsz"})
_ZERO: Final = np.float32(0)
_ONE: Final = np.float32(1)


@_compiled
def _norm_row(x, gain, bias, eps, out):
    width = x.shape[0]
    total = _ZERO
    for i in range(width):
        total += x[i]
    mean = np.float32(total / np.float32(width))
    squares = _ZERO
    for i in range(width):
        d = x[i] - mean
        squares += d * d
    factor = np.float32(1.0 / sqrt(np.float64(squares) / width + eps))
    for i in range(width):
        out[i] = ((x[i] - mean) * factor) * gain[i] + bias[i]


@_compiled
def dense_norm(sums, bias, residual, gain, shift, eps):
    """norm(sums + bias + residual), into ``residual``."""
    work = np.empty(sums.shape[1], np.float32)
    for r in range(sums.shape[0]):
        for i in range(sums.shape[1]):
            work[i] = sums[r, i] + bias[i] + residual[r, i]
        _norm_row(work, gain, shift, eps, residual[r])


@_compiled
def dense_add(sums, bias, residual):
    """sums + bias + residual, into ``residual``."""
    for r in range(sums.shape[0]):
        for i in range(sums.shape[1]):
            residual[r, i] += sums[r, i] + bias[i]


@_compiled
def dense_act(sums, bias, code):
    """activation(sums + bias), in place."""
    for r in range(sums.shape[0]):
        for i in range(sums.shape[1]):
            sums[r, i] += bias[i]
        activate(sums[r], code)


@_compiled
def dense_glu(sums, bias, code, out):
    """activation(first half) · second half of sums + bias."""
    width = out.shape[1]
    for r in range(sums.shape[0]):
        for i in range(2 * width):
            sums[r, i] += bias[i]
        activate(sums[r, :width], code)
        for i in range(width):
            out[r, i] = sums[r, i] * sums[r, width + i]


@_compiled
def norm(x, gain, bias, eps, out):
    """Layer norm of rows."""
    for r in range(x.shape[0]):
        _norm_row(x[r], gain, bias, eps, out[r])


@_compiled
def embed_norm(word, position, tokens, segments, positions, gain, bias, eps, out):
    """norm(word + position); ``position`` has no rows where positions are rotary."""
    width = word.shape[1]
    work = np.empty(width, np.float32)
    for r in range(tokens.shape[0]):
        work[:] = word[tokens[r]]
        if position.shape[0]:
            place = position[segments[r], positions[r]]
            for i in range(width):
                work[i] += place[i]
        _norm_row(work, gain, bias, eps, out[r])


@_compiled
def heads(sums, bias, cos, sin, positions, count, factor):
    """sums [tokens, 3·heads·d] + bias, queries and keys turned, queries times ``factor``."""
    tokens = sums.shape[0]
    width = sums.shape[1] // 3
    size = width // count
    half = size // 2
    for r in range(tokens):
        row = sums[r]
        for i in range(3 * width):
            row[i] += bias[i]
        if cos.shape[0]:
            c, s = cos[positions[r]], sin[positions[r]]
            for h in range(2 * count):
                first = row[h * size : h * size + half]
                second = row[h * size + half : (h + 1) * size]
                for i in range(half):
                    x, y = first[i], second[i]
                    first[i] = x * c[i] - y * s[i]
                    second[i] = y * c[i] + x * s[i]
        for i in range(width):
            row[i] *= factor


@_compiled
def softmax(scores, first_query, first_key, window):
    """2^(score - largest) over its sum, for [rows, heads, queries, keys], in place."""
    rows, count, queries, keys = scores.shape
    for r in range(rows):
        for h in range(count):
            for q in range(queries):
                begin, end = 0, keys
                if window:
                    place = first_query + q - first_key
                    begin, end = max(0, place - window), min(keys, place + window + 1)
                    scores[r, h, q, :begin] = _ZERO
                    scores[r, h, q, end:] = _ZERO
                # Loops begin at 0, else the compiler must allow for negative places.
                row = scores[r, h, q, begin:end]
                top = row[0]
                for k in range(row.shape[0]):
                    top = max(top, row[k])
                total = _ZERO
                for k in range(row.shape[0]):
                    row[k] = exp2(row[k] - top)
                    total += row[k]
                share = _ONE / total
                for k in range(row.shape[0]):
                    row[k] *= share
