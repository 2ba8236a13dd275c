"""A far side for tests of payouts: it remembers what it was handed, and answers as told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pool.payouts.carrier import Answer, NotTaken, Taken, Unknown
from pool.payouts.rounds import Terms
from pool.store import Store
from pool.store.accounts import create_account
from pool.store.ledger import balances, post
from pool.store.payees import set_payout_address
from pool.store.payouts import STATES, Payout, list_payouts
from shares.money import posting

DAY = 86_400.0
TERMS = Terms(kind="text", minimum=100)


@dataclass
class Bank:
    """Takes payouts. ``answers``: {account: what it says instead}; ``tells`` whether it knows."""

    name: str = "bank"
    kind: str = ""
    together: bool = False
    tells: bool = True
    remembers: bool = True
    handed: Counter[str] = field(default_factory=Counter)  # keys, however it answered
    taken: dict[str, tuple[str, int]] = field(default_factory=dict)  # {key: (account, units)}
    answers: dict[str, Answer] = field(default_factory=dict)

    def submit(self, payouts: Sequence[Payout]) -> list[Answer]:
        return [self._take(payout) for payout in payouts]

    def _take(self, payout: Payout) -> Answer:
        self.handed[payout.key] += 1
        answer = self.answers.get(payout.account, Taken(f"ref-{payout.id}"))
        if not isinstance(answer, NotTaken):
            self.taken[payout.key] = (payout.account, payout.units)
        return answer

    def look_up(self, payout: Payout) -> Answer:
        if not self.remembers:
            return Unknown("nobody can say")
        if payout.key in self.taken:
            return Taken(f"ref-{payout.id}", final=True)
        return NotTaken("never heard of it", again=True)

    def received(self) -> Counter[str]:
        """Units by account."""
        found: Counter[str] = Counter()
        for account, units in self.taken.values():
            found[account] += units
        return found


def miner(store: Store, name: str, units: int, address: str | None = "IBAN 1") -> None:
    """A miner with so much to be paid out."""
    create_account(store.database, name, "miner", 1.0)
    if address is not None:
        set_payout_address(store.database, name, "text", address, 2.0, hold_seconds=DAY)
    earn(store, name, units)


def earn(store: Store, name: str, units: int) -> None:
    """So many units more become available."""
    entries = ((posting.EXTERNAL, -units), (posting.available(name), units))
    with store.database.write() as connection:
        number = sum(balances(connection).values()) + len(balances(connection))
        has = balances(connection).get(posting.EXTERNAL, 0)
        post(connection, "earned", f"{name}:{number}:{has}", entries, 3.0)


def units_of(store: Store) -> dict[str, int]:
    """Every balance that is not 0."""
    with store.database.read() as connection:
        return {code: units for code, units in balances(connection).items() if units}


def states_of(store: Store) -> dict[str, str]:
    """{account: the state of its last payout}."""
    return {payout.account: payout.state for payout in payouts_in(store)}


def payouts_in(store: Store) -> list[Payout]:
    with store.database.read() as connection:
        return list_payouts(connection, STATES, 0, 10_000)
