"""Named moments at which a test can kill the pool, around every durable write.

``INFERPOOL_CRASH_AT="log.written"`` kills the process (SIGKILL: no handler, no flush) when it
passes that point; ``"log.written:7"`` when it passes it for the seventh time. Without the
variable a crash point costs one comparison.
"""

from __future__ import annotations

import os
import signal
from threading import Lock

VARIABLE = "INFERPOOL_CRASH_AT"

NAMES = frozenset(
    {
        # One commit group of the board (pool/store/commit.py).
        "log.before",
        "log.written",
        "log.synced",
        "store.begun",
        "store.before_commit",
        "store.committed",
        # The start (pool/store/recovery.py).
        "recovery.begun",
        "recovery.before_commit",
        "recovery.committed",
        "recovery.truncated",
        # Objects: inputs, blocks, outputs, model files (pool/store/objects.py).
        "object.before",
        "object.written",
        "object.synced",
        # Money (pool/settlement.py).
        "settlement.begun",
        "settlement.before_commit",
        "settlement.committed",
        # Payouts (pool/payouts/).
        "payout.before_commit",
        "payout.committed",
        "payout.handed_over",
        # Customers' batches (pool/batches/).
        "upload.before_commit",
        "upload.committed",
        "intake.packed",
        "intake.before_commit",
        "intake.committed",
        "output.written",
        "output.stored",
        "output.before_commit",
        "output.committed",
    }
)


def _parse(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    name, _, nth = text.partition(":")
    if name not in NAMES:
        raise ValueError(
            f"{VARIABLE}={text!r}: there is no crash point {name!r}; "
            f"use one of {', '.join(sorted(NAMES))}"
        )
    if nth and not (nth.isdecimal() and int(nth) > 0):
        raise ValueError(f"{VARIABLE}={text!r}: after the colon write which passing, from 1")
    return name, int(nth or 1)


_armed = _parse(os.environ.get(VARIABLE, ""))
_passed = 0
_lock = Lock()


def crash_point(name: str) -> None:
    """End the process here, if that was asked for. ``name`` is one of ``NAMES``."""
    if _armed is None:
        return
    _pass(name)


def _pass(name: str) -> None:
    global _passed
    if name not in NAMES:
        raise ValueError(f"crash point {name!r} is not in pool.crashpoints.NAMES: add it there")
    if _armed is None or name != _armed[0]:
        return
    with _lock:
        _passed += 1
        if _passed == _armed[1]:
            os.kill(os.getpid(), signal.SIGKILL)
