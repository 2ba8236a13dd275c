"""The store: everything that a pool keeps, under one folder.

``DIR/inferpool.db`` is the database, ``DIR/results`` the result log, ``DIR/objects`` the objects,
``DIR/receipts.key`` the key that signs roots.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pool.accounts import Account
from pool.store.accounts import account_by_token
from pool.store.blockfile import BlockFile
from pool.store.database import Database, StoreError
from pool.store.objects import Objects
from pool.store.openjobs import block_object, job_opened
from pool.store.receipts import roots_after
from pool.store.recovery import BlockArrays, claim_log, recover
from pool.store.resultlog import ROLL_BYTES, ResultLog
from pool.store.signing import KEY_FILE, Signer, make_key, read_key
from shares.board.events import JobOpened
from shares.board.snapshot import Snapshot


class Store:
    """Database, result log and objects of one pool. Safe from several threads.

    Commands open it beside a running pool; only the pool claims it.
    """

    def __init__(
        self, folder: Path, database: Database, log: ResultLog, objects: Objects, signer: Signer
    ) -> None:
        self.folder = folder
        self.database = database
        self.log = log
        self.objects = objects
        self.signer = signer

    @classmethod
    def open(cls, folder: Path, *, durable: bool = True, roll_bytes: int = ROLL_BYTES) -> Store:
        """Open the store of a pool, making what is missing.

        ``durable=False`` waits for no disk (simulations). Raises ``StoreError`` when a newer
        inferpool has written it, or when
        the key that signed the chain of roots is missing.
        """
        folder.mkdir(parents=True, exist_ok=True)
        database = Database.open(folder / "inferpool.db", durable=durable)
        log = ResultLog(folder / "results", roll_bytes=roll_bytes, durable=durable)
        objects = Objects(folder / "objects", durable=durable)
        try:
            signer = _signer(folder, database)
        except BaseException:
            database.close()
            raise
        return cls(folder, database, log, objects, signer)

    def close(self) -> None:
        """Close every file and give up the claim on the result log."""
        self.log.close()
        self.database.close()

    def claim(self) -> int:
        """Become the one pool that runs on this folder, and cut the result log back.

        Returns the bytes that were cut off. Raises ``StoreError`` when another pool is running
        here, or the result log does not hold what the database names.
        """
        return claim_log(self.database, self.log)

    def recover(self, block_arrays: BlockArrays | None = None) -> Snapshot:
        """Begin a new boot: claim, and read everything that is open for the board.

        ``block_arrays`` (job, block, object) gives a block's lengths int32 [rows] and works int64
        [rows]; by default they are read from the block's object.
        """
        self.claim()
        return recover(self.database, block_arrays or self._block_arrays)

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

    def has_block(self, job: int, block: int) -> bool:
        """Whether a block's rows are there: those of direct requests are removed after a while."""
        try:
            return self.block_path(job, block).exists()
        except StoreError:
            return False

    def _block_arrays(
        self, job: int, block: int, name: str
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        with BlockFile(self.objects.local_path(name)) as rows:
            return rows.lengths.astype(np.int32), rows.works.astype(np.int64)


def _signer(folder: Path, database: Database) -> Signer:
    path = folder / KEY_FILE
    if not path.exists():
        with database.read() as connection:
            signed = bool(roots_after(connection, 0, 1))
        if signed:
            raise StoreError(
                f"{path} is missing, and roots are signed with it: put it back from a backup; "
                "a new key would not be the one that rigs know"
            )
        make_key(path)
    try:
        return read_key(path)
    except ValueError:
        raise StoreError(f"{path} holds no key (64 hex digits): restore it") from None
