"""A crash at every durable write: nothing is paid twice, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from far_side import DAY, TERMS, Bank, miner, payouts_in, units_of

from pool.payouts import rounds, sending
from pool.payouts.office import note_paid
from pool.payouts.rounds import pay_round
from pool.payouts.sending import look_up_due, send_due
from pool.store import Store
from pool.store.ledgeraudit import check_ledger
from pool.store.payouts import last_round

MINERS = {"alice": 1_000, "bob": 2_500, "dora": 333}


class Crash(BaseException):
    """The process dies here."""


class Fuse:
    """Blows at the nth passing of a crash point."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def __call__(self, name: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash(name)


def look(store: Store, bank: Bank, at: float) -> None:
    """What a running pool does now and then: an unfinished round first."""
    with store.database.read() as connection:
        _, closed = last_round(connection)
    if closed is None or closed < 0:
        pay_round(store.database, TERMS, at)
    look_up_due(store.database, bank, at)
    send_due(store.database, bank, at)


def run_to_the_end(store: Store, bank: Bank) -> None:
    for hour in range(8):
        look(store, bank, 10.0 + 3_600 * hour)


def passings(folder: Path, bank: Bank, patch: pytest.MonkeyPatch) -> int:
    """How many crash points a calm run passes."""
    names: list[str] = []
    for module in (rounds, sending):
        patch.setattr(module, "crash_point", names.append)
    store = Store.open(folder, durable=False)
    for name, units in MINERS.items():
        miner(store, name, units)
    look(store, bank, 10.0)
    store.close()
    assert set(names) == {"payout.before_commit", "payout.committed", "payout.handed_over"}
    return len(names)


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "as a whole"])
def test_a_crash_anywhere_pays_everybody_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    count = passings(tmp_path / "calm", Bank(together=together), monkeypatch)
    assert count > 10
    for nth in range(1, count + 1):
        bank = Bank(together=together)
        store = Store.open(tmp_path / f"{nth}", durable=False)
        for name, units in MINERS.items():
            miner(store, name, units)
        fuse = Fuse(nth)
        for module in (rounds, sending):
            monkeypatch.setattr(module, "crash_point", fuse)
        with pytest.raises(Crash):
            look(store, bank, 10.0)
        store.close()
        store = Store.open(tmp_path / f"{nth}", durable=False)
        run_to_the_end(store, bank)

        assert bank.received() == MINERS, nth
        assert max(bank.handed.values()) == 1, nth
        assert {code: u for code, u in units_of(store).items() if code != "external"} == {
            f"paid:{name}": units for name, units in MINERS.items()
        }
        with store.database.read() as connection:
            check_ledger(connection)
        store.close()


def test_who_cannot_be_asked_is_never_sent_to_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without evidence a payout stays where it is, and a person decides after a day."""
    bank = Bank(remembers=False)
    store = Store.open(tmp_path / "pool", durable=False)
    miner(store, "alice", 1_000)

    def die(name: str) -> None:
        if name == "payout.handed_over":
            raise Crash(name)

    monkeypatch.setattr(sending, "crash_point", die)
    with pytest.raises(Crash):
        look(store, bank, 10.0)
    for hour in range(24):
        look(store, bank, 11.0 + 3_600 * hour)
        (payout,) = payouts_in(store)
        assert payout.state == "submitting"
        assert units_of(store)["payout:alice"] == 1_000
    look(store, bank, 11.0 + DAY + 3_600)
    (payout,) = payouts_in(store)

    assert payout.state == "manual"
    assert "nobody knows" in str(payout.reason)
    assert bank.handed[payout.key] == 1
    note_paid(store.database, str(payout.id), 3 * DAY, "statement 7")
    assert units_of(store) == {"external": -1_000, "paid:alice": 1_000}
    store.close()
