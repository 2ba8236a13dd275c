"""Sampling keys: one secret key an epoch, its hash published before, the key after."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import sha256

from sqlalchemy import func, insert, select, update

from pool.store import Store
from pool.store.schema import epoch as epoch_table
from shares.board.events import EpochOpened


class Epochs:
    """Opens epochs and closes them. ``new_key`` gives 32 secret bytes (a simulation's are not)."""

    def __init__(
        self,
        store: Store,
        seconds: float,
        new_key: Callable[[], bytes] = lambda: secrets.token_bytes(32),
    ) -> None:
        """An epoch lasts ``seconds``."""
        self._store = store
        self._seconds = seconds
        self._new_key = new_key

    def current(self, now: float) -> tuple[EpochOpened, float]:
        """The epoch that ``now`` falls in, and when it ends; opens the next one when it is time.

        An epoch that a restart interrupted goes on, so that its key stays the one that was
        promised.
        """
        with self._store.database.write() as connection:
            row = connection.execute(
                select(epoch_table).where(epoch_table.c.closes.is_(None))
            ).first()
            if row is not None and row.opens + self._seconds > now:
                return (
                    EpochOpened(at=now, epoch=row.id, key=row.key),
                    row.opens + self._seconds,
                )
            if row is not None:
                connection.execute(
                    update(epoch_table).where(epoch_table.c.id == row.id).values(closes=now)
                )
            key = self._new_key()
            number = connection.scalar(select(func.coalesce(func.max(epoch_table.c.id), 0) + 1))
            connection.execute(
                insert(epoch_table).values(
                    id=number, key_hash=sha256(key).hexdigest(), key=key, opens=now
                )
            )
        assert number is not None
        return EpochOpened(at=now, epoch=number, key=key), now + self._seconds
