"""What lies between the products, compiled by numba: same bits as ``ops``, fewer passes.

Each kernel works row by row, so that a row stays in the nearest cache from the product's sums to
the next product's input. Float operations are written one by one with typed operands, and no
fast-math flag is given, so nothing is fused or reassociated. Largest magnitudes are found among
the bits: those of non-negative floats order as integers do, and infinities and NaN lie above
every finite number.
"""

from __future__ import annotations

from math import ldexp, sqrt
from typing import Final

import numpy as np

from gpu_worker.engine.compiled import bits_of, bits_of_double, compiled, float_of
from gpu_worker.engine.numerics import LIMIT16, LIMIT_PROBABILITY
from gpu_worker.engine.ops import DENOMINATOR, FRACTION_BITS, NORM_BITS, RANGE, SCALE_FLOOR
from gpu_worker.engine.polynomials import (
    EXP2,
    EXP2_LOWEST,
    GELU_TANH_CUBIC,
    GELU_TANH_LINEAR,
    HALF,
    NORMAL_BOTTOM,
    NORMAL_CLAMP,
    NORMAL_TOP,
    ONE,
    TANH_BOTTOM,
    TANH_CLAMP,
    TANH_TOP,
)

_compiled: Final = compiled()
_inlined: Final = compiled(inline=True)

NONE, GELU, GELU_TANH, RELU, TANH = range(5)
ACTIVATION_CODES: Final = {"gelu": GELU, "gelu_tanh": GELU_TANH, "relu": RELU, "tanh": TANH}

_MAGNITUDE: Final = np.int32(0x7FFFFFFF)
_RANGE_BITS: Final = np.int32(np.array(RANGE).view(np.int32))
_FLOOR_BITS: Final = np.int32(np.array(SCALE_FLOOR, np.float32).view(np.int32))
_INFINITE_BITS: Final = np.int32(0x7F800000)
_FLOOR: Final = np.float32(SCALE_FLOOR)
_ZERO: Final = np.float32(0)
_TOP16: Final = np.float32(LIMIT16)
_TOP_PROBABILITY: Final = np.float32(LIMIT_PROBABILITY)
_ROUNDER: Final = np.float32(1.5 * 2**23)
_ROUNDER_BITS: Final = np.int32(_ROUNDER.view(np.int32))
_TWO_23: Final = np.float32(2.0**23)
_DENOMINATOR: Final = np.float64(DENOMINATOR)
_DENOMINATOR_UNIT: Final = np.float32(2.0**-38)
_ROUNDER_DOUBLE: Final = np.float64(1.5 * 2**52)
_ROUNDER_DOUBLE_BITS: Final = np.int64(_ROUNDER_DOUBLE.view(np.int64))

_N0, _N1, _N2, _N3, _N4, _N5 = NORMAL_TOP
_M0, _M1, _M2, _M3, _M4, _M5 = NORMAL_BOTTOM
_T0, _T1, _T2, _T3, _T4, _T5 = TANH_TOP
_U0, _U1, _U2, _U3, _U4, _U5 = TANH_BOTTOM
_E0, _E1, _E2, _E3, _E4, _E5, _E6 = EXP2


# -- functions of one value ----------------------------------------------------------------


@_inlined
def _gelu(x):
    u = min(max(x, -NORMAL_CLAMP), NORMAL_CLAMP)
    t = u * u
    top = ((((_N5 * t + _N4) * t + _N3) * t + _N2) * t + _N1) * t + _N0
    bottom = ((((_M5 * t + _M4) * t + _M3) * t + _M2) * t + _M1) * t + _M0
    return x * (HALF + (u * top) / bottom)


@_inlined
def _tanh(x):
    u = min(max(x, -TANH_CLAMP), TANH_CLAMP)
    t = u * u
    top = ((((_T5 * t + _T4) * t + _T3) * t + _T2) * t + _T1) * t + _T0
    bottom = ((((_U5 * t + _U4) * t + _U3) * t + _U2) * t + _U1) * t + _U0
    return min(max((u * top) / bottom, -ONE), ONE)


@_inlined
def _gelu_tanh(x):
    inner = _tanh(x * (GELU_TANH_LINEAR + GELU_TANH_CUBIC * (x * x)))
    return x * (HALF + HALF * inner)


@_compiled
def activate(x, code):
    """An activation of each value of a contiguous vector, in place."""
    if code == GELU:
        for i in range(x.shape[0]):
            x[i] = _gelu(x[i])
    elif code == GELU_TANH:
        for i in range(x.shape[0]):
            x[i] = _gelu_tanh(x[i])
    elif code == RELU:
        for i in range(x.shape[0]):
            x[i] = max(x[i], _ZERO) + _ZERO
    elif code == TANH:
        for i in range(x.shape[0]):
            x[i] = _tanh(x[i])


# -- functions of one row ------------------------------------------------------------------


@_inlined
def _rint(x):
    """``rint`` of a float32 of at most 2^22 in magnitude; processors do this many at a time."""
    return (x + _ROUNDER) - _ROUNDER


@_compiled
def _largest_bits(x):
    """The largest magnitude of a vector, as its bits."""
    largest = np.int32(0)
    for i in range(x.shape[0]):
        largest = max(largest, np.int32(bits_of(x[i]) & _MAGNITUDE))
    return largest


@_compiled
def _quantise_row(x, limit, out):
    """``ops.quantise_rows`` of one row: ``x`` float32 [width] into ``out``; the scale, and whether
    the row was in range."""
    largest = _largest_bits(x)
    good = largest < _RANGE_BITS
    if not good:
        x[:] = _ZERO
        largest = np.int32(0)
    a = max(float_of(largest), limit * _FLOOR)
    ratio = limit / a
    # |x · ratio| < limit + 1/2, so the clamp of the definition cannot act.
    for i in range(x.shape[0]):
        out[i] = _rint(x[i] * ratio)
    return a / limit, good


@_compiled
def _norm_row(x, fixed, gain, bias, eps, out):
    """``Ops.norm`` of one row: ``x`` float32 [width] (may be overwritten) into ``out``; whether it
    was in range. ``fixed`` is int32 [width], scratch."""
    width = x.shape[0]
    largest = _largest_bits(x)
    good = largest < _RANGE_BITS
    if not good:
        x[:] = _ZERO
        largest = np.int32(0)
    # A magnitude in [2^(e-1), 2^e) has the exponent field e + 126.
    exponent = (max(largest, _FLOOR_BITS) >> 23) - 126
    power = float_of(np.int32((NORM_BITS - exponent + 127) << 23))
    total = np.int64(0)
    for i in range(width):
        # The integer stands in the low bits of the sum.
        n = np.int32(bits_of(x[i] * power + _ROUNDER) - _ROUNDER_BITS)
        fixed[i] = n
        total += n
    count = np.float64(width)
    middle = np.int32(np.rint(np.float64(total) / count))
    squares = np.int64(0)
    for i in range(width):
        d = np.int64(np.int32(fixed[i] - middle))
        squares += d * d
    rest = np.float64(total - np.int64(middle) * width)
    unit = ldexp(1.0, exponent - NORM_BITS)
    mean = np.float32((np.float64(total) / count) * unit)
    variance = (np.float64(squares) - (rest * rest) / count) / count
    factor = np.float32(1.0 / sqrt(variance * (unit * unit) + eps))
    for i in range(width):
        out[i] = ((x[i] - mean) * factor) * gain[i] + bias[i]
    return good


@_compiled
def _finish_row(totals, scale, channel, bias, out):
    """A dense layer's exact sums of one row to float32: scaled, with bias."""
    for i in range(totals.shape[0]):
        out[i] = ((np.float32(totals[i]) * scale) * channel[i]) + bias[i]


# -- whole operations ----------------------------------------------------------------------
# Arrays are whole and contiguous, with places given as numbers: a slice would be of another type
# and make the function be compiled again in the midst of work.


@_compiled
def quantise(x, limit, out, scale, failed):
    """``Ops.quantise``: ``x`` float32 [rows, width] into ``out`` and ``scale`` [rows]."""
    work = np.empty(x.shape[1], np.float32)
    for r in range(x.shape[0]):
        work[:] = x[r]
        scale[r], good = _quantise_row(work, limit, out[r])
        failed[r] |= not good


@_compiled
def dense(totals, x_scale, channel, bias, out):
    """``Ops.dense`` behind the product: sums [rows, width] into float32 ``out``."""
    for r in range(totals.shape[0]):
        _finish_row(totals[r], x_scale[r], channel, bias, out[r])


@_compiled
def dense_add(totals, x_scale, channel, bias, residual):
    """``Ops.dense_add`` behind the product, into ``residual``."""
    for r in range(totals.shape[0]):
        s = x_scale[r]
        for i in range(totals.shape[1]):
            y = ((np.float32(totals[r, i]) * s) * channel[i]) + bias[i]
            residual[r, i] = y + residual[r, i]


@_compiled
def dense_norm(totals, x_scale, channel, bias, residual, gain, shift, eps, failed):
    """``Ops.dense_norm`` behind the product, into ``residual``."""
    width = totals.shape[1]
    work, fixed = np.empty(width, np.float32), np.empty(width, np.int32)
    for r in range(totals.shape[0]):
        _finish_row(totals[r], x_scale[r], channel, bias, work)
        for i in range(width):
            work[i] = work[i] + residual[r, i]
        failed[r] |= not _norm_row(work, fixed, gain, shift, eps, residual[r])


@_compiled
def dense_act(totals, x_scale, channel, bias, code, limit, out, scale, failed):
    """``Ops.dense_act`` behind the product; ``out`` may be ``totals``."""
    work = np.empty(totals.shape[1], np.float32)
    for r in range(totals.shape[0]):
        _finish_row(totals[r], x_scale[r], channel, bias, work)
        activate(work, code)
        scale[r], good = _quantise_row(work, limit, out[r])
        failed[r] |= not good


@_compiled
def dense_glu(totals, x_scale, channel, bias, code, limit, out, scale, failed):
    """``Ops.dense_glu`` behind the product: sums [rows, 2·width] into ``out`` [rows, width]."""
    width = totals.shape[1] // 2
    work = np.empty(2 * width, np.float32)
    for r in range(totals.shape[0]):
        _finish_row(totals[r], x_scale[r], channel, bias, work)
        activate(work[:width], code)
        for i in range(width):
            work[i] = work[i] * work[width + i]
        scale[r], good = _quantise_row(work[:width], limit, out[r])
        failed[r] |= not good


@_compiled
def norm(x, gain, bias, eps, out, failed):
    """``Ops.norm`` of rows [rows, width]; ``x`` is kept."""
    width = x.shape[1]
    work, fixed = np.empty(width, np.float32), np.empty(width, np.int32)
    for r in range(x.shape[0]):
        work[:] = x[r]
        failed[r] |= not _norm_row(work, fixed, gain, bias, eps, out[r])


@_compiled
def embed_norm(word, position, tokens, segments, positions, gain, bias, eps, out, failed):
    """``Ops.embed_norm``; ``position`` has no rows where positions are rotary."""
    width = word.shape[1]
    work, fixed = np.empty(width, np.float32), np.empty(width, np.int32)
    for r in range(tokens.shape[0]):
        work[:] = word[tokens[r]]
        if position.shape[0]:
            place = position[segments[r], positions[r]]
            for i in range(width):
                work[i] = work[i] + place[i]
        failed[r] |= not _norm_row(work, fixed, gain, bias, eps, out[r])


@_compiled
def heads(totals, x_scale, channel, bias, cos, sin, positions, out, scales, factor, failed):
    """Finish ``qkv``, turn queries and keys, quantise each head.

    ``totals`` is [tokens, 3·heads·d], and so is ``out``, which may be the same; ``scales`` float32
    [3, heads, tokens], the queries' times ``factor``; ``cos`` has no rows without rotary positions.
    """
    parts, count, tokens = scales.shape
    size = totals.shape[1] // (parts * count)
    half = size // 2
    work = np.empty(totals.shape[1], np.float32)
    turned = np.empty(size, np.float32)
    for r in range(tokens):
        _finish_row(totals[r], x_scale[r], channel, bias, work)
        for part in range(parts):
            for h in range(count):
                begin = (part * count + h) * size
                own = work[begin : begin + size]
                if part < 2 and cos.shape[0]:
                    c, s = cos[positions[r]], sin[positions[r]]
                    for i in range(half):
                        turned[i] = own[i] * c[i] - own[half + i] * s[i]
                    for i in range(half):
                        turned[half + i] = own[half + i] * c[i] + own[i] * s[i]
                    own[:] = turned
                scale, good = _quantise_row(own, _TOP16, out[r, begin : begin + size])
                scales[part, h, r] = scale * factor if part == 0 else scale
                failed[r] |= not good


@_compiled  # and not inlined by numba: a caller with fast-math would fold the rounding away
def exp2(z):
    """2^z of one float32 z ≤ 0."""
    x = max(z, EXP2_LOWEST)
    shifted = x + _ROUNDER
    f = x - (shifted - _ROUNDER)
    v = (((((_E6 * f + _E5) * f + _E4) * f + _E3) * f + _E2) * f + _E1) * f + _E0
    # The integer in the low bits of the shifted value, moved to the exponent.
    return float_of(np.int32(bits_of(v) + np.int32(bits_of(shifted) << 23)))


@_compiled
def softmax(dots, scales, start, length, first_query, first_key, window, factor, failed):
    """``ops.attend`` between its two products, for some queries of consecutive rows.

    ``dots`` float64 [rows, heads, queries, keys]: exact products in, integer probabilities out.
    ``scales`` float32 [3, heads, tokens]; ``factor`` float32 [heads, tokens] is what the second
    product is multiplied by; ``failed`` [tokens]. The first row begins at token ``start``, rows
    have ``length`` tokens; ``first_query`` and ``first_key`` are places in the row.
    """
    rows, count, queries, keys = dots.shape
    work = np.empty(keys, np.float32)
    for r in range(rows):
        for h in range(count):
            for q in range(queries):
                token = start + r * length + first_query + q
                begin, end = 0, keys
                if window:
                    place = first_query + q - first_key
                    begin, end = max(0, place - window), min(keys, place + window + 1)
                    dots[r, h, q, :begin] = 0
                    dots[r, h, q, end:] = 0
                # Loops begin at 0, else the compiler must allow for negative places.
                row, z = dots[r, h, q, begin:end], work[begin:end]
                key = start + r * length + first_key + begin
                own_keys = scales[1, h, key : key + end - begin]
                own_values = scales[2, h, key : key + end - begin]
                s = scales[0, h, token]
                # Bits of floats order as integers do once those of negative ones are turned.
                largest = np.int32(-0x80000000)
                for k in range(z.shape[0]):
                    v = (np.float32(row[k]) * s) * own_keys[k]
                    z[k] = v
                    b = bits_of(v)
                    largest = max(largest, np.int32(b ^ (np.int32(b >> 31) & _MAGNITUDE)))
                if largest < 0:
                    largest = np.int32(largest ^ _MAGNITUDE)
                top = float_of(largest)
                if np.int32(largest & _MAGNITUDE) >= _INFINITE_BITS:
                    failed[token] = True
                    z[:] = _ZERO
                    top = _ZERO
                for k in range(z.shape[0]):
                    z[k] = exp2(z[k] - top)
                total = np.int64(0)
                largest = np.int32(0)
                for k in range(z.shape[0]):
                    # A whole number in the low bits, to the nearest even: sums stay exact.
                    total += bits_of_double(np.float64(z[k]) * _DENOMINATOR + _ROUNDER_DOUBLE)
                    w = z[k] * own_values[k]
                    z[k] = w
                    largest = max(largest, bits_of(w))
                total -= z.shape[0] * _ROUNDER_DOUBLE_BITS
                a = float_of(largest)
                ratio = _TOP_PROBABILITY / a
                for k in range(z.shape[0]):
                    p = (z[k] * ratio + _TWO_23) - _TWO_23  # rint, of at most 2^23
                    row[k] = min(p, _TOP_PROBABILITY)
                factor[h, token] = (a / _TOP_PROBABILITY) / (np.float32(total) * _DENOMINATOR_UNIT)


@_compiled
def context(sums, factor, limit, out, scale, failed):
    """The second product's sums [tokens, heads·d] times ``factor`` [heads, tokens], quantised."""
    count, tokens = factor.shape
    size = sums.shape[1] // count
    work = np.empty(sums.shape[1], np.float32)
    for r in range(tokens):
        for h in range(count):
            f = factor[h, r]
            own, to = sums[r, h * size : (h + 1) * size], work[h * size : (h + 1) * size]
            for i in range(size):
                to[i] = np.float32(own[i]) * f
        scale[r], good = _quantise_row(work, limit, out[r])
        failed[r] |= not good


@_compiled
def pool_mean(x, lengths, out, failed):
    """``Ops.pool`` by ``mean``: float32 [tokens, width] into ``out`` [rows, width]; ``failed``
    [rows] of vectors out of range."""
    width = x.shape[1]
    totals = np.empty(width, np.int64)
    start = 0
    for row in range(lengths.shape[0]):
        largest = np.int32(0)
        for r in range(start, start + lengths[row]):
            largest = max(largest, _largest_bits(x[r]))
        good = largest < _RANGE_BITS
        if not good:
            failed[row] = True
            largest = np.int32(0)
        exponent = (max(largest, _FLOOR_BITS) >> 23) - 126
        power = ldexp(1.0, FRACTION_BITS - exponent)
        totals[:] = 0
        for r in range(start, start + lengths[row]):
            token = x[r]
            for i in range(width):
                n = bits_of_double(np.float64(token[i]) * power + _ROUNDER_DOUBLE)
                totals[i] += n - _ROUNDER_DOUBLE_BITS if good else 0
        unit = ldexp(1.0, exponent - FRACTION_BITS)
        for i in range(width):
            mean = (np.float64(totals[i]) / np.float64(lengths[row])) * unit
            out[row, i] = np.float32(mean)
        start += lengths[row]
