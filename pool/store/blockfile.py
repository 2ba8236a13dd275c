"""The block object: packed rows of a job as one file. The only place that reads or writes it.

Little-endian, written once::

    magic b"IPB1" | header length uint32 | header JSON {"rows", "tokens", "work"}, space-padded
    lengths uint32 [rows]    tokens of each row, longest row first
    works   int64  [rows]    work of each row, in the same order
    order   uint32 [rows]    position of each row in the customer's order inside this block
    tokens  uint32 [tokens]  the rows one after the other, in sorted order

Each part, the header included, is padded to 8 bytes, so that the arrays can be mapped in place.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

MAGIC = b"IPB1"
_ALIGN = 8
_PREFIX = struct.Struct("<4sI")


class BlockFileError(ValueError):
    """The file is not a whole block object."""


class _Header(msgspec.Struct, frozen=True):
    rows: int
    tokens: int
    work: int


def write_block(
    path: Path,
    lengths: NDArray[np.integer],
    works: NDArray[np.integer],
    order: NDArray[np.integer],
    tokens: NDArray[np.integer],
) -> None:
    """Write a block atomically and durably: a temporary file, synced, renamed, folder synced.

    ``lengths``, ``works``, ``order`` are int [rows] in sorted order (longest first), ``tokens`` int
    [sum of lengths]. Raises ``ValueError`` when the arrays contradict each other.
    """
    rows = len(lengths)
    if rows == 0:
        raise ValueError("a block has at least one row")
    if len(works) != rows or len(order) != rows:
        raise ValueError("lengths, works and order must have one entry a row")
    if int(lengths.sum(dtype=np.int64)) != len(tokens):
        raise ValueError("tokens must hold exactly the sum of lengths")
    if np.any(np.diff(lengths.astype(np.int64)) > 0):
        raise ValueError("rows must be sorted, longest first")
    header = msgspec.json.encode(
        _Header(rows=rows, tokens=len(tokens), work=int(works.sum(dtype=np.int64)))
    )
    header += b" " * (-(_PREFIX.size + len(header)) % _ALIGN)
    parts: tuple[tuple[NDArray[np.integer], str], ...] = (
        (lengths, "<u4"),
        (works, "<i8"),
        (order, "<u4"),
        (tokens, "<u4"),
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(_PREFIX.pack(MAGIC, len(header)))
            file.write(header)
            for array, dtype in parts:
                data = np.ascontiguousarray(array, dtype=dtype)
                file.write(data.data)
                file.write(bytes(-data.nbytes % _ALIGN))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class BlockFile:
    """A block object, mapped read-only.

    ``rows``, ``work``; ``lengths`` uint32 [rows], ``works`` int64 [rows], ``order`` uint32 [rows],
    ``tokens`` uint32 [total], ``offsets`` int64 [rows + 1] (where each row's tokens begin). Raises
    ``BlockFileError`` when the file is damaged, ``OSError`` when it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            data: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
        except ValueError:  # an empty file cannot be mapped
            raise BlockFileError(f"{path}: not a block object") from None
        if len(data) < _PREFIX.size:
            raise BlockFileError(f"{path}: not a block object")
        magic, header_bytes = _PREFIX.unpack(data[: _PREFIX.size].tobytes())
        if magic != MAGIC:
            raise BlockFileError(f"{path}: not a block object")
        start = _PREFIX.size + header_bytes
        try:
            header = msgspec.json.decode(data[_PREFIX.size : start].tobytes(), type=_Header)
        except msgspec.DecodeError as error:
            raise BlockFileError(f"{path}: damaged header: {error}") from None
        self.path = path
        self.rows = header.rows
        self.work = header.work
        self._data = data
        self.lengths: NDArray[np.uint32] = self._part(start, "<u4", header.rows)
        start = _padded(start + self.lengths.nbytes)
        self.works: NDArray[np.int64] = self._part(start, "<i8", header.rows)
        start = _padded(start + self.works.nbytes)
        self.order: NDArray[np.uint32] = self._part(start, "<u4", header.rows)
        start = _padded(start + self.order.nbytes)
        self.tokens: NDArray[np.uint32] = self._part(start, "<u4", header.tokens)
        self.offsets = np.zeros(header.rows + 1, dtype=np.int64)
        np.cumsum(self.lengths, out=self.offsets[1:])
        if int(self.offsets[-1]) != header.tokens:
            raise BlockFileError(f"{path}: lengths do not add up to {header.tokens} tokens")

    def _part(self, start: int, dtype: str, count: int) -> NDArray[Any]:
        stop = start + count * np.dtype(dtype).itemsize
        if stop > len(self._data):
            raise BlockFileError(f"{self.path}: shorter than its header says")
        return self._data[start:stop].view(dtype)

    def take(self, start: int, stop: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Rows ``start`` to ``stop`` (exclusive): (lengths [k], their tokens), as views."""
        if not 0 <= start <= stop <= self.rows:
            raise IndexError(f"rows {start}:{stop} of a block of {self.rows}")
        return (
            self.lengths[start:stop],
            self.tokens[self.offsets[start] : self.offsets[stop]],
        )

    def take_rows(self, rows: Sequence[int]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Any rows, in the order given: (lengths [k], their tokens), copied."""
        picked = np.asarray(rows, dtype=np.int64)
        if len(picked) == 0:
            return np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.uint32)
        if picked.min() < 0 or picked.max() >= self.rows:
            raise IndexError(f"rows outside a block of {self.rows}")
        pieces = [self.tokens[self.offsets[row] : self.offsets[row + 1]] for row in picked]
        return self.lengths[picked], np.concatenate(pieces)

    def close(self) -> None:
        """Drop the mapping; it goes once the last view that was handed out is gone."""
        empty32 = np.empty(0, dtype=np.uint32)
        self._data = np.empty(0, dtype=np.uint8)
        self.lengths = self.order = self.tokens = empty32
        self.works = np.empty(0, dtype=np.int64)
        self.rows = 0

    def __enter__(self) -> BlockFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _padded(offset: int) -> int:
    return offset + -offset % _ALIGN
