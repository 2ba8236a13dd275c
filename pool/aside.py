"""Accounts set aside: whose message made the board fail waits a while, so that a restart can hold.

The event is kept beside it for replay. It is the pool's fault, and costs the rig nothing but
time.
"""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path

import structlog

from shares.board.events import Event

_log = structlog.get_logger("pool.aside")

ASIDE_SECONDS = 600.0


class SetAside:
    """The list, kept in the pool's folder: it must outlive the process that fails."""

    def __init__(self, folder: Path) -> None:
        """``folder``: the pool's."""
        self._list = folder / "set-aside.json"
        self._event = folder / "failed-event.pickle"
        self._until: dict[str, float] = self._read()  # {account: seconds since the epoch}

    def keep(self, event: Event, sender: str) -> None:
        """The board failed on ``event`` of the account ``sender`` ("": of the pool itself).

        The whole account waits: its next rig would only send the same.
        """
        self._event.write_bytes(pickle.dumps((event, sender)))
        if sender:
            self._until[sender] = time.time() + ASIDE_SECONDS
            whole = self._list.with_suffix(".new")
            whole.write_text(json.dumps(self._until))
            whole.replace(self._list)
        _log.critical(
            "the board failed",
            event_type=type(event).__name__,
            account=sender,
            kept=str(self._event),
        )

    def until(self, account: str) -> float:
        """Until when an account's rigs have to wait; 0 when they may come."""
        at = self._until.get(account, 0.0)
        return at if at > time.time() else 0.0

    def _read(self) -> dict[str, float]:
        try:
            found = json.loads(self._list.read_text())
        except FileNotFoundError:
            return {}
        except ValueError:
            _log.warning("the list of rigs set aside is damaged", file=str(self._list))
            return {}
        now = time.time()
        return {user: at for user, at in found.items() if at > now}
