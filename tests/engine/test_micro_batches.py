"""How rows are cut for the threads."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

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
