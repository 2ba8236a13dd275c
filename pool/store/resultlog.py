"""The result log: result bytes in append-only files, named by what the database says of them.

A record is CRC-32 of the bytes, their length (both uint32, little-endian), then the bytes. The
offset of a record points at its bytes. Appending is in memory of the kernel until ``sync``; a
transaction names records only after that, and what no transaction named is cut off at the
next start.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pool.store.database import StoreError

ROLL_BYTES = 1 << 30
_HEADER = struct.Struct("<II")
_IOV_MAX = 512  # buffers in one writev; Linux allows 1,024

Buffer = bytes | bytearray | memoryview


class Position(NamedTuple):
    """Where a record's bytes begin: the log's number and the offset in it."""

    log: int
    offset: int


class LogCorruptError(StoreError):
    """A record that the database names is not there, or is not what was written."""


class ResultLog:
    """The log files of one folder. Reading needs nothing; appending needs ``claim`` first.

    ``append`` and ``sync`` are for one thread at a time; ``read`` may be called from any.
    """

    def __init__(self, folder: Path, *, roll_bytes: int = ROLL_BYTES, durable: bool = True) -> None:
        self._folder = folder
        self._roll_bytes = roll_bytes
        self._durable = durable
        self._lock_file: int | None = None
        self._log = 0
        self._end = 0
        self._file: int | None = None
        self._unsynced: list[int] = []  # files rolled over since the last sync
        self._readers: dict[int, int] = {}  # {log: file descriptor}
        self._readers_lock = threading.Lock()

    def path(self, log: int) -> Path:
        """The file of one log."""
        return self._folder / f"{log:06d}.log"

    def claim(self, committed: Position) -> int:
        """Become the one that appends; cut off what no transaction named.

        ``committed`` is the end of what the database names. Returns the bytes cut off. Raises
        ``StoreError`` when another process has claimed the folder, and ``LogCorruptError`` when a
        file is shorter than the database says.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._file is not None:
            return 0
        self._take_lock()
        try:
            cut = self._truncate(committed)
            self._log, self._end = committed
            self._file = os.open(self.path(self._log), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._sync_folder()
        except BaseException:
            self.close()
            raise
        return cut

    def append(self, payloads: Iterable[Buffer]) -> list[Position]:
        """Write records behind one another; they last from the next ``sync`` on.

        Raises ``OSError`` (a full disk, say); then nothing of this call may be named.
        """
        positions: list[Position] = []
        buffers: list[Buffer] = []
        for payload in payloads:
            size = len(payload) if not isinstance(payload, memoryview) else payload.nbytes
            if self._end and self._end + _HEADER.size + size > self._roll_bytes:
                self._write(buffers)
                buffers = []
                self._roll()
            buffers += (_HEADER.pack(zlib.crc32(payload), size), payload)
            positions.append(Position(self._log, self._end + _HEADER.size))
            self._end += _HEADER.size + size
        self._write(buffers)
        return positions

    def sync(self) -> None:
        """Wait until everything appended is on the disk."""
        if self._file is None:
            raise RuntimeError("ResultLog.sync() before claim()")
        for file in (*self._unsynced, self._file):
            if self._durable:
                os.fdatasync(file)
        for file in self._unsynced:
            os.close(file)
        self._unsynced.clear()

    @property
    def end(self) -> Position:
        """Where the next record's header will be written."""
        return Position(self._log, self._end)

    def read(self, log: int, offset: int, size: int) -> bytes:
        """Read one record's bytes. Raises ``LogCorruptError`` when they are not as written."""
        return read_record(self._reader(log), self.path(log), offset, size)

    def close(self) -> None:
        """Close every file and give up the claim."""
        with self._readers_lock:
            for file in self._readers.values():
                os.close(file)
            self._readers.clear()
        opened = (*self._unsynced, self._file, self._lock_file)
        for descriptor in opened:
            if descriptor is not None:
                os.close(descriptor)
        self._unsynced.clear()
        self._file = self._lock_file = None

    def _take_lock(self) -> None:
        if self._lock_file is not None:
            return
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise StoreError(
                f"another pool is running on {self._folder.parent}: stop it first, "
                "or start this one in a folder of its own"
            ) from None
        self._lock_file = lock

    def _truncate(self, committed: Position) -> int:
        cut = 0
        for path in sorted(self._folder.glob("*.log")):
            log = int(path.stem)
            size = path.stat().st_size
            if log > committed.log:
                cut += size
                path.unlink()
            elif log == committed.log:
                if size < committed.offset:
                    raise LogCorruptError(
                        f"{path} has {size} bytes and the database names {committed.offset}: "
                        "bring the file back from a backup of the same moment as the database"
                    )
                cut += size - committed.offset
                os.truncate(path, committed.offset)
        if committed.offset and not self.path(committed.log).exists():
            raise LogCorruptError(
                f"{self.path(committed.log)} is missing and the database names results in it: "
                "bring it back from a backup of the same moment as the database"
            )
        return cut

    def _roll(self) -> None:
        assert self._file is not None
        self._unsynced.append(self._file)
        self._log += 1
        self._end = 0
        self._file = os.open(
            self.path(self._log), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
        )
        self._sync_folder()

    def _write(self, buffers: list[Buffer]) -> None:
        if not buffers:
            return
        if self._file is None:
            raise RuntimeError("ResultLog.append() before claim()")
        views = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
        at = self._end - sum(view.nbytes for view in views)
        while views:
            batch = views[:_IOV_MAX]
            wrote = os.pwritev(self._file, batch, at)
            at += wrote
            while views and wrote >= views[0].nbytes:
                wrote -= views.pop(0).nbytes
            if wrote:
                views[0] = views[0][wrote:]

    def _sync_folder(self) -> None:
        if not self._durable:
            return
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _reader(self, log: int) -> int:
        with self._readers_lock:
            file = self._readers.get(log)
            if file is None:
                try:
                    file = os.open(self.path(log), os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    raise LogCorruptError(f"{self.path(log)} is missing") from None
                self._readers[log] = file
            return file


def read_record(file: int, path: Path, offset: int, size: int) -> bytes:
    """Read one record's bytes from an open file descriptor and check them.

    ``path`` is for the error's text. Raises ``LogCorruptError``.
    """
    start = offset - _HEADER.size
    record = b"" if start < 0 else os.pread(file, _HEADER.size + size, start)
    if len(record) == _HEADER.size + size:
        crc, length = _HEADER.unpack_from(record)
        data = record[_HEADER.size :]
        if length == size and zlib.crc32(data) == crc:
            return data
    raise LogCorruptError(
        f"{path}: no record of {size} bytes at offset {offset}: the file is damaged"
    )
