"""What the referee computes next: all in turn, so that a flood holds up its own shares only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pool.computed import Computed
from shares.board.effects import RefereeWanted

Answer = Callable[[tuple[int, ...], Computed], None]
Wanted = Callable[[RefereeWanted, tuple[int, ...]], bool]


@dataclass(slots=True, eq=False)
class Run:
    """Some rows of an order, and who gets their results if they are still wanted."""

    order: RefereeWanted
    rows: tuple[int, ...]
    answer: Answer
    wanted: Wanted
    failures: int = 0  # attempts that came to nothing


@dataclass(slots=True)
class _Party:
    """Whoever has turns: a network block, or in it an account."""

    served: float = 0.0  # rows, its virtual time
    urgent: deque[Run] = field(default_factory=deque)
    patient: deque[Run] = field(default_factory=deque)


_OWN = "account:"  # of orders that are for no account
_OWN_PART = 16  # the pool's own wishes get one row in so many while others wait


class RefereeQueue:
    """Runs by network block and, in each, by account: whoever was given least is next.

    An account without a block stands for itself. Within an account disputes come first. What the
    pool wants for itself (no account: appeals, holds of closed accounts) is computed when nothing
    else waits, and of all that is computed while something does it is a sixteenth, so that no
    flood holds it up for ever. Somebody new begins where the least served of those that wait
    stands, so that nobody saves turns up.
    """

    def __init__(self) -> None:
        self._others_served = 0  # rows, since the pool's own wishes had a turn
        self._groups: dict[str, dict[str, _Party]] = {}  # {block: {account: what waits for it}}
        self._served: dict[str, float] = {}  # {block: rows}

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return sum(
            len(run.rows)
            for parties in self._groups.values()
            for party in parties.values()
            for queue in (party.urgent, party.patient)
            for run in queue
        )

    def put(self, run: Run, *, last: bool = False) -> None:
        """Let it wait; ``last``: behind everything else of its account."""
        order = run.order
        group = order.group or f"account:{order.account}"
        if group not in self._groups:
            served = (rows for name, rows in self._served.items() if name != _OWN)
            self._served[group] = min(served, default=0.0)
            self._groups[group] = {}
        parties = self._groups[group]
        if order.account not in parties:
            least = min((party.served for party in parties.values()), default=0.0)
            parties[order.account] = _Party(least)
        party = parties[order.account]
        (party.urgent if order.urgent and not last else party.patient).append(run)

    def take(self) -> Run | None:
        """The next run, or ``None``."""
        if not self._groups:
            return None
        others = [group for group in self._groups if group != _OWN]
        group = min(others, key=self._served.__getitem__, default=_OWN)
        if _OWN in self._groups and self._others_served >= self._own_turn():
            group = _OWN
        parties = self._groups[group]
        account = min(parties, key=lambda name: parties[name].served)
        party = parties[account]
        run = (party.urgent or party.patient).popleft()
        party.served += len(run.rows)
        self._served[group] += len(run.rows)
        if group == _OWN:
            self._others_served = 0
        elif _OWN in self._groups:
            self._others_served += len(run.rows)
        if not (party.urgent or party.patient):
            del parties[account]
        if not parties:
            del self._groups[group], self._served[group]
        return run

    def _own_turn(self) -> int:
        """Rows of others after which the next of the pool's own runs is due."""
        party = next(iter(self._groups[_OWN].values()))
        return (_OWN_PART - 1) * len((party.urgent or party.patient)[0].rows)
