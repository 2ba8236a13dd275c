"""Logging of a pool: for a person on a terminal, JSON otherwise. Always to stderr."""

from __future__ import annotations

import sys

from stratum.logs import Sinks, configure

# Every logger of a pool: what ``inferpool log-level --of`` may name.
LOGGERS = (
    "libraries",
    "pool",
    "pool.appeals",
    "pool.aside",
    "pool.batches",
    "pool.closedholds",
    "pool.comparisons",
    "pool.core",
    "pool.court",
    "pool.direct",
    "pool.gateway",
    "pool.http",
    "pool.ledgerwatch",
    "pool.loglevels",
    "pool.notices",
    "pool.payouts",
    "pool.quarantines",
    "pool.referee",
    "pool.settler",
    "pool.shares",
    "pool.store",
    "pool.webhooks",
    "process",
)


def configure_logs(level: str, *, lasting: bool = True) -> Sinks:
    """Set structlog up for this process. ``level``: debug, info, warning or error.

    ``lasting``: loggers keep what they find now. Returns what changes the levels.
    """
    return configure(level, sys.stderr, terminal=sys.stderr.isatty(), lasting=lasting)
