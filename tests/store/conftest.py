from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bookmaker import Bookmaker

from pool.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An open, claimed store that waits for no disk."""
    opened = Store.open(tmp_path / "pool", durable=False)
    opened.claim()
    yield opened
    opened.close()


@pytest.fixture
def books(store: Store) -> Bookmaker:
    """A customer with a million units, and ways to write facts."""
    books = Bookmaker(store)
    books.customer()
    return books
