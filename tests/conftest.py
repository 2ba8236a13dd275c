"""What every test has around it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog


@pytest.fixture(autouse=True)
def logs_end_with_the_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that a test calls sets up logging to a stream that ends with the test."""
    before, configure = structlog.get_config(), structlog.configure

    def uncached(**how: Any) -> None:
        configure(**{**how, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", uncached)
    for hook in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, hook, getattr(sys, hook))
    structlog.contextvars.clear_contextvars()
    yield
    logging.captureWarnings(False)
    for handler in list(logging.root.handlers):
        if type(handler).__module__ == "stratum.logs":
            logging.root.removeHandler(handler)
    configure(**before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole pools first: they wait more than they compute, and each takes long. At the end one
    worker would run them alone."""
    items.sort(key=lambda item: "system" not in item.path.parts)
