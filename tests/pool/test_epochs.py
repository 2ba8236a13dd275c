"""Epochs: keys that were fixed long before, and go on after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from pool.epochs import Epochs
from pool.store import Store
from pool.store.schema import chain
from shares.policy import Policy
from shares.trust.epochkeys import commitment, key_at, leads_to, link


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path)
    yield store
    store.close()


def epochs_of(store: Store, policy: Policy | None = None) -> Epochs:
    return Epochs(store, 100.0, policy or Policy(), length=3)


def test_an_epoch_lasts_through_a_restart(store: Store) -> None:
    """Its key was promised."""
    first, ends = epochs_of(store).current(1000.0)
    again, still = epochs_of(store).current(1099.0)

    assert (again.epoch, again.key, still) == (first.epoch, first.key, ends) == (1, first.key, 1100)


def test_keys_lead_back_to_an_anchor_that_was_public(store: Store) -> None:
    """The pool chose them all when it made the chain, and a used-up one is followed by another."""
    epochs = epochs_of(store)
    keys = [epochs.current(1000.0 + 100 * n)[0].key for n in range(5)]
    with store.database.read() as connection:
        first, second = connection.execute(select(chain).order_by(chain.c.id)).all()

    assert [leads_to(key, n + 1, first.anchor, 0) for n, key in enumerate(keys[:3])] == [True] * 3
    assert [leads_to(key, n + 1, second.anchor, 0) for n, key in enumerate(keys[3:])] == [True] * 2
    assert not leads_to(keys[1], 1, first.anchor, 0)
    assert leads_to(keys[2], 3, keys[0], 1)
    assert keys[2] == first.seed
    assert len({first.anchor, second.anchor, *keys}) == 7


def test_other_numbers_open_another_epoch(store: Store) -> None:
    """What parts are sampled by is published with the epoch."""
    epochs_of(store).current(1000.0)
    changed, _ = epochs_of(store, Policy(kappa=3)).current(1001.0)

    assert changed.epoch == 2


def test_what_is_promised_of_a_key_tells_nothing_of_the_one_before() -> None:
    """The hash that is published of the next key is not the present one."""
    seed = bytes(32)

    assert commitment(key_at(seed, 5, 4)) != key_at(seed, 5, 3)
    assert link(key_at(seed, 5, 4)) == key_at(seed, 5, 3)
    with pytest.raises(ValueError, match="none with number 6"):
        key_at(seed, 5, 6)
