"""One lively pool and one browser for all journeys of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lively import CHROMIUM, Lively, chromium, lively_pool
from playwright.sync_api import Browser, expect

expect.set_options(timeout=30_000)  # a machine may be busy with other tests


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: .ci/system-programs (Debian's chromium)")
    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def lively(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Lively]:
    """A pool with two honest rigs; asked for after the browser, so that it does not start alone."""
    with lively_pool(tmp_path_factory.mktemp("lively") / "pool") as found:
        found.rig("alice")
        found.rig("bob", 900.0)
        yield found
