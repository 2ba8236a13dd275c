"""Inputs of the golden vectors: numbers that any language makes from a seed and a shape."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


def splitmix(seed: int, count: int) -> NDArray[np.uint64]:
    """The first ``count`` numbers of SplitMix64 from ``seed``: uint64 [count].

    The n-th (from 1) is mix(seed + n · 0x9e3779b97f4a7c15 mod 2^64), with Stafford's variant 13
    of MurmurHash3's finaliser as mix (Steele, Lea, Flood: Fast splittable pseudorandom number
    generators, 2014).
    """
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(seed: int, shape: Sequence[int], power: int = 0) -> F32:
    """Float32 in [-2^power, 2^power): the top 24 bits as n, then (n - 2^23) · 2^(power-23)."""
    top = (splitmix(seed, prod(shape)) >> np.uint64(40)).astype(np.int64)
    values: F32 = np.ldexp((top - (1 << 23)).astype(np.float32), power - 23)
    return values.reshape(shape)


def integers(seed: int, shape: Sequence[int], limit: int) -> NDArray[np.int64]:
    """Integers in ±limit: each number modulo 2·limit + 1, less limit."""
    some = splitmix(seed, prod(shape)) % np.uint64(2 * limit + 1)
    return (some.astype(np.int64) - limit).reshape(shape)


def below(seed: int, count: int, bound: int) -> NDArray[np.uint32]:
    """Token ids: each number modulo ``bound``."""
    return (splitmix(seed, count) % np.uint64(bound)).astype(np.uint32)


def odd_rows(width: int) -> F32:
    """Rows that tempt an implementation: zeros, subnormals, huge, mixed, not finite, ties."""
    rows = np.zeros((14, width), np.float32)
    rows[1] = 2.0**-140
    rows[2, 0] = 2.0**63
    rows[2, 1:] = 1
    rows[3] = uniform(3, (width,), -40)
    rows[4] = uniform(4, (width,), 50)
    rows[5, 3] = np.nan
    rows[6, 1] = np.inf
    rows[7, 2] = -np.inf
    rows[8, 0] = 2.0**64
    rows[9] = -0.0
    rows[10] = np.arange(width) + np.float32(0.5)
    rows[11] = uniform(11, (width,), -13)  # standard deviation about 7e-5
    rows[12] = uniform(12, (width,))
    rows[12, 5] = 2.0**20  # an outlier of 1e6
    rows[13] = 3
    return rows


def little(array: NDArray[Any]) -> bytes:
    """The array's bytes, little-endian, in row-major order; NaN in one form."""
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
