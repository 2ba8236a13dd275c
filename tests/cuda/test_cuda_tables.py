"""Slices of integers, the tables of a batch, and what kernels take."""

from __future__ import annotations

import ast

import numpy as np
import pytest
from hostdevice import MakeDevice

from gpu_worker.engine.cuda import source
from gpu_worker.engine.cuda.batch import GROUP, QUERIES, Run, upload_batch
from gpu_worker.engine.cuda.formats import DEPTH, PRODUCTS, SLICINGS, joined, sliced
from gpu_worker.engine.cuda.source import kernels, module_text
from gpu_worker.engine.encoderconfig import MAX_TOKENS


@pytest.mark.parametrize("limit", list(SLICINGS))
def test_slices_hold_every_integer(limit: int) -> None:
    """Up to the limit, in int8, the sum of both too, and back."""
    values = np.arange(-limit, limit + 1)[None]
    slicing = SLICINGS[limit]
    slices = sliced(values, slicing, 3, 1, values.size)
    wide = slices.astype(np.int64)

    assert np.array_equal(joined(slices, slicing)[0], values[0])
    if slicing.number == 2:
        assert np.array_equal(wide[0] + wide[1], wide[2])


@pytest.mark.parametrize("limits", list(PRODUCTS))
def test_sums_of_slices_are_the_products(limits: tuple[int, int]) -> None:
    """And none exceeds int32 at the depth that they are cut at."""
    product = PRODUCTS[limits]
    rng = np.random.default_rng(1)
    x = rng.integers(-limits[0], limits[0] + 1, (1, 500))
    w = rng.integers(-limits[1], limits[1] + 1, (1, 500))
    xs = sliced(x, product.x, product.planes[0], 1, 500).astype(np.int64)
    ws = sliced(w, product.w, product.planes[1], 1, 500).astype(np.int64)
    total = sum(
        coefficient * sum(int(xs[a, 0] @ ws[b, 0]) for a, b in pairs)
        for coefficient, pairs in product.sums
    )

    assert total == int(x[0] @ w[0])
    for _, pairs in product.sums:
        # -128 occurs in low slices only: of two factors, one is at most 127 but for low · low.
        largest = sum(128 * (128 if (a, b) == (1, 1) else 127) for a, b in pairs)
        assert largest * DEPTH < 2**31


def test_sums_over_the_keys_of_the_longest_row_stay_in_int32() -> None:
    """Two products of slices for each key go into one sum of the attention kernel."""
    assert 2 * 128 * 128 * MAX_TOKENS < 2**31


def test_a_batchs_tables(make_device: MakeDevice) -> None:
    lengths = (33, 1, 64)
    tokens = np.arange(98, dtype=np.uint32)
    batch = upload_batch(make_device(), tokens, lengths, 40)

    assert batch.tokens.tolist() == tokens.tolist()
    assert batch.positions.tolist() == [*range(33), 0, *range(64)]
    assert batch.segments.tolist() == [0] * 41 + [1] * 57
    assert batch.starts.tolist() == [0, 33, 34]
    assert batch.key_groups.tolist() == [[0, 32], [32, 1], [33, 1], [34, 32], [66, 32]]
    assert batch.units.tolist() == [
        [0, 33, 0, 0], [0, 33, 16, 0], [0, 33, 32, 0], [33, 1, 0, 2],
        [34, 64, 0, 3], [34, 64, 16, 3], [34, 64, 32, 3], [34, 64, 48, 3],
    ]  # fmt: skip


@pytest.mark.parametrize("window", [0, 1, 8, 9, 24, 25, 64, 500])
@pytest.mark.parametrize("length", [1, 16, 31, 32, 33, 65, 300, 700])
def test_runs_have_room_for_what_their_units_see(
    make_device: MakeDevice, length: int, window: int
) -> None:
    batch = upload_batch(make_device(), np.zeros(length, np.uint32), (length,), -1)
    (run,) = batch.runs_of(window)
    widest = 0
    for first in range(0, length, QUERIES):
        last = min(first + QUERIES, length) - 1
        keys = (
            (max(0, first - window), min(length - 1, last + window)) if window else (0, length - 1)
        )
        widest = max(widest, keys[1] // GROUP - keys[0] // GROUP + 1)

    assert run.first == 0
    assert run.count == -(-length // QUERIES)
    assert widest <= run.groups <= widest + 1


def test_runs_cover_all_units_in_order(make_device: MakeDevice) -> None:
    lengths = (700, 690, 30, 300, 20, 20)
    batch = upload_batch(make_device(), np.zeros(sum(lengths), np.uint32), lengths, -1)

    assert batch.runs_of(0) == (Run(0, 88, 22), Run(88, 2, 1), Run(90, 19, 10), Run(109, 4, 1))


def test_kernels_are_read_from_their_sources() -> None:
    own = kernels()["finish"]

    assert own.module == "rows"
    assert [(p.name, p.dtype.name, p.array) for p in own.parameters] == [
        ("values", "float32", True),
        ("rows", "int32", False),
        ("width", "int32", False),
        ("failed", "bool", True),
    ]
    assert {kernel.module for kernel in kernels().values()} == set(source.MODULES)


def test_arguments_get_the_width_that_the_kernel_reads() -> None:
    values, failed = np.zeros((2, 3), np.float32), np.zeros(2, np.bool_)
    given = kernels()["finish"].arguments((values, 2, 3, failed))

    assert given[0] is values
    assert type(given[1]) is np.int32


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ((np.zeros((2, 3)), 2, 3, np.zeros(2, np.bool_)), "not float64"),
        ((np.zeros((3, 2), np.float32).T, 2, 3, np.zeros(2, np.bool_)), "contiguous"),
        ((np.zeros((2, 3), np.float32), 2, 3), "takes 4 arguments, not 3"),
    ],
)
def test_wrong_arguments_are_refused(wrong: tuple[object, ...], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        kernels()["finish"].arguments(wrong)


@pytest.mark.parametrize("module", source.MODULES)
def test_a_modules_text_is_complete(module: str) -> None:
    """A compiler's cache knows a kernel by this text alone."""
    text = module_text(module)

    assert "#include" not in text
    assert text.count("float horner_exp2(float x)") == 1


def test_cupy_moves_memory_and_computes_nothing() -> None:
    """CuPy compiles its own kernels, and any that it is handed, with ``-ftz=true``."""
    allowed = {"cuda", "empty", "ascontiguousarray", "get_default_memory_pool"}
    text = (source.KERNELS.parent / "cupydevice.py").read_text("utf-8")
    used = {
        node.attr
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "cupy"
    }

    assert used <= allowed
