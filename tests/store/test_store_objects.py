"""Objects: whole, durable when they can be named, and inside their folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pool.store import Objects


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(tmp_path / "objects")


def test_what_was_put_can_be_read(objects: Objects, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"from a file" * 1_000_000)
    objects.put("blocks/1-0", b"bytes")
    objects.put_file("uploads/file-1", source)

    assert objects.get("blocks/1-0") == b"bytes"
    assert objects.local_path("uploads/file-1").read_bytes() == source.read_bytes()
    assert objects.size("uploads/file-1") == 11_000_000
    assert objects.list() == [("blocks/1-0", 5), ("uploads/file-1", 11_000_000)]
    assert objects.list("blocks") == [("blocks/1-0", 5)]


def test_putting_again_replaces(objects: Objects) -> None:
    objects.put("name", b"long and old")
    objects.put("name", memoryview(b"new"))

    assert objects.get("name") == b"new"


def test_what_is_gone_is_gone(objects: Objects) -> None:
    objects.put("name", b"data")
    objects.delete("name")
    objects.delete("name")

    assert not objects.exists("name")
    with pytest.raises(FileNotFoundError):
        objects.get("name")
    with pytest.raises(FileNotFoundError):
        objects.size("name")


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../outside", "a/../b", "a//b", ".hidden", "a b", "a#1", "a/"]
)
def test_names_stay_inside(objects: Objects, name: str) -> None:
    with pytest.raises(ValueError, match="object name"):
        objects.put(name, b"data")
    with pytest.raises(ValueError, match="object name"):
        objects.local_path(name)


def test_an_object_and_its_folders_are_synced_before_put_returns(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    objects.put("new/folder/name", b"data")
    root = objects.local_path("new").parent

    assert synced == [
        str(path) for path in (root / "new/folder/name", root / "new/folder", root / "new", root)
    ]
