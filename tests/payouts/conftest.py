from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pool.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An open store that waits for no disk."""
    opened = Store.open(tmp_path / "pool", durable=False)
    yield opened
    opened.close()
