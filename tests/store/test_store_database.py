"""The database: one writer at a time over all processes, and nothing lost or half-written."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError, OperationalError

from pool.store import Database, StoreError
from pool.store.database import meta_value, set_meta
from pool.store.schema import meta, part


@pytest.fixture
def database(tmp_path: Path):
    opened = Database.open(tmp_path / "pool.db")
    yield opened
    opened.close()


def pragma(database: Database, name: str) -> object:
    with database.write() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def test_commits_wait_for_the_disk_and_foreign_keys_hold(database: Database) -> None:
    assert pragma(database, "journal_mode") == "wal"
    assert pragma(database, "synchronous") == 2
    assert pragma(database, "foreign_keys") == 1
    row = dict.fromkeys((column.name for column in part.columns), 0)
    row |= {
        "digests": b"",
        "digest": b"",
        "check_rows": b"",
        "referee_rows": b"",
        "over": b"",
        "works": b"",
    }
    row |= {"least": b""}
    with pytest.raises(IntegrityError, match="FOREIGN KEY"), database.write() as connection:
        connection.execute(insert(part).values(row))


def test_a_write_transaction_takes_the_lock_before_it_reads(database: Database) -> None:
    """What it reads cannot be changed by another process before it writes."""
    other = sqlite3.connect(database.path, timeout=0, isolation_level=None)
    with database.write() as connection:
        connection.execute(select(meta))
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.close()


def test_waiting_for_another_writer_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the other takes: longer than SQLite itself would wait."""
    monkeypatch.setattr("pool.store.database.BUSY_SECONDS", 0.01)
    database = Database.open(tmp_path / "pool.db")
    other = sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    waiting = threading.Event()
    monkeypatch.setattr(
        "pool.store.database._log",
        type("Log", (), {"warning": lambda *_args, **_facts: waiting.set()})(),
    )

    def release() -> None:
        waiting.wait(10)
        other.execute("COMMIT")

    releasing = threading.Thread(target=release)
    releasing.start()
    with database.write() as connection:
        set_meta(connection, "after", "1")
    releasing.join()
    other.close()
    database.close()

    assert waiting.is_set()


def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            set_meta(connection, "key", "1")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    with database.read() as connection:
        assert meta_value(connection, "key") is None


def test_threads_take_turns_at_writing(database: Database) -> None:
    def add() -> None:
        for _ in range(20):
            with database.write() as connection:
                count = int(meta_value(connection, "count") or 0)
                set_meta(connection, "count", str(count + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert meta_value(connection, "count") == "80"


def test_writing_inside_writing_is_refused(database: Database) -> None:
    with (
        database.write(),
        pytest.raises(RuntimeError, match="hand the connection on"),
        database.write(),
    ):
        pass


def test_a_read_sees_one_moment(database: Database) -> None:
    with database.read() as reading:
        assert meta_value(reading, "key") is None
        with database.write() as writing:
            set_meta(writing, "key", "1")
        assert meta_value(reading, "key") is None
    with database.read() as reading:
        assert meta_value(reading, "key") == "1"


def test_reading_connections_cannot_write(database: Database) -> None:
    with database.read() as connection, pytest.raises(OperationalError, match="readonly"):
        set_meta(connection, "key", "1")


def test_data_version_tells_of_others_only(database: Database) -> None:
    """Commands are a second writer; the pool's own commits are no news to it."""
    before = database.data_version()
    with database.write() as connection:
        set_meta(connection, "mine", "1")
    assert database.data_version() == before
    other = Database.open(database.path)
    with other.write() as connection:
        set_meta(connection, "theirs", "1")
    other.close()
    assert database.data_version() != before


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pool.db"
    database = Database.open(path)
    with database.write() as connection:
        set_meta(connection, "schema", "999")
    database.close()
    with pytest.raises(StoreError, match=r"schema version 999.*start the version that wrote it"):
        Database.open(path)
