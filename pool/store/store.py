"""The store: everything that a pool keeps, under one folder.

``DIR/inferpool.db`` is the database, ``DIR/results`` the result log, ``DIR/objects`` the objects.
"""

from __future__ import annotations

from pathlib import Path

from pool.accounts import Account
from pool.store.accounts import account_by_token
from pool.store.database import Database
from pool.store.objects import Objects
from pool.store.openjobs import block_object, job_opened
from pool.store.resultlog import ROLL_BYTES, ResultLog
from shares.board.events import JobOpened


class Store:
    """Database, result log and objects of one pool. Safe from several threads.

    Commands open it beside a running pool; only ``recover`` claims the result log.
    """

    def __init__(self, folder: Path, database: Database, log: ResultLog, objects: Objects) -> None:
        self.folder = folder
        self.database = database
        self.log = log
        self.objects = objects

    @classmethod
    def open(cls, folder: Path, *, durable: bool = True, roll_bytes: int = ROLL_BYTES) -> Store:
        """Open the store of a pool, making what is missing.

        ``durable=False`` waits for no disk (simulations). Raises ``StoreError`` when a newer
        inferpool has written it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        database = Database.open(folder / "inferpool.db", durable=durable)
        log = ResultLog(folder / "results", roll_bytes=roll_bytes, durable=durable)
        return cls(folder, database, log, Objects(folder / "objects", durable=durable))

    def close(self) -> None:
        """Close every file and give up the claim on the result log."""
        self.log.close()
        self.database.close()

    def account_by_token(self, token: str) -> Account | None:
        """The open account that this token opens."""
        with self.database.read() as connection:
            return account_by_token(connection, token)

    def job_opened(self, job: int, at: float) -> JobOpened:
        """The event for a job whose price is reserved and whose blocks are stored."""
        with self.database.read() as connection:
            return job_opened(connection, job, at)

    def block_path(self, job: int, block: int) -> Path:
        """A file of this machine that holds a block's rows."""
        with self.database.read() as connection:
            return self.objects.local_path(block_object(connection, job, block))
