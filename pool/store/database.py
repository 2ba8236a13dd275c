"""The SQLite database: one writing connection, many reading ones, safe from several threads.

SQLite allows one writer at a time, over all processes. Every write transaction begins with
``BEGIN IMMEDIATE``, so that what it reads cannot change before it writes, and waits there for
another writer (a command of the operator's) for as long as it takes.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
import structlog
from sqlalchemy import event
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.pool import QueuePool

from pool.store.schema import meta, metadata

SCHEMA_VERSION = 10
BUSY_SECONDS = 10.0

_log = structlog.get_logger("pool.store")


class StoreError(Exception):
    """The store cannot be used as it is; the text says what to do."""


class Database:
    """One SQLite file. All methods may be called from any thread.

    ``durable=False`` leaves out the waiting for the disk. It is for simulations: what was
    committed may then be lost with the machine's power, never with the process.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.path = path
        self._durable = durable
        self._lock = threading.Lock()
        self._writer_thread: int | None = None
        self._write_engine = self._engine(path, writing=True)
        self._read_engine = self._engine(path, writing=False)
        self._writer: sa.Connection | None = None

    @classmethod
    def open(cls, path: Path, *, durable: bool = True) -> Database:
        """Open the file, creating it and its tables where they are missing.

        Raises ``StoreError`` when it was written by a newer version of inferpool.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        database = cls(path, durable=durable)
        try:
            with database.write() as connection:
                _require_schema(connection, path)
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One write transaction: committed when the block ends, rolled back when it raises.

        Threads take turns. Raises ``RuntimeError`` inside another ``write`` of the same thread.
        """
        thread = threading.get_ident()
        if self._writer_thread == thread:
            raise RuntimeError("Database.write() inside Database.write(): hand the connection on")
        with self._lock:
            self._writer_thread = thread
            try:
                if self._writer is None:
                    self._writer = self._write_engine.connect()
                with self._writer.begin():
                    yield self._writer
            finally:
                self._writer_thread = None

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One read transaction: everything read in it is of the same moment."""
        with self._read_engine.connect() as connection, connection.begin():
            yield connection

    def data_version(self) -> int:
        """A number that changes when another process has committed to this file.

        What this process commits through ``write`` does not change it.
        """
        with self._lock:
            if self._writer is None:
                self._writer = self._write_engine.connect()
            driver = cast(sqlite3.Connection, self._writer.connection.driver_connection)
            (version,) = driver.execute("PRAGMA data_version").fetchone()
            return int(version)

    def close(self) -> None:
        """Close every connection. The database may not be used afterwards."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._write_engine.dispose()
            self._read_engine.dispose()

    def _engine(self, path: Path, *, writing: bool) -> sa.Engine:
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            poolclass=QueuePool,
            pool_size=1 if writing else 8,
            max_overflow=0 if writing else 24,
            connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
        )

        def on_connect(connection: sqlite3.Connection, _: object) -> None:
            # The driver's own idea of transactions is switched off: BEGIN is sent below.
            connection.isolation_level = None
            connection.execute("PRAGMA foreign_keys=ON")
            if not writing:
                connection.execute("PRAGMA query_only=ON")
                return
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            if mode != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={'FULL' if self._durable else 'OFF'}")
            connection.execute("PRAGMA cache_size=-65536")

        def on_begin(connection: sa.Connection) -> None:
            if writing:
                _begin_immediate(connection, path)
            else:
                connection.exec_driver_sql("BEGIN")

        event.listen(engine, "connect", on_connect)
        event.listen(engine, "begin", on_begin)
        return engine


def upsert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, replacing those that have the same primary key."""
    if not rows:
        return
    connection.execute(_upsert_of(table, tuple(rows[0])), rows)


@cache
def _upsert_of(table: sa.Table, names: tuple[str, ...]) -> sa.Insert:
    # Kept, because making it takes longer than running it.
    key = [column.name for column in table.primary_key]
    statement = sqlite_insert(table)
    replaced = {name: statement.excluded[name] for name in names if name not in key}
    return statement.on_conflict_do_update(index_elements=key, set_=replaced)


def meta_value(connection: sa.Connection, key: str) -> str | None:
    """Read one value of the table ``meta``; ``None`` when it was never set."""
    return connection.scalar(sa.select(meta.c.value).where(meta.c.key == key))


def set_meta(connection: sa.Connection, key: str, value: str) -> None:
    """Write one value of the table ``meta``."""
    upsert(connection, meta, [{"key": key, "value": value}])


def _begin_immediate(connection: sa.Connection, path: Path) -> None:
    driver = cast(sqlite3.Connection, connection.connection.driver_connection)
    waited = 0.0
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            waited += BUSY_SECONDS
            _log.warning("waiting for another writer", path=str(path), seconds=waited)
        else:
            return


def _require_schema(connection: sa.Connection, path: Path) -> None:
    if not sa.inspect(connection).has_table(meta.name):
        metadata.create_all(connection)
        set_meta(connection, "schema", str(SCHEMA_VERSION))
        return
    found = int(meta_value(connection, "schema") or 0)
    if found > SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {found}; this inferpool knows up to {SCHEMA_VERSION}: "
            "start the version that wrote it, or a newer one"
        )
    if found < SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {found}, older than {SCHEMA_VERSION}, "
            "and this inferpool cannot convert it: start a pool in a new folder"
        )
