"""A customer side for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from customer_side import CONFIG, Served, open_customer_side

from pool.config import Config


@pytest.fixture
def config() -> Config:
    """The settings of ``served``."""
    return CONFIG


@pytest.fixture
def processes() -> bool:
    """Whether ``served`` has real worker processes: starting them takes most of a test."""
    return False


@pytest.fixture
async def served(tmp_path: Path, config: Config, processes: bool) -> AsyncIterator[Served]:
    """A customer side that serves on a free port of this machine."""
    async with open_customer_side(tmp_path / "pool", config, processes=processes) as side:
        yield side
