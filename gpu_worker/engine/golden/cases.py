"""The golden cases: each operation on inputs that tempt, and whole tiny models.

A case computes with the operations it is given and yields named intermediates. The digests of
the same names, from the specification, stand in ``vectors.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.golden.inputs import below, integers, odd_rows, uniform
from gpu_worker.engine.golden.models import MODELS, TinyModel
from gpu_worker.engine.numerics import Exact
from gpu_worker.engine.ops import Batch, Norm, Operand, Ops, Rope, Weight
from gpu_worker.engine.polynomials import ACTIVATIONS

Array = NDArray[Any]
Named = Iterator[tuple[str, Array | Operand]]
Run = Callable[[Ops, Exact], Named]


@dataclass(frozen=True, slots=True)
class Case:
    """One golden case. ``slow`` cases take more than a moment."""

    name: str
    run: Run
    slow: bool = False


def _norm(ops: Ops, width: int) -> Norm:
    gain, bias = uniform(21, (width,)), uniform(22, (width,), -2)
    return Norm(ops.constant(gain), ops.constant(bias), 1e-12)


def _weight(ops: Ops, numerics: Exact, seed: int, out: int, width: int) -> Weight:
    values = integers(seed, (out, width), numerics.weights).astype(numerics.weight_dtype)
    scale = np.abs(uniform(seed + 1, (out,), -4)) + np.float32(2.0**-20)
    return ops.weight(values, scale / np.float32(numerics.weights), uniform(seed + 2, (out,), -2))


def _floats(ops: Ops, values: Array) -> Array:
    return ops.constant(values.copy())


def _batch(ops: Ops, lengths: Sequence[int], bound: int = 100, separator: int = -1) -> Batch:
    return ops.batch(below(31, sum(lengths), bound), lengths, separator)


def _given(ops: Ops, x: Array, batch: Batch) -> Operand:
    return ops.quantise(_floats(ops, x), batch.failed)


def _quantise(width: int) -> Run:
    def run(ops: Ops, numerics: Exact) -> Named:
        x = np.concatenate([odd_rows(width), uniform(41, (6, width), 3)])
        batch = _batch(ops, [len(x)])
        yield "operand", ops.quantise(_floats(ops, x), batch.failed)
        yield "failed", batch.failed

    return run


def _dense(depth: int) -> Run:
    def run(ops: Ops, numerics: Exact) -> Named:
        x, batch = uniform(42, (9, depth)), _batch(ops, [9])
        yield "y", ops.dense(_given(ops, x, batch), _weight(ops, numerics, 51, 40, depth))

    return run


def _dense_at_the_bounds(ops: Ops, numerics: Exact) -> Named:
    for depth in (1024, 4096):
        x = np.ones((3, depth), np.float32)
        x[1, ::2] = -1
        x[2] = (integers(43, (depth,), 40) - 60).astype(np.float32)  # one sign, many digits
        values = np.full((17, depth), numerics.weights)
        values[1:, ::3] -= np.arange(16)[:, None]
        weight = ops.weight(
            values.astype(numerics.weight_dtype), np.ones(17, np.float32), np.zeros(17, np.float32)
        )
        yield f"y{depth}", ops.dense(_given(ops, x, _batch(ops, [3])), weight)


def _blocks(ops: Ops, numerics: Exact) -> Named:
    """What stands around dense layers in a transformer's layer."""
    tokens, width, wide = 70, 48, 96
    batch = _batch(ops, [tokens])
    x, residual = uniform(44, (tokens, width)), uniform(45, (tokens, width))
    given = _given(ops, x, batch)
    narrow = _weight(ops, numerics, 54, width, width)
    # One at a time: an operation's result may live in memory that the next one uses again.
    yield "dense_add", ops.dense_add(given, narrow, _floats(ops, residual))
    given = _given(ops, x, batch)
    yield (
        "dense_norm",
        ops.dense_norm(given, narrow, _floats(ops, residual), _norm(ops, width), batch.failed),
    )
    for activation in ("gelu", "gelu_tanh", "relu", "tanh"):
        given = _given(ops, x * np.float32(4), batch)
        up = _weight(ops, numerics, 57, wide, width)
        yield f"dense_act.{activation}", ops.dense_act(given, up, activation, batch.failed)
    for activation in ("gelu", "gelu_tanh", "relu"):
        given = _given(ops, x * np.float32(4), batch)
        up = _weight(ops, numerics, 57, 2 * wide, width)
        yield f"dense_glu.{activation}", ops.dense_glu(given, up, activation, batch.failed)
    yield "failed", batch.failed


def _activations(ops: Ops, numerics: Exact) -> Named:
    edges = [0.0, -0.0, 5.4, -5.4, 9, -9, 100, -100, 2.0**40, -(2.0**40), 2.0**-126, 2.0**-149]
    x = np.concatenate([uniform(46, (500,), 3), uniform(47, (300,), -12)])
    x = np.concatenate([x, np.array(edges, np.float32)]).reshape(4, -1)
    for name in ACTIVATIONS:
        yield name, ops.activate(_floats(ops, x), name)


def _norms(ops: Ops, numerics: Exact) -> Named:
    for width in (48, 1030):
        rows = odd_rows(width)
        rows = np.concatenate([rows[:5], rows[9:], uniform(48, (9, width), 2)])
        batch = _batch(ops, [len(rows)])
        yield f"norm{width}", ops.norm(_floats(ops, rows), _norm(ops, width), batch.failed)
        yield (
            f"norm_quantise{width}",
            ops.norm_quantise(_floats(ops, rows), _norm(ops, width), batch.failed),
        )
        marked = _batch(ops, [14])
        ops.norm(_floats(ops, odd_rows(width)), _norm(ops, width), marked.failed)
        yield f"failed{width}", marked.failed


def _embed(ops: Ops, numerics: Exact) -> Named:
    word = ops.constant(uniform(61, (100, 48), 1))
    position = ops.constant(uniform(62, (2, 40, 48), -2))
    batch = _batch(ops, [1, 9, 9, 40, 3], 100, 17)
    yield "segments", batch.segments
    yield "positions", batch.positions
    yield "segmented", ops.embed_norm(word, position, batch, _norm(ops, 48))
    yield "plain", ops.embed_norm(word, None, batch, _norm(ops, 48))


def _attention(lengths: Sequence[int], heads: int, rotary: bool, window: int) -> Run:
    def run(ops: Ops, numerics: Exact) -> Named:
        tokens, width = sum(lengths), 48
        batch = _batch(ops, lengths)
        half = width // heads // 2
        rope = None
        if rotary:
            rope = Rope(
                ops.constant(uniform(63, (max(lengths), half))),
                ops.constant(uniform(64, (max(lengths), half))),
            )
        given = _given(ops, uniform(49, (tokens, width), 1), batch)
        qkv = _weight(ops, numerics, 65, 3 * width, width)
        yield "context", ops.attention(given, qkv, heads, batch, rope, window)
        yield "failed", batch.failed

    return run


def _sink(length: int) -> Run:
    """One key that nearly all weight goes to, with a small value; the others must still count."""

    def run(ops: Ops, numerics: Exact) -> Named:
        width = 16
        x = uniform(66, (length, width), -1)
        x[:, 0] = 1
        x[0] = 0
        x[0, 1] = 8
        values = integers(67, (3 * width, width), numerics.weights // 8)
        values[:width, 0] = numerics.weights  # every query leans the same way,
        values[width : 2 * width, 1] = numerics.weights  # and the first key with it
        values[2 * width :, 1] = 0
        weight = ops.weight(
            values.astype(numerics.weight_dtype),
            np.full(3 * width, np.float32(1) / np.float32(numerics.weights)),
            np.zeros(3 * width, np.float32),
        )
        batch = _batch(ops, [length])
        yield "context", ops.attention(_given(ops, x, batch), weight, 2, batch)

    return run


def _overflow(ops: Ops, numerics: Exact) -> Named:
    """Queries and keys whose scores overflow fail their row and leave the neighbour alone."""
    x = uniform(68, (8, 16))
    x[:4] *= np.float32(2.0**58)
    values = integers(69, (48, 16), numerics.weights).astype(numerics.weight_dtype)
    scale = np.full(48, np.float32(2.0**6) / np.float32(numerics.weights))
    batch = _batch(ops, [4, 4])
    weight = ops.weight(values, scale, np.zeros(48, np.float32))
    context = ops.attention(_given(ops, x, batch), weight, 2, batch)
    whole = ops.read_operand(context)
    yield "neighbour", Operand(whole.values[4:], whole.scale[4:])
    yield "neighbour failed", ops.read(batch.failed)[4:]
    yield "row failed", np.array([ops.read(batch.failed)[:4].any()])


def _pooling(ops: Ops, numerics: Exact) -> Named:
    x = uniform(71, (30, 48), 2)
    x[5:8] = 0
    x[8:12, ::2] = -0.0
    x[20, 3] = np.inf
    for pooling in ("mean", "cls", "max"):
        batch = _batch(ops, [5, 3, 4, 1, 12, 5])
        values, failed = ops.pool(_floats(ops, x), batch, pooling)
        yield f"{pooling} failed", failed
        host, _ = ops.finish(ops.normalise(values, failed), failed)
        yield f"{pooling} unit", host
        values, failed = ops.pool(_floats(ops, x), _batch(ops, [5, 3, 4, 1, 12, 5]), pooling)
        yield pooling, ops.finish(values, failed)[0]


def _model(model: TinyModel) -> Run:
    def run(ops: Ops, numerics: Exact) -> Named:
        yield from model.compute(ops, numerics)

    return run


CASES: tuple[Case, ...] = (
    Case("quantise.48", _quantise(48)),
    Case("quantise.1030", _quantise(1030)),
    Case("dense.48", _dense(48)),
    Case("dense.1100", _dense(1100)),
    Case("dense.5000", _dense(5000)),
    Case("dense.bounds", _dense_at_the_bounds),
    Case("blocks", _blocks),
    Case("activations", _activations),
    Case("norms", _norms),
    Case("embed", _embed),
    Case("attention", _attention([40, 9, 9, 1, 70], 4, rotary=False, window=0)),
    Case("attention.rope", _attention([40, 9, 9, 1, 70], 4, rotary=True, window=0)),
    Case("attention.window", _attention([40, 9, 9, 1, 200], 4, rotary=True, window=7)),
    Case("attention.one head", _attention([3, 33], 1, rotary=False, window=0)),
    Case("attention.sink", _sink(700)),
    Case("attention.sink 4096", _sink(4096), slow=True),
    Case("attention.sink 32768", _sink(32768), slow=True),
    Case("attention.overflow", _overflow),
    Case("pooling", _pooling),
    *(Case(f"model.{model.name}", _model(model)) for model in MODELS),
)
