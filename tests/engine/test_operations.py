"""The fast operations give the bits of their specification, and the specification is sound."""

from __future__ import annotations

import numpy as np
import pytest
from backends import BACKENDS
from numpy.typing import NDArray

from gpu_worker.engine.numerics import EXACT, LIMIT16
from gpu_worker.engine.ops import Batch, Norm, Operand, Ops, Rope, Weight, quantise_rows
from gpu_worker.engine.ops_numpy import sum_squares

F32 = np.float32
numerics = pytest.mark.parametrize("numerics", list(EXACT))
backends = pytest.mark.parametrize("backend", list(BACKENDS))


def bits(array: NDArray[np.floating]) -> NDArray[np.unsignedinteger]:
    """The float32 bits, so that NaN and the sign of zero count."""
    return np.ascontiguousarray(array, F32).view(np.uint32)


def normal(seed: int, *shape: int, spread: float = 1.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(shape) * spread).astype(F32)


def odd_rows(width: int) -> NDArray[np.float32]:
    """Rows that tempt: zeros, subnormals, huge, mixed, not finite, out of range, ties."""
    rows = np.zeros((15, width), F32)
    rows[1] = 2.0**-140
    rows[2, 0] = 2.0**63
    rows[2, 1:] = 1
    rows[3] = normal(1, width, spread=1e-12)
    rows[4] = normal(2, width, spread=1e15)
    rows[5, 3] = np.nan
    rows[6, 1] = np.inf
    rows[7, 2] = -np.inf
    rows[8, 0] = 2.0**64
    rows[9] = -0.0
    rows[10] = np.arange(width) + F32(0.5)
    rows[11, 0] = -1
    rows[12] = 3
    rows[13] = normal(3, width) + F32(1e4)
    rows[14] = (F32(1) - np.abs(normal(4, width, spread=1e-6))) * np.sign(normal(5, width))
    return rows


def weight(ops: Ops, kind: str, seed: int, out: int, width: int) -> Weight:
    limit = EXACT[kind].weights
    rng = np.random.default_rng(seed)
    values = rng.integers(-limit, limit + 1, (out, width)).astype(
        np.int16 if limit > 127 else np.int8
    )
    scale = (rng.random(out) / limit / 8).astype(F32)
    return ops.weight(values, scale, normal(seed, out, spread=0.1))


def both(kind: str, backend: str) -> tuple[Ops, Ops]:
    return Ops(EXACT[kind]), BACKENDS[backend](EXACT[kind])


def same_operand(a: Operand, b: Operand) -> None:
    assert np.array_equal(np.asarray(a.values, np.int64), np.asarray(b.values).astype(np.int64))
    assert np.array_equal(bits(a.scale), bits(b.scale))


def flags(rows: int) -> NDArray[np.bool_]:
    return np.zeros(rows, np.bool_)


@numerics
@pytest.mark.parametrize("width", [16, 384, 40_000])
@backends
def test_quantise_matches(backend: str, numerics: str, width: int) -> None:
    """Also for odd rows, which fail one by one; a width beyond a block goes row by row."""
    plain, fast = both(numerics, backend)
    x = np.concatenate([odd_rows(width), normal(5, 20, width)])
    marks = flags(len(x)), flags(len(x))

    same_operand(plain.quantise(x, marks[0]), fast.quantise(x, marks[1]))
    assert np.array_equal(*marks)
    assert np.flatnonzero(marks[0]).tolist() == [5, 6, 7, 8]


@numerics
@pytest.mark.parametrize("depth", [1, 48, 1024, 1025, 2048, 5000])
@backends
def test_dense_matches_at_every_depth(backend: str, numerics: str, depth: int) -> None:
    """exact8 splits its depth every 1024; all splits give the integers' sum."""
    plain, fast = both(numerics, backend)
    x = normal(7, 9, depth)
    results = [
        ops.dense(ops.quantise(x, flags(9)), weight(ops, numerics, 8, 33, depth))
        for ops in (plain, fast)
    ]

    assert np.array_equal(bits(results[0]), bits(results[1]))


@numerics
@backends
def test_dense_is_exact_at_the_bounds(backend: str, numerics: str) -> None:
    """All operands at their largest, so that a product kept in too few bits would show."""
    for depth in (1024, 2048, 4096):
        plain, fast = both(numerics, backend)
        x = np.full((3, depth), 1, F32)
        x[1, ::2] = -1
        limit = EXACT[numerics].weights
        values = np.full((5, depth), limit, EXACT[numerics].weight_dtype)
        values[:, ::3] -= 1
        one, zero = np.ones(5, F32), np.zeros(5, F32)
        results = [
            ops.dense(ops.quantise(x, flags(3)), ops.weight(values, one, zero))
            for ops in (plain, fast)
        ]

        assert np.array_equal(bits(results[0]), bits(results[1]))
        exact = int(values[0].astype(np.int64).sum()) * plain.limit
        assert results[0][0, 0] == F32(exact) * (F32(1) / F32(plain.limit))


@numerics
@pytest.mark.parametrize("depth", [1024, 2048, 3072, 4096])
@backends
def test_dense_is_exact_near_the_bounds(backend: str, numerics: str, depth: int) -> None:
    """Large operands of one sign and many last digits: float32 sums over all of it would err."""
    plain, fast = both(numerics, backend)
    rng = np.random.default_rng(depth)
    limit = plain.limit
    x = (rng.integers(limit - limit // 4, limit + 1, (20, depth)) / limit).astype(F32)
    limit = EXACT[numerics].weights
    values = rng.integers(limit - limit // 4, limit + 1, (40, depth))
    values = values.astype(EXACT[numerics].weight_dtype)
    one, zero = np.ones(40, F32), np.zeros(40, F32)
    results = [
        ops.dense(ops.quantise(x, flags(20)), ops.weight(values, one, zero))
        for ops in (plain, fast)
    ]

    assert np.array_equal(bits(results[0]), bits(results[1]))


@pytest.mark.parametrize("width", [1, 384, 512, 513, 8192])
def test_squares_are_summed_exactly_at_the_bounds(width: int) -> None:
    """Odd integers just below 2^22: one float64 sum over 8,192 of them would round."""
    rng = np.random.default_rng(width)
    integers = (1 << 22) - 1 - 2 * rng.integers(0, 9, (50, width))
    integers[0] = 1 << 22

    assert np.array_equal(sum_squares(integers.astype(np.float64)), np.square(integers).sum(axis=1))


@numerics
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "tanh"])
@pytest.mark.parametrize("depth", [64, 3000])
@backends
def test_dense_act_matches(backend: str, numerics: str, activation: str, depth: int) -> None:
    """Blocks of rows change nothing."""
    plain, fast = both(numerics, backend)
    x = normal(9, 150, depth)
    results = [
        ops.dense_act(
            ops.quantise(x, flags(150)),
            weight(ops, numerics, 3, 384, depth),
            activation,
            flags(150),
        )
        for ops in (plain, fast)
    ]

    same_operand(*results)


@numerics
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
@backends
def test_dense_glu_matches(backend: str, numerics: str, activation: str) -> None:
    plain, fast = both(numerics, backend)
    x = normal(9, 150, 64)
    results = [
        ops.dense_glu(
            ops.quantise(x, flags(150)), weight(ops, numerics, 3, 768, 64), activation, flags(150)
        )
        for ops in (plain, fast)
    ]

    same_operand(*results)


@numerics
@backends
def test_dense_add_matches(backend: str, numerics: str) -> None:
    plain, fast = both(numerics, backend)
    x, residual = normal(9, 150, 96), normal(10, 150, 384)
    results = [
        ops.dense_add(
            ops.quantise(x, flags(150)), weight(ops, numerics, 3, 384, 96), residual.copy()
        )
        for ops in (plain, fast)
    ]

    assert np.array_equal(bits(results[0]), bits(results[1]))


@numerics
@backends
def test_dense_norm_matches(backend: str, numerics: str) -> None:
    plain, fast = both(numerics, backend)
    x, residual = normal(9, 150, 96), normal(10, 150, 384)
    norm = Norm(normal(1, 384), normal(2, 384), 1e-12)
    results = [
        ops.dense_norm(
            ops.quantise(x, flags(150)),
            weight(ops, numerics, 3, 384, 96),
            residual.copy(),
            norm,
            flags(150),
        )
        for ops in (plain, fast)
    ]

    assert np.array_equal(bits(results[0]), bits(results[1]))


@pytest.mark.parametrize("width", [8, 384, 1024, 8192])
@backends
def test_norm_matches(backend: str, width: int) -> None:
    """Also for odd rows."""
    plain, fast = both("exact16", backend)
    x = np.concatenate([odd_rows(width), normal(5, 30, width), normal(6, 9, width, spread=1e-4)])
    norm = Norm(normal(1, width), normal(2, width), 1e-12)
    marks = flags(len(x)), flags(len(x))

    expected, got = plain.norm(x, norm, marks[0]), fast.norm(x.copy(), norm, marks[1])
    good = ~marks[0]
    assert np.array_equal(*marks)
    assert np.array_equal(bits(expected[good]), bits(got[good]))
    assert np.isfinite(expected[good]).all()


@pytest.mark.parametrize("spread", [1e-6, 1e-4, 1e-3, 1, 1e3, 1e6])
@pytest.mark.parametrize("outlier", [0, 1e3, 1e6])
def test_norm_is_accurate_from_tiny_to_outliers(spread: float, outlier: float) -> None:
    """One power of two a row, not absolute fixed point: 1e-6 relative to float64 anywhere."""
    x = normal(4, 50, 384, spread=spread)
    x[:, 7] += F32(outlier)
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-12)
    one = Norm(np.ones(384, F32), np.zeros(384, F32), 1e-12)

    got = Ops(EXACT["exact16"]).norm(x, one, flags(50))

    # What float32 can hold of the mean bounds what can be reached beside an outlier.
    scale = np.abs(wide).max(axis=1) / np.sqrt((centred**2).mean(axis=1) + 1e-12)
    error = np.abs(got - wanted).max(axis=1)
    assert (error < 3e-7 * np.maximum(scale, 1)).all()


def batch_of(ops: Ops, *lengths: int) -> Batch:
    return ops.batch(np.zeros(sum(lengths), np.uint32), lengths)


def rope_of(positions: int, half: int) -> Rope:
    angles = np.random.default_rng(77).random((positions, half))
    return Rope(np.cos(angles).astype(F32), np.sin(angles).astype(F32))


@numerics
@pytest.mark.parametrize("window", [0, 1, 7])
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize(
    ("heads", "lengths"),
    [(4, [40]), (4, [9, 9, 9, 8, 1, 1, 1, 1, 1]), (1, [1, 39]), (12, [20, 20])],
)
@backends
def test_attention_matches(
    backend: str, numerics: str, heads: int, lengths: list[int], rotary: bool, window: int
) -> None:
    plain, fast = both(numerics, backend)
    x = normal(11, 40, 48, spread=3)
    rope = rope_of(40, 48 // heads // 2) if rotary else None
    results = []
    for ops in (plain, fast):
        batch = batch_of(ops, *lengths)
        results.append(
            ops.attention(
                ops.quantise(x, flags(40)), weight(ops, numerics, 5, 144, 48), heads, batch,
                rope, window,
            )
        )  # fmt: skip
        assert not batch.failed.any()

    same_operand(*results)


@backends
@pytest.mark.parametrize("window", [0, 3, 20])
def test_attention_matches_across_blocks_of_pairs(
    monkeypatch: pytest.MonkeyPatch, backend: str, window: int
) -> None:
    """Long rows are cut by heads and by queries; the cut does not show."""
    x = normal(12, 90, 48, spread=4)
    results = []
    for pairs in (None, 7, 100, 4000, 20_000):
        ops: Ops = Ops(EXACT["exact16"])
        if pairs:
            monkeypatch.setattr("gpu_worker.engine.ops_numpy.PAIR_VALUES", pairs)
            monkeypatch.setattr("gpu_worker.engine.pairs.PAIRS", pairs)
            ops = BACKENDS[backend](EXACT["exact16"])
        operand = ops.attention(
            ops.quantise(x, flags(90)), weight(ops, "exact16", 5, 144, 48), 4,
            batch_of(ops, 60, 15, 15), window=window,
        )  # fmt: skip
        results.append(operand)

    for other in results[1:]:
        same_operand(results[0], other)


def test_a_window_hides_what_lies_beyond_it() -> None:
    """A token sees `window` places to each side and no further: changing the next shows not."""
    ops = Ops(EXACT["exact16"])
    qkv = weight(ops, "exact16", 5, 144, 48)
    x = normal(12, 9, 48)
    other = x.copy()
    other[7:] = normal(13, 2, 48)
    first, second = (
        ops.attention(ops.quantise(rows, flags(9)), qkv, 4, batch_of(ops, 9), window=2)
        for rows in (x, other)
    )
    same = (first.values == second.values).all(axis=1)

    assert same.tolist() == [True] * 5 + [False] * 4


def test_a_sink_token_does_not_spoil_attention() -> None:
    """Three slices of probability: small weights beside a dominant one keep their share."""
    from gpu_worker.engine.ops import attend

    length, width = 2048, 32
    rng = np.random.default_rng(3)
    query, key, value = (rng.standard_normal((length, width)) for _ in range(3))
    key[0] = query.mean(axis=0) * 200
    value[0] *= 1e-3
    parts = np.stack([query, key, value], axis=1).astype(F32)
    integers, scales, _ = quantise_rows(parts.reshape(-1, width), LIMIT16)
    got = attend(integers.reshape(length, 3, width), scales.reshape(length, 3), 0, flags(length))
    rounded = (integers * scales[:, None].astype(np.float64)).reshape(length, 3, width)
    scores = rounded[:, 0] @ rounded[:, 1].T / np.sqrt(width)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    wanted = weights @ rounded[:, 2] / weights.sum(axis=1, keepdims=True)

    assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max()


@backends
def test_a_score_that_overflows_fails_its_row_only(backend: str) -> None:
    """Queries and keys near 2^63 overflow float32 between them; the neighbour is untouched."""
    values = np.random.default_rng(2).integers(-LIMIT16, LIMIT16 + 1, (48, 16)).astype(np.int16)
    scale, bias = np.full(48, 2.0**-11, F32), np.zeros(48, F32)
    x = normal(1, 8, 16)
    huge = x.copy()
    huge[:4] *= F32(2.0**58)
    marks = []
    for ops in both("exact16", backend):
        qkv = ops.weight(values, scale, bias)
        alone = ops.attention(ops.quantise(x[4:], flags(4)), qkv, 2, batch_of(ops, 4))
        alone = Operand(alone.values.copy(), alone.scale)
        batch = batch_of(ops, 4, 4)
        with np.errstate(all="ignore"):
            beside = ops.attention(ops.quantise(huge, batch.failed), qkv, 2, batch)

        assert batch.failed[:4].any()
        assert not batch.failed[4:].any()
        same_operand(Operand(beside.values[4:], beside.scale[4:]), alone)
        marks.append(batch.failed)

    assert np.array_equal(*marks)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalise", [True, False])
def test_pool_gives_unit_vectors_and_zeros(pooling: str, normalise: bool) -> None:
    """A row of zeros stays zeros and does not fail; a failed token fails its row."""
    x = normal(3, 12, 24)
    x[4:7] = 0
    ops = Ops(EXACT["exact16"])
    batch = batch_of(ops, 4, 3, 5)
    batch.failed[8] = True
    values, failed = ops.pool(x, batch, pooling)
    if normalise:
        values = ops.normalise(values, failed)
    values, failed = ops.finish(values, failed)

    assert failed.tolist() == [False, False, True]
    assert not values[1:].any()
    wide = x[:4].astype(np.float64)
    wanted = {"mean": wide.mean(axis=0), "cls": wide[0], "max": wide.max(axis=0)}[pooling]
    wanted = wanted / np.sqrt((wanted**2).sum()) if normalise else wanted
    assert np.abs(values[0] - wanted).max() < 2e-7


def test_max_pooling_gives_zero_one_sign() -> None:
    """Of -0 and +0, which compare equal, the maximum is +0 in any order."""
    ops = Ops(EXACT["exact16"])
    x = np.array([[-0.0, 0.0, -0.0], [0.0, -0.0, -0.0]], F32)
    values, _ = ops.pool(x, batch_of(ops, 2), "max")

    assert not bits(values).any()
