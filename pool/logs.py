"""Logging: one event, one line; for a person on a terminal, JSON otherwise. Always to stderr."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor


def configure_logs(level: str, *, lasting: bool = True) -> None:
    """Set structlog up for this process. ``level``: debug, info, warning or error.

    ``lasting``: loggers keep what they find now.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    processors: list[Processor]
    if sys.stderr.isatty():
        processors = [*shared, structlog.dev.ConsoleRenderer()]
    else:
        processors = [
            *shared,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=lasting,
    )
