"""Packing rows into blocks, in the customer's order, while the input is still being read."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pool.batches.requests import ServedModel
from pool.store.blockfile import write_block
from shares.blocks import MAX_BLOCK_INPUT_BYTES, MAX_BLOCK_RESULT_BYTES, MAX_BLOCK_ROWS

# A small job is cut into a few blocks, so that output and checks need not wait for all of it.
SMALL_JOB_BLOCKS = 4
SMALL_JOB_ROWS = 256
_TOKEN_BYTES = 4


@dataclass(frozen=True, slots=True)
class PackedBlock:
    """One block, written."""

    path: Path
    rows: int
    work: int


class Packer:
    """Collects rows and writes a block whenever the next row would not fit.

    Memory: one block's rows. Blocks are named ``0``, ``1``, … in ``folder``.
    """

    def __init__(self, folder: Path, model: ServedModel) -> None:
        self.blocks: list[PackedBlock] = []
        self.rows = 0
        self.tokens = 0
        self.work = 0
        self._folder = folder
        self._model = model
        self._max_rows = max(1, min(MAX_BLOCK_ROWS, MAX_BLOCK_RESULT_BYTES // model.row_bytes))
        self._lengths = array("I")
        self._tokens = array("I")

    def add(self, row: Iterable[int]) -> None:
        """Append one row of token ids."""
        before = len(self._tokens)
        self._tokens.extend(row)
        length = len(self._tokens) - before
        full = len(self._lengths) == self._max_rows
        if before and (full or len(self._tokens) * _TOKEN_BYTES > MAX_BLOCK_INPUT_BYTES):
            rest = self._tokens[before:]
            del self._tokens[before:]
            self._write(0, len(self._lengths))
            self._lengths, self._tokens = array("I"), rest
        self._lengths.append(length)
        self.rows += 1
        self.tokens += length

    def finish(self) -> None:
        """Write what is left: as a few blocks when the whole job is small."""
        rows = len(self._lengths)
        if rows == 0:
            return
        pieces = 1
        if self.rows >= SMALL_JOB_ROWS:
            pieces = max(1, SMALL_JOB_BLOCKS - len(self.blocks))
        edges = [rows * piece // pieces for piece in range(pieces + 1)]
        for start, stop in pairwise(edges):
            if stop > start:
                self._write(start, stop)
        self._lengths, self._tokens = array("I"), array("I")

    def _write(self, start: int, stop: int) -> None:
        all_lengths = np.frombuffer(self._lengths, dtype=np.uint32)
        first = int(all_lengths[:start].sum(dtype=np.int64))
        lengths = all_lengths[start:stop].astype(np.int64)
        tokens = np.frombuffer(self._tokens, dtype=np.uint32)[first : first + int(lengths.sum())]
        order = np.argsort(-lengths, kind="stable")
        works = self._model.shape.works(lengths[order])
        path = self._folder / str(len(self.blocks))
        write_block(path, lengths[order], works, order, _gather(tokens, lengths, order))
        work = int(works.sum())
        self.work += work
        self.blocks.append(PackedBlock(path=path, rows=len(lengths), work=work))


def _gather(
    tokens: NDArray[np.uint32], lengths: NDArray[np.int64], order: NDArray[np.int64]
) -> NDArray[np.uint32]:
    """The rows' tokens in the order ``order``."""
    starts = np.cumsum(lengths) - lengths
    gathered = np.empty_like(tokens)
    at = 0
    for row in order:
        length = lengths[row]
        gathered[at : at + length] = tokens[starts[row] : starts[row] + length]
        at += length
    return gathered
