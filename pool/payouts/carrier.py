"""What carries payouts to the far side, and what it may answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pool.store.payouts import Payout


@dataclass(frozen=True, slots=True)
class Taken:
    """The far side has the payout. ``final``: and the miner has the money."""

    reference: str | None = None  # the far side's name for it
    final: bool = False
    document: str | None = None  # the object that says to pay it


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Certain: the far side has not taken the payout. ``again``: it may be sent once more."""

    reason: str
    again: bool


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can say: the payout may have been taken."""

    reason: str


Answer = Taken | NotTaken | Unknown


class Carrier(Protocol):
    """Carries payouts. Its methods block: they are called in threads, and raise nothing."""

    name: str  # as the settings call it
    kind: str  # of address that it pays to; empty: any
    together: bool  # it takes a round's payouts as a whole
    tells: bool  # asked later, it says when a miner has the money; else a person does

    def submit(self, payouts: Sequence[Payout]) -> list[Answer]:
        """Hand payouts of one round over, each once; an answer for each."""

    def look_up(self, payout: Payout) -> Answer:
        """What became of a payout that was perhaps, or surely, handed over."""
