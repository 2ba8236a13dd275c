"""Finding custom ids that stand on more than one line, exactly, in bounded memory.

Each id leaves eight bytes in a scratch file. At the end these are compared range by range; what
may be a repetition is looked up again in the input, so that two ids of one hash are told apart.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_FLUSH = 1 << 16  # hashes kept in memory before they are written
_RANGE = 1 << 22  # hashes compared at a time (32 MiB)
_CANDIDATES = 1 << 16  # suspected ids looked up at a time


class IdIndex:
    """Remembers ids as hashes. The key is secret, so nobody can prepare ids that collide."""

    def __init__(self, scratch: Path, *, hash_bytes: int = 8) -> None:
        self._path = scratch
        self._file = scratch.open("wb")
        self._pending = array("Q")
        self._key = secrets.token_bytes(16)
        self._hash_bytes = hash_bytes
        self._count = 0

    def add(self, custom_id: str) -> None:
        """Remember the id of the next line."""
        self._pending.append(self._hash(custom_id))
        self._count += 1
        if len(self._pending) >= _FLUSH:
            self._flush()

    def repeated(
        self, reread: Callable[[], Iterator[tuple[int, str]]], limit: int
    ) -> list[tuple[int, int, str]]:
        """Lines whose id stood on an earlier line: (line, first line, id), at most ``limit``.

        ``reread`` gives (line number, id) of every line added, roughly in order.
        """
        self._flush()
        self._file.close()
        suspects = self._suspects()
        found: list[tuple[int, int, str]] = []
        for start in range(0, len(suspects), _CANDIDATES):
            some = set(suspects[start : start + _CANDIDATES].tolist())
            first: dict[str, int] = {}
            for number, custom_id in reread():
                if self._hash(custom_id) not in some:
                    continue
                if custom_id in first:
                    earlier = min(number, first[custom_id])
                    found.append((max(number, first[custom_id]), earlier, custom_id))
                    first[custom_id] = earlier
                    if len(found) >= limit:
                        break
                else:
                    first[custom_id] = number
            if len(found) >= limit:
                break
        return sorted(found)

    def close(self) -> None:
        """Remove the scratch file."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _hash(self, custom_id: str) -> int:
        data = custom_id.encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(data, digest_size=self._hash_bytes, key=self._key).digest())

    def _flush(self) -> None:
        self._pending.tofile(self._file)
        self._pending = array("Q")

    def _suspects(self) -> NDArray[np.uint64]:
        """Hashes that occur more than once."""
        ranges = -(-self._count // _RANGE)
        found: list[NDArray[np.uint64]] = []
        for part in range(ranges):
            chunks = [
                chunk if ranges == 1 else chunk[chunk % np.uint64(ranges) == part]
                for chunk in self._chunks()
            ]
            values = np.sort(np.concatenate(chunks))
            found.append(np.unique(values[1:][values[1:] == values[:-1]]))
        return np.concatenate(found) if found else np.empty(0, dtype=np.uint64)

    def _chunks(self) -> Iterator[NDArray[np.uint64]]:
        with self._path.open("rb") as file:
            while data := file.read(8 * _RANGE):
                yield np.frombuffer(data, dtype=np.uint64)
