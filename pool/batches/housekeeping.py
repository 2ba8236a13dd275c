"""Removing what nobody may ask for any more."""

from __future__ import annotations

from pool.store import Store
from pool.store.files import any_expired, take_expired_files
from pool.store.jobs import forget_blocks, old_direct_blocks

_BLOCKS_AT_A_TIME = 999


def remove_expired_files(store: Store, now: float) -> None:
    """Forget files whose time is over, then remove their objects."""
    with store.database.read() as connection:
        if not any_expired(connection, now):
            return
    with store.database.write() as connection:
        objects = take_expired_files(connection, now)
    for name in objects:
        store.objects.delete(name)


def remove_direct_blocks(store: Store, before: float) -> None:
    """Remove the blocks of direct requests that are over and began before then."""
    with store.database.read() as connection:
        found = old_direct_blocks(connection, before, _BLOCKS_AT_A_TIME)
    for name in found:
        store.objects.delete(name)
    if found:
        with store.database.write() as connection:
            forget_blocks(connection, found)
