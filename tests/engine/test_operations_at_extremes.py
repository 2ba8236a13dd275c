"""Every operation of every backend gives the specification's bits on values that tempt it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from backends import BACKENDS
from numpy.typing import NDArray

from gpu_worker.engine.numerics import EXACT, Exact
from gpu_worker.engine.ops import Batch, Norm, Operand, Ops, Rope, Weight

F32 = np.float32
Floats = NDArray[np.float32]
numerics = pytest.mark.parametrize("numerics", list(EXACT))
backends = pytest.mark.parametrize("backend", list(BACKENDS))

WIDTH = 48
LENGTHS = [9, 7, 7, 1, 30]
TOKENS = sum(LENGTHS)


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(F32)


def tiny() -> Floats:
    """Standard deviation 1e-4."""
    return normal(1, TOKENS, WIDTH) * F32(1e-4)


def vanishing() -> Floats:
    """At and below the least scale."""
    return normal(1, TOKENS, WIDTH) * F32(2.0**-60)


def subnormal() -> Floats:
    """All subnormal, and zeros of both signs."""
    x = normal(2, TOKENS, WIDTH) * F32(2.0**-128)
    x[::3, ::2] = 0
    x[1::3, ::2] = -0.0
    return x


def outliers() -> Floats:
    """One channel in all tokens and one token in all channels a million times the others."""
    x = normal(3, TOKENS, WIDTH)
    x[:, 5] *= F32(1e6)
    x[4] *= F32(1e6)
    return x


def huge() -> Floats:
    """Just below the range, where products of scales are largest."""
    return normal(4, TOKENS, WIDTH) * F32(2.0**60)


def constant() -> Floats:
    """No variance at all, and half of the zeros negative."""
    x = np.full((TOKENS, WIDTH), F32(3))
    x[10:20] = 0
    x[12:16] = -0.0
    return x


def ties() -> Floats:
    """Halves of the least step, so that rint meets ties."""
    x = (np.random.default_rng(5).integers(-64, 64, (TOKENS, WIDTH)) + F32(0.5)).astype(F32)
    x[:, 0] = 127
    return x


def broken() -> Floats:
    """Tokens that are not finite or out of range, one in each row but the second."""
    x = normal(6, TOKENS, WIDTH)
    x[3, 1], x[17, 0], x[23, 47] = np.nan, -np.inf, F32(2.0**64)
    x[30, 2] = np.inf
    return x


EXTREMES = (tiny, vanishing, subnormal, outliers, huge, constant, ties, broken)
extremes = pytest.mark.parametrize("extreme", EXTREMES, ids=lambda make: make.__name__)


def bits(x: Floats) -> NDArray[np.uint32]:
    """The float32 bits, so that the sign of zero counts; every NaN is one."""
    return np.where(np.isnan(x), F32(np.nan), x).astype(F32).view(np.uint32)


def weight(ops: Ops, kind: Exact, seed: int, out: int, depth: int) -> Weight:
    rng = np.random.default_rng(seed)
    values = rng.integers(-kind.weights, kind.weights + 1, (out, depth)).astype(kind.weight_dtype)
    scale = ((rng.random(out) + 0.01) / kind.weights / 4).astype(F32)
    return ops.weight(values, scale, normal(seed, out) * F32(0.1))


NORM = Norm(normal(21, WIDTH), normal(22, WIDTH), 1e-12)
ROPE = Rope(np.cos(normal(23, 64, 6)), np.sin(normal(23, 64, 6)))

Run = Callable[[Ops, Exact, Floats, Batch], Floats | Operand]


def quantise(ops: Ops, kind: Exact, x: Floats, batch: Batch) -> Operand:
    return ops.quantise(x, batch.failed)


def dense(ops: Ops, kind: Exact, x: Floats, batch: Batch) -> Floats:
    return ops.dense(quantise(ops, kind, x, batch), weight(ops, kind, 7, 40, WIDTH))


def dense_add(ops: Ops, kind: Exact, x: Floats, batch: Batch) -> Floats:
    given = quantise(ops, kind, x, batch)
    return ops.dense_add(given, weight(ops, kind, 7, WIDTH, WIDTH), x.copy())


def dense_norm(ops: Ops, kind: Exact, x: Floats, batch: Batch) -> Floats:
    given = quantise(ops, kind, x, batch)
    narrow = weight(ops, kind, 7, WIDTH, WIDTH)
    return ops.dense_norm(given, narrow, x.copy(), NORM, batch.failed)


def dense_act(activation: str) -> Run:
    def run(ops: Ops, kind: Exact, x: Floats, batch: Batch) -> Operand:
        given = quantise(ops, kind, x, batch)
        return ops.dense_act(given, weight(ops, kind, 7, 96, WIDTH), activation, batch.failed)

    run.__name__ = f"dense_act {activation}"
    return run


def dense_glu(activation: str) -> Run:
    def run(ops: Ops, kind: Exact, x: Floats, batch: Batch) -> Operand:
        given = quantise(ops, kind, x, batch)
        return ops.dense_glu(given, weight(ops, kind, 7, 96, WIDTH), activation, batch.failed)

    run.__name__ = f"dense_glu {activation}"
    return run


def activate(activation: str) -> Run:
    def run(ops: Ops, kind: Exact, x: Floats, batch: Batch) -> Floats:
        return ops.activate(x.copy(), activation)

    run.__name__ = f"activate {activation}"
    return run


def norm(ops: Ops, kind: Exact, x: Floats, batch: Batch) -> Floats:
    return ops.norm(x.copy(), NORM, batch.failed)


def norm_quantise(ops: Ops, kind: Exact, x: Floats, batch: Batch) -> Operand:
    return ops.norm_quantise(x.copy(), NORM, batch.failed)


def embed_norm(ops: Ops, kind: Exact, x: Floats, batch: Batch) -> Floats:
    position = normal(24, 2, 64, WIDTH)
    return ops.embed_norm(x, position, batch, NORM)


def attention(rope: Rope | None, window: int) -> Run:
    def run(ops: Ops, kind: Exact, x: Floats, batch: Batch) -> Operand:
        given = quantise(ops, kind, x, batch)
        qkv = weight(ops, kind, 8, 3 * WIDTH, WIDTH)
        return ops.attention(given, qkv, 4, batch, rope, window)

    run.__name__ = f"attention{' rope' if rope else ''}{f' {window}' if window else ''}"
    return run


OPERATIONS: tuple[Run, ...] = (
    quantise, dense, dense_add, dense_norm, norm, norm_quantise, embed_norm,
    *(dense_act(name) for name in ("gelu", "gelu_tanh", "relu", "tanh")),
    *(dense_glu(name) for name in ("gelu", "gelu_tanh", "relu")),
    *(activate(name) for name in ("gelu", "gelu_tanh", "relu", "tanh")),
    *(attention(rope, window) for rope in (None, ROPE) for window in (0, 3)),
)  # fmt: skip


def compute(run: Run, ops: Ops, kind: Exact, x: Floats) -> tuple[list[Floats], Batch]:
    """The values of an operation as arrays of one row for each token, and the batch's marks."""
    with np.errstate(all="ignore"):
        batch = ops.batch(np.arange(TOKENS, dtype=np.uint32), LENGTHS, 12)
        value = run(ops, kind, x.copy(), batch)
    if isinstance(value, Operand):
        return [np.asarray(value.values).astype(np.int64).astype(F32), value.scale[:, None]], batch
    return [value], batch


@backends
@numerics
@extremes
@pytest.mark.parametrize("run", OPERATIONS, ids=lambda run: run.__name__)
def test_an_operation_matches(
    backend: str, numerics: str, extreme: Callable[[], Floats], run: Run
) -> None:
    """The marks of failing tokens, and every value of rows without one."""
    kind, x = EXACT[numerics], extreme()
    expected, marked = compute(run, Ops(kind), kind, x)
    got, found = compute(run, BACKENDS[backend](kind), kind, x)

    assert np.array_equal(marked.failed, found.failed)
    rows = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    good = ~np.isin(rows, rows[marked.failed])
    assert good.any() or extreme is huge
    for a, b in zip(expected, got, strict=True):
        assert np.array_equal(bits(a[good]), bits(b[good]))


@backends
@extremes
@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_pooling_matches(backend: str, extreme: Callable[[], Floats], pooling: str) -> None:
    """With normalisation and without; failed rows are zeros."""
    kind = EXACT["exact16"]
    x = extreme()
    results = []
    for ops in (Ops(kind), BACKENDS[backend](kind)):
        with np.errstate(all="ignore"):
            batch = ops.batch(np.arange(TOKENS, dtype=np.uint32), LENGTHS)
            batch.failed[10] = True
            values, failed = ops.pool(x.copy(), batch, pooling)
            plain = ops.finish(values.copy(), failed.copy())
            results.append((*plain, *ops.finish(ops.normalise(values, failed), failed)))

    for a, b in zip(*results, strict=True):
        assert np.array_equal(a.view(np.uint8), b.view(np.uint8))
    assert results[0][1][1]


def long_row(length: int, window: int, rotary: bool, backend: str, sink: bool) -> None:
    """A row of many tokens, one head of 16, against the specification."""
    kind = EXACT["exact16"]
    width = 16
    x = normal(31, length, width)
    if sink:
        x[0] *= F32(50)
    rope = Rope(np.cos(normal(32, length, 8)), np.sin(normal(32, length, 8))) if rotary else None
    results = []
    for ops in (Ops(kind), BACKENDS[backend](kind)):
        batch = ops.batch(np.zeros(length, np.uint32), [length])
        given = ops.quantise(x, batch.failed)
        qkv = weight(ops, kind, 9, 3 * width, width)
        found = ops.attention(given, qkv, 1, batch, rope, window)
        results.append((np.asarray(found.values).astype(np.int64).astype(F32), found.scale))

    for a, b in zip(*results, strict=True):
        assert np.array_equal(bits(a), bits(b))


@backends
@pytest.mark.parametrize("rotary", [False, True], ids=["plain", "rotary"])
@pytest.mark.parametrize("window", [0, 64])
@pytest.mark.parametrize("length", [63, 64, 65, 255, 257, 700])
def test_long_rows_match(backend: str, length: int, window: int, rotary: bool) -> None:
    """Lengths about the sizes of blocks and of vector registers."""
    long_row(length, window, rotary, backend, sink=True)


@pytest.mark.long
@pytest.mark.timeout(1200)
@backends
@pytest.mark.parametrize("window", [0, 128])
@pytest.mark.parametrize("length", [2048, 8192])
def test_longer_rows_match(backend: str, length: int, window: int) -> None:
    long_row(length, window, True, backend, sink=True)
