"""The block object keeps what was packed and refuses what is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.store.blockfile import BlockFile, BlockFileError, write_block


def _write(path: Path, lengths: list[int]) -> None:
    write_block(
        path,
        np.array(lengths),
        np.array(lengths) * 1_000_000_000_000,
        np.arange(len(lengths))[::-1],
        np.arange(sum(lengths)),
    )


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_what_was_packed_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int]
) -> None:
    """Every array comes back, aligned, whatever the padding between them."""
    lengths.sort(reverse=True)
    path = tmp_path_factory.mktemp("block") / "b"
    _write(path, lengths)

    with BlockFile(path) as block:
        assert block.rows == len(lengths)
        assert block.work == sum(lengths) * 1_000_000_000_000
        assert block.lengths.tolist() == lengths
        assert block.works.tolist() == [n * 1_000_000_000_000 for n in lengths]
        assert block.order.tolist() == list(range(len(lengths)))[::-1]
        assert block.tokens.tolist() == list(range(sum(lengths)))
        assert block.works.flags.aligned
        assert block.tokens.flags.aligned


def test_rows_can_be_taken_by_range_and_by_choice(tmp_path: Path) -> None:
    """A range is a view; chosen rows come in the order they were asked for."""
    _write(tmp_path / "b", [3, 2, 1])
    block = BlockFile(tmp_path / "b")

    lengths, tokens = block.take(1, 3)
    assert (lengths.tolist(), tokens.tolist()) == ([2, 1], [3, 4, 5])
    assert tokens.base is not None
    lengths, tokens = block.take_rows([2, 0, 2])
    assert (lengths.tolist(), tokens.tolist()) == ([1, 3, 1], [5, 0, 1, 2, 5])
    assert block.take_rows([])[0].tolist() == []
    with pytest.raises(IndexError):
        block.take(2, 4)
    with pytest.raises(IndexError):
        block.take_rows([3])
    block.close()
    with pytest.raises(IndexError):
        block.take(0, 1)


def test_views_outlive_the_block_that_gave_them(tmp_path: Path) -> None:
    """A frame being sent still reads its tokens after the block was closed."""
    _write(tmp_path / "b", [3, 2, 1])
    block = BlockFile(tmp_path / "b")
    _, tokens = block.take(0, 3)
    block.close()

    assert tokens.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("keep", [0, 3, 8, 40, -1])
def test_a_cut_block_is_refused(tmp_path: Path, keep: int) -> None:
    """A file that lost its end never gives rows."""
    _write(tmp_path / "b", [3, 2, 2])
    data = (tmp_path / "b").read_bytes()
    (tmp_path / "b").write_bytes(data[:keep] if keep >= 0 else data[:-8])

    with pytest.raises(BlockFileError):
        BlockFile(tmp_path / "b")


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    """The magic is checked."""
    (tmp_path / "b").write_bytes(b"x" * 64)

    with pytest.raises(BlockFileError):
        BlockFile(tmp_path / "b")


def test_contradicting_arrays_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    """Unsorted rows, missing tokens or no rows are a bug of the packer, found at once."""
    one = np.array([1])
    with pytest.raises(ValueError, match="longest first"):
        write_block(tmp_path / "b", np.array([1, 2]), one.repeat(2), one.repeat(2), np.arange(3))
    with pytest.raises(ValueError, match="sum of lengths"):
        write_block(tmp_path / "b", np.array([2]), one, one, np.arange(3))
    with pytest.raises(ValueError, match="at least one row"):
        write_block(tmp_path / "b", one[:0], one[:0], one[:0], one[:0])

    assert list(tmp_path.iterdir()) == []
