"""The result log: what was synced is there, what no transaction named is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.store import LogCorruptError, ResultLog, StoreError
from pool.store.resultlog import Position

START = Position(0, 0)


def opened(folder: Path, at: Position = START, **options: int) -> ResultLog:
    log = ResultLog(folder / "results", **options)
    log.claim(at)
    return log


def test_what_was_appended_can_be_read(tmp_path: Path) -> None:
    log = opened(tmp_path)
    payloads = [b"one", memoryview(b"two two"), bytearray(b""), b"x" * 100_000]
    positions = log.append(payloads)
    log.sync()

    read = [log.read(*at, len(data)) for at, data in zip(positions, payloads, strict=True)]
    assert read == [bytes(data) for data in payloads]
    log.close()


def test_many_payloads_and_short_writes_leave_no_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may take less than it is offered, anywhere within a buffer."""
    real = os.pwritev
    monkeypatch.setattr(
        os, "pwritev", lambda file, views, at: real(file, [views[0][: 1 + len(views[0]) // 2]], at)
    )
    log = opened(tmp_path)
    payloads = [bytes([n % 251]) * (n % 37) for n in range(700)]
    positions = log.append(payloads)

    for at, data in zip(positions, payloads, strict=True):
        assert log.read(*at, len(data)) == data
    log.close()


def test_a_full_file_is_followed_by_the_next(tmp_path: Path) -> None:
    log = opened(tmp_path, roll_bytes=100)
    positions = log.append([b"a" * 60, b"b" * 60, b"c" * 200, b"d"])
    log.sync()

    assert [at.log for at in positions] == [0, 1, 2, 3]
    assert log.read(*positions[2], 200) == b"c" * 200
    assert log.end == Position(3, 9)
    log.close()


def test_what_was_never_named_is_cut_off(tmp_path: Path) -> None:
    """A start goes back to the last committed record, over file borders too."""
    log = opened(tmp_path, roll_bytes=100)
    (kept,) = log.append([b"kept" * 10])
    committed = log.end
    log.append([b"lost" * 10, b"lost" * 20])
    log.close()

    again = ResultLog(tmp_path / "results", roll_bytes=100)
    assert again.claim(committed) == 48 + 88
    assert again.read(*kept, 40) == b"kept" * 10
    assert again.append([b"next"]) == [Position(0, committed.offset + 8)]
    again.close()
    assert [path.name for path in sorted((tmp_path / "results").glob("*.log"))] == ["000000.log"]


def test_a_log_shorter_than_the_database_says_is_refused(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append([b"data"])
    end = log.end
    log.close()
    os.truncate(tmp_path / "results" / "000000.log", 5)

    with pytest.raises(LogCorruptError, match="has 5 bytes and the database names 12"):
        opened(tmp_path, end)
    (tmp_path / "results" / "000000.log").unlink()
    with pytest.raises(LogCorruptError, match="is missing"):
        opened(tmp_path, end)


@pytest.mark.parametrize("place", [0, 4, 8, 11])
def test_a_damaged_record_is_found(tmp_path: Path, place: int) -> None:
    """In its checksum, its length, or its bytes."""
    log = opened(tmp_path)
    (at,) = log.append([b"data"])
    path = log.path(0)
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 1
    path.write_bytes(damaged)

    with pytest.raises(LogCorruptError, match="the file is damaged"):
        log.read(*at, 4)
    log.close()


def test_a_second_pool_on_the_folder_is_refused(tmp_path: Path) -> None:
    log = opened(tmp_path)
    with pytest.raises(StoreError, match="another pool is running"):
        opened(tmp_path)
    log.close()
    opened(tmp_path).close()


def test_appending_needs_the_claim(tmp_path: Path) -> None:
    log = ResultLog(tmp_path / "results")
    with pytest.raises(RuntimeError, match="claim"):
        log.append([b"data"])
    with pytest.raises(RuntimeError, match="claim"):
        log.sync()


@settings(max_examples=25, deadline=None)
@given(groups=st.lists(st.lists(st.binary(max_size=50), max_size=5), max_size=5))
def test_any_payloads_come_back(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[bytes]]
) -> None:
    log = opened(tmp_path_factory.mktemp("log"), roll_bytes=64)
    written = [
        (at, data) for group in groups for at, data in zip(log.append(group), group, strict=True)
    ]
    log.sync()

    assert all(log.read(*at, len(data)) == data for at, data in written)
    log.close()
