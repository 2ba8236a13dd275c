"""How rows are cut for the threads, and cut further where memory lacks; where the time goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import local
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_bert import packed, random_rows

from gpu_worker.engine import Engine, OutOfMemory
from gpu_worker.engine.numerics import EXACT
from gpu_worker.engine.ops import F32, Operand
from gpu_worker.engine.ops_numpy import NumpyOps
from gpu_worker.engine.plan import TOKENS, micro_batches


@given(st.lists(st.integers(1, 700), max_size=80), st.integers(1, 9))
def test_every_row_once_in_order(lengths: list[int], threads: int) -> None:
    """No row is lost, doubled or cut, and no batch is far over its size."""
    batches = list(micro_batches(np.array(lengths, np.uint32), threads))
    ends = np.cumsum([0, *lengths])

    assert [row for batch in batches for row in range(batch.start, batch.stop)] == list(
        range(len(lengths))
    )
    for batch in batches:
        own = lengths[batch.start : batch.stop]
        assert (batch.first_token, batch.last_token) == (ends[batch.start], ends[batch.stop])
        assert len(own) == 1 or sum(own) <= TOKENS + max(own) / 2


def test_few_rows_are_shared_out() -> None:
    """600 tokens on four threads: four batches, not two."""
    batches = list(micro_batches(np.full(20, 30, np.uint32), 4))

    assert [batch.stop - batch.start for batch in batches] == [5, 5, 5, 5]


Open = Callable[..., Engine]


class Hungry(NumpyOps):
    """Has memory for the vectors of ``most`` tokens only."""

    most = 20
    refused = 0

    def __init__(self) -> None:
        super().__init__(EXACT["exact16"])

    def quantise(self, x: F32, failed: Any) -> Operand:
        if len(x) > self.most:
            Hungry.refused += 1
            raise MemoryError
        return super().quantise(x, failed)


def results(engine: Engine, rows: list[list[int]]) -> Any:
    return np.concatenate([chunk.values for chunk in engine.run("embed", *packed(rows), 7)])


def with_little_memory(engine: Any) -> Any:
    engine._make_ops = Hungry
    engine._own = local()
    Hungry.refused = 0
    return engine


def test_a_micro_batch_without_memory_is_halved(open_engine: Open, tiny: Path) -> None:
    """Until it fits; the results are the same, in the same order."""
    rows = random_rows(1, 60, 20)
    engine = open_engine(tiny, threads=2)
    expected = results(engine, rows)

    assert np.array_equal(results(with_little_memory(engine), rows), expected)
    assert Hungry.refused > 3


def test_a_row_that_does_not_fit_by_itself_is_named(open_engine: Open, tiny: Path) -> None:
    """Other rows still can be computed afterwards."""
    engine = with_little_memory(open_engine(tiny, threads=1))

    with pytest.raises(OutOfMemory, match="too little memory for a row of 30 tokens"):
        results(engine, [[1] * 30, [2] * 4])
    assert len(results(engine, [[2] * 4])) == 1


def test_stages_grow_with_the_work(open_engine: Open, tiny: Path) -> None:
    """Seconds of each stage, summed over threads; together no more than the threads had."""
    engine = open_engine(tiny, threads=2)
    before = engine.stages()
    results(engine, random_rows(1, 60, 60))
    after = engine.stages()

    assert set(before) == set(after) >= {"embed", "products", "attention", "pool"}
    assert all(after[stage] >= before[stage] for stage in before)
    assert after["products"] > before["products"]
    assert after["attention"] > before["attention"]


def test_time_inside_another_stage_counts_once() -> None:
    """Attention quantises and multiplies: what these take is theirs alone."""
    from gpu_worker.engine.ops import Ops
    from gpu_worker.engine.stopwatch import Stopwatch

    now = [0.0]

    class Slow(Ops):
        def quantise(self, x: F32, failed: Any) -> Operand:
            now[0] += 2
            return super().quantise(x, failed)

        def attention(self, x: Any, *given: Any, **named: Any) -> Operand:
            now[0] += 5
            self.quantise(np.ones((1, 4), np.float32), np.zeros(1, np.bool_))
            now[0] += 1
            return self.quantise(np.ones((1, 4), np.float32), np.zeros(1, np.bool_))

    ops = Slow(EXACT["exact16"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpu_worker.engine.stopwatch.perf_counter", lambda: now[0])
        watch = Stopwatch(ops)
        ops.attention(None, None, 1, None)  # type: ignore[arg-type]

    assert watch.seconds["attention"] == 6
    assert watch.seconds["quantise"] == 4
    assert sum(watch.seconds.values()) == 10


def test_nothing_is_compiled_after_loading(open_engine: Open, tiny: Path) -> None:
    """Compiling takes seconds: a rig that met a new kind of batch in a share would stall."""
    pytest.importorskip("numba")
    from gpu_worker.engine import kernels_float, kernels_numba

    def compiled() -> dict[str, int]:
        return {
            f"{module.__name__}.{name}": len(function.signatures)
            for module in (kernels_numba, kernels_float)
            for name, function in vars(module).items()
            if hasattr(function, "signatures")
        }

    for numerics in ("exact16", "exact8", "float32"):
        engine = open_engine(tiny, numerics, threads=2)
        before = compiled()
        for lengths in ([1], [64], [3, 3, 3], [2, 60, 60, 1, 5], [1] * 70):
            results(engine, [[7] * length for length in lengths])

        assert compiled() == before
