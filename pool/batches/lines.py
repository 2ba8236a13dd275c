"""The lines file: what intake found on every line, for output to write the answers from.

A sequence of records, each a uint32 length (little-endian) and one MessagePack array. Only lines
that are in the batch stand in it (blank ones do not), in the customer's order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from pool.batches.requests import Refusal, Request

_LENGTH = struct.Struct("<I")


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One request: its number in the file (from 1), its rows, or why it was refused."""

    number: int
    custom_id: str
    rows: int
    tokens: int
    base64: bool = False
    refusal: tuple[str, str | None, str] | None = None  # message, param, code
    top_n: int | None = None  # of a rerank request: how many results it wants
    documents: tuple[str, ...] | None = None  # the texts that it wants back

    @classmethod
    def of(cls, number: int, custom_id: str, request: Request, lengths: Sequence[int]) -> Line:
        """The line of a request whose rows have so many tokens."""
        return cls(
            number=number,
            custom_id=custom_id,
            rows=len(lengths),
            tokens=sum(lengths),
            base64=request.base64,
            top_n=request.top_n,
            documents=request.documents,
        )

    def refused(self) -> Refusal | None:
        """Why the line was refused; None when it has rows."""
        return None if self.refusal is None else Refusal(*self.refusal)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Line)


class LinesWriter:
    """Appends lines to an open file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, line: Line) -> None:
        """Append one line."""
        data = _ENCODER.encode(line)
        self._file.write(_LENGTH.pack(len(data)))
        self._file.write(data)


def read_lines(path: Path) -> Iterator[Line]:
    """Every line, one at a time. Raises ``ValueError`` when the file is cut short."""
    with path.open("rb", buffering=1 << 20) as file:
        while prefix := file.read(_LENGTH.size):
            size = _LENGTH.unpack(prefix)[0] if len(prefix) == _LENGTH.size else -1
            data = file.read(size) if size >= 0 else b""
            if len(data) != size:
                raise ValueError(f"{path}: cut short")
            yield _DECODER.decode(data)
