"""Sampling keys: one secret key an epoch, promised before and published after."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy import func, insert, select, update

from pool.store import Store, schema
from shares.board.events import EpochOpened
from shares.policy import Policy
from shares.trust.epochkeys import KEY_BYTES, key_at

CHAIN_LENGTH = 1 << 15  # more than three years of epochs of an hour


class Epochs:
    """Opens epochs and closes them.

    ``new_seed`` gives the 32 secret bytes of a chain of ``length`` keys (a simulation's are no
    secret). ``policy``: what the parts of an epoch are sampled by; one whose numbers were changed
    opens the next epoch.
    """

    def __init__(
        self,
        store: Store,
        seconds: float,
        policy: Policy,
        new_seed: Callable[[], bytes] = lambda: secrets.token_bytes(KEY_BYTES),
        length: int = CHAIN_LENGTH,
    ) -> None:
        """An epoch lasts ``seconds``."""
        self._store = store
        self._seconds = seconds
        self._terms = {
            "policy": policy.version,
            "kappa": policy.kappa,
            "check_floor_ppm": policy.check_floor_ppm,
            "referee_floor_ppm": policy.referee_floor_ppm,
            "neighbour_floor_ppm": policy.neighbour_floor_ppm,
        }
        self._new_seed = new_seed
        self._length = length

    def current(self, now: float) -> tuple[EpochOpened, float]:
        """The epoch that ``now`` falls in, and when it ends; opens the next one when it is time.

        An epoch that a restart interrupted goes on, so that its key stays the one that was
        promised.
        """
        epoch = schema.epoch
        with self._store.database.write() as connection:
            row = connection.execute(select(epoch).where(epoch.c.closes.is_(None))).first()
            if row is not None:
                ends = row.opens + self._seconds
                if now < ends and all(row._mapping[name] == n for name, n in self._terms.items()):
                    return EpochOpened(at=now, epoch=row.id, key=row.key), ends
                connection.execute(update(epoch).where(epoch.c.id == row.id).values(closes=now))
            number = connection.scalar(select(func.coalesce(func.max(epoch.c.id), 0))) or 0
            chain, place, key = self._next_key(connection)
            connection.execute(
                insert(epoch).values(
                    id=number + 1, chain=chain, place=place, key=key, opens=now, **self._terms
                )
            )
        return EpochOpened(at=now, epoch=number + 1, key=key), now + self._seconds

    def _next_key(self, connection: sa.Connection) -> tuple[int, int, bytes]:
        """The next key of the chain, or the first of a new one: (chain, place, key)."""
        chain, epoch = schema.chain, schema.epoch
        row = connection.execute(select(chain).order_by(chain.c.id.desc()).limit(1)).first()
        if row is not None:
            used = select(func.count()).select_from(epoch).where(epoch.c.chain == row.id)
            place = (connection.scalar(used) or 0) + 1
            if place <= row.length:
                return row.id, place, key_at(row.seed, row.length, place)
        number = 1 if row is None else row.id + 1
        seed = self._new_seed()
        connection.execute(
            insert(chain).values(
                id=number, seed=seed, length=self._length, anchor=key_at(seed, self._length, 0)
            )
        )
        return number, 1, key_at(seed, self._length, 1)
