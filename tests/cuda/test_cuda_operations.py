"""Shapes and values that the golden vectors leave out, against the specification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hostdevice import MakeDevice
from numpy.typing import NDArray

from gpu_worker.engine.cuda.ops import CudaOps
from gpu_worker.engine.golden.inputs import below, integers, odd_rows, uniform
from gpu_worker.engine.numerics import EXACT
from gpu_worker.engine.ops import Norm, Operand, Ops, Rope, Weight

KIND = EXACT["exact16"]


def both(make_device: MakeDevice, numerics: str = "exact16") -> tuple[Ops, CudaOps]:
    return Ops(EXACT[numerics]), CudaOps(EXACT[numerics], make_device())


def bits(ops: Ops, values: NDArray[np.float32]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(ops.read(values), np.float32).view(np.uint32)


def same(ops: Sequence[Ops], found: Sequence[Operand]) -> bool:
    one, other = (own.read_operand(operand) for own, operand in zip(ops, found, strict=True))
    return np.array_equal(one.values, other.values) and np.array_equal(one.scale, other.scale)


def weight(ops: Ops, numerics: str, out: int, width: int) -> Weight:
    limit = EXACT[numerics].weights
    values = integers(1, (out, width), limit).astype(EXACT[numerics].weight_dtype)
    scale = np.abs(uniform(2, (out,), -4)) + np.float32(2.0**-20)
    return ops.weight(values, scale / np.float32(limit), uniform(3, (out,), -2))


@pytest.mark.parametrize("numerics", list(EXACT))
@pytest.mark.parametrize("rows", [1, 129])
@pytest.mark.parametrize(("depth", "out"), [(1, 1), (65, 66), (200, 63), (384, 5)])
def test_dense_layers_of_odd_shapes(
    make_device: MakeDevice, numerics: str, rows: int, depth: int, out: int
) -> None:
    """Tiles, words and vectors that do not come out even."""
    x, residual = uniform(4, (rows, depth)), uniform(5, (rows, out))
    found = []
    for ops in both(make_device, numerics):
        failed = ops.batch(np.zeros(rows, np.uint32), [rows]).failed
        given = ops.quantise(ops.constant(x), failed)
        layer = weight(ops, numerics, out, depth)
        found.append(bits(ops, ops.dense_add(given, layer, ops.constant(residual.copy()))))

    assert np.array_equal(*found)


@pytest.mark.parametrize("numerics", list(EXACT))
def test_a_depth_beyond_int32(make_device: MakeDevice, numerics: str) -> None:
    """All operands at their largest: sums of more than 65,536 products are cut in two."""
    depth = 131_072
    x = np.ones((2, depth), np.float32)
    x[1] = -1
    found = []
    for ops in both(make_device, numerics):
        limit = EXACT[numerics].weights
        values = np.full((3, depth), limit)
        values[1] = -limit
        values[2, ::2] -= 1
        layer = ops.weight(
            values.astype(EXACT[numerics].weight_dtype), np.ones(3, np.float32),
            np.zeros(3, np.float32),
        )  # fmt: skip
        failed = ops.batch(np.zeros(2, np.uint32), [2]).failed
        found.append(bits(ops, ops.dense(ops.quantise(ops.constant(x), failed), layer)))

    assert np.array_equal(*found)


@pytest.mark.parametrize("width", [1, 3, 130, 8192])
def test_rows_of_odd_widths(make_device: MakeDevice, width: int) -> None:
    """Quantised, normed and normalised, with what fails among them."""
    x = np.concatenate([odd_rows(max(width, 6))[:, :width], uniform(6, (5, width), 2)])
    ops = both(make_device)
    operands, floats = [], []
    for own in ops:
        batch = own.batch(np.zeros(len(x), np.uint32), [1] * len(x))
        norm = Norm(
            own.constant(uniform(7, (width,))), own.constant(uniform(8, (width,))), 1e-12
        )  # fmt: skip
        with np.errstate(all="ignore"):
            operands.append(own.quantise(own.constant(x.copy()), batch.failed))
            normed = own.norm(own.constant(x.copy()), norm, batch.failed)
            unit = own.normalise(own.constant(x.copy()), batch.failed)
        floats.append([bits(own, normed), bits(own, unit), own.read(batch.failed)])

    assert same(ops, operands)
    for one, other in zip(*floats, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("width", "heads", "lengths", "window"),
    [
        (300, 1, [5, 40], 0),  # a head wider than three chunks, and not a multiple of anything
        (6, 3, [70, 2], 0),  # heads of two
        (32, 2, [3, 600, 17, 1], 0),  # scores anew for one row between others
        (32, 2, [600], 270),
        (32, 2, [90, 130], 500),  # a window that hides nothing
    ],
)
@pytest.mark.parametrize("rotary", [False, True])
def test_attention_of_odd_shapes(
    make_device: MakeDevice, width: int, heads: int, lengths: list[int], window: int, rotary: bool
) -> None:
    tokens, half = sum(lengths), width // heads // 2
    x = uniform(9, (tokens, width), 1)
    ops = both(make_device)
    found = []
    for own in ops:
        batch = own.batch(below(10, tokens, 9), lengths)
        rope = None
        if rotary:
            shape = (max(lengths), half)
            rope = Rope(own.constant(uniform(11, shape)), own.constant(uniform(12, shape)))
        layer = weight(own, "exact16", 3 * width, width)
        given = own.quantise(own.constant(x), batch.failed)
        found.append(own.attention(given, layer, heads, batch, rope, window))

    assert same(ops, found)


def test_max_pooling_gives_zero_one_sign(make_device: MakeDevice) -> None:
    """Also where a row is a single token."""
    x = np.array([[-0.0, 0.0], [-0.0, -0.0], [0.0, -0.0]], np.float32)
    for ops in both(make_device):
        values, _ = ops.pool(ops.constant(x), ops.batch(np.zeros(3, np.uint32), [1, 2]), "max")

        assert not bits(ops, values).any()


def test_results_that_are_not_finite_fail(make_device: MakeDevice) -> None:
    """And failed rows are zeros; others are left alone."""
    x = np.ones((4, 5), np.float32)
    x[0, 4], x[1, 0] = np.nan, -np.inf
    for ops in both(make_device):
        failed = ops.constant(np.array([False, False, True, False]))
        values, flags = ops.finish(ops.constant(x.copy()), failed)

        assert flags.tolist() == [True, True, True, False]
        assert values.tolist() == [[0.0] * 5] * 3 + [[1.0] * 5]
