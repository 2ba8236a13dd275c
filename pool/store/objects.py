"""Objects: uploads, blocks, outputs, model files. Written once, named by the database.

An object is on the disk when ``put`` returns, so a transaction may name it from then on.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import obstore
from obstore.store import LocalStore

from pool.crashpoints import crash_point

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


class Objects:
    """Objects in a folder. Names are like ``blocks/12-0``: letters, digits, ``. _ -`` and ``/``.

    Every method raises ``ValueError`` for any other name and may be called from any thread.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self._folder = folder
        self._durable = durable
        self._store = LocalStore(prefix=str(folder), mkdir=True)

    def put(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Store ``data``; an object of that name is replaced as a whole."""
        self._put(name, bytes(data))

    def put_file(self, name: str, path: Path) -> None:
        """Store a copy of the file ``path``."""
        self._put(name, path)

    def get(self, name: str) -> bytes:
        """All bytes of an object. Raises ``FileNotFoundError``."""
        return bytes(obstore.get(self._store, _checked(name)).bytes())

    def local_path(self, name: str) -> Path:
        """A file of this machine that holds the object, for processes that are handed files."""
        return self._folder / _checked(name)

    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        try:
            obstore.head(self._store, _checked(name))
        except FileNotFoundError:
            return False
        return True

    def size(self, name: str) -> int:
        """Bytes of an object. Raises ``FileNotFoundError``."""
        return int(obstore.head(self._store, _checked(name))["size"])

    def delete(self, name: str) -> None:
        """Remove an object; nothing happens when there is none."""
        try:
            obstore.delete(self._store, _checked(name))
        except FileNotFoundError:
            return

    def list(self, prefix: str = "") -> list[tuple[str, int]]:
        """(name, bytes) of every object in a folder and below, in the order of their names."""
        found = obstore.list(self._store, prefix or None).collect()
        return sorted((str(entry["path"]), int(entry["size"])) for entry in found)

    def _put(self, name: str, data: bytes | Path) -> None:
        _checked(name)
        crash_point("object.before")
        obstore.put(self._store, name, data)
        crash_point("object.written")
        # The folder store writes beside and renames, but waits for no disk.
        if self._durable:
            self._sync(self._folder / name)
        crash_point("object.synced")

    def _sync(self, path: Path) -> None:
        _fsync(path)
        # The folders too: the name is in the last one, and each may be new in the one above.
        for folder in path.parents:
            _fsync(folder)
            if folder == self._folder:
                return


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"object name {name!r}: use letters, digits, '_', '-' and '.', "
            "with '/' between parts that do not begin with '.' or '-'"
        )
    return name


def _fsync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
