"""Taking turns: what one customer asks for never keeps the others waiting for all of it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class FairTurns:
    """At most ``slots`` turns at a time, and at most ``each`` of one account.

    Who waits is served account by account in rotation, each account's own in the order in which
    they came.
    """

    def __init__(self, slots: int, each: int) -> None:
        self._slots = slots
        self._each = each
        self._taken: dict[str, int] = {}  # {account: turns it has}
        self._waiting: dict[str, deque[trio.Event]] = {}  # {account: who waits}, the next first

    @asynccontextmanager
    async def turn(self, account: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it for as long as the block lasts."""
        ticket = trio.Event()
        self._waiting.setdefault(account, deque()).append(ticket)
        self._serve()
        try:
            await ticket.wait()
            yield
        finally:
            if ticket.is_set():
                self._give_back(account)
            else:
                self._leave(account, ticket)
            self._serve()

    def _serve(self) -> None:
        while sum(self._taken.values()) < self._slots:
            account = next(
                (name for name in self._waiting if self._taken.get(name, 0) < self._each), None
            )
            if account is None:
                return
            ticket = self._waiting[account][0]
            self._leave(account, ticket)
            if account in self._waiting:  # its next one comes after everybody else's
                self._waiting[account] = self._waiting.pop(account)
            self._taken[account] = self._taken.get(account, 0) + 1
            ticket.set()

    def _leave(self, account: str, ticket: trio.Event) -> None:
        self._waiting[account].remove(ticket)
        if not self._waiting[account]:
            del self._waiting[account]

    def _give_back(self, account: str) -> None:
        self._taken[account] -= 1
        if self._taken[account] == 0:
            del self._taken[account]
