"""Every unit conserved: random histories of jobs, shares, verdicts, checks, offences and releases.

A small model of the board makes only facts that the real one could make. After every step the
ledger is added up again; at the end everything is closed, and each job's price is divided exactly.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from bookmaker import Bookmaker
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pool.settlement import SettlementPolicy
from pool.store import Store
from pool.store.escrow import deposit
from pool.store.ledgeraudit import check_ledger
from pool.store.releases import ReleasePolicy
from pool.store.reserve import spendable_reserve
from shares.board.effects import CreditEarned, HeldForfeited, RefereePaid

RIGS = ("alice.a", "bob.b", "mallory.m")
CUSTOMERS = ("carol", "dave")
ROWS = 40


@dataclass
class Share:
    rig: str
    job: int
    rows: list[int]
    credits: list[CreditEarned] = field(default_factory=list)


@dataclass
class Job:
    open_rows: list[int]
    check_left: int
    referee_left: int
    cancelled: bool = False


class Money(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store.open(self.folder, durable=False)
        self.store.claim()
        release = ReleasePolicy(hold_seconds=50.0, minimum_rows=15, every_seconds=5.0)
        self.books = Bookmaker(self.store, policy=SettlementPolicy(200_000, release))
        for name in CUSTOMERS:
            self.books.customer(name, 10_000)
        for rig in RIGS:
            self.books.trust(rig)
        with self.store.database.write():
            pass
        self.store.recover(self.books.arrays)
        self.reserve = 0  # as the board would have it
        self.held = dict.fromkeys(RIGS, 0)  # as the board would have it
        self.offences = dict.fromkeys(RIGS, 0)
        self.jobs: dict[int, Job] = {}
        self.shares: dict[int, Share] = {}

    def teardown(self) -> None:
        self.finish()
        self.store.close()
        shutil.rmtree(self.folder)

    # ── what can happen ──────────────────────────────────────────────────────

    @rule(
        account=st.sampled_from(CUSTOMERS),
        unit=st.integers(1, 3),
        levy_ppm=st.sampled_from([0, 30_000, 500_000]),
        fee_ppm=st.sampled_from([0, 20_000, 333_333]),
    )
    def open_job(self, account: str, unit: int, levy_ppm: int, fee_ppm: int) -> None:
        if len(self.jobs) == 3:
            return
        job = self.books.job(
            account=account, blocks=(ROWS,), unit=unit, levy_ppm=levy_ppm, fee_ppm=fee_ppm
        )
        levy = -(-ROWS * unit * levy_ppm // 1_000_000)
        self.jobs[job] = Job(list(range(ROWS)), levy, levy // 2)

    @precondition(lambda self: any(j.open_rows and not j.cancelled for j in self.jobs.values()))
    @rule(rig=st.sampled_from(RIGS), rows=st.integers(1, 25), data=st.data())
    def do_a_share(self, rig: str, rows: int, data: st.DataObject) -> None:
        workable = [n for n, j in self.jobs.items() if j.open_rows and not j.cancelled]
        number = data.draw(st.sampled_from(workable))
        job = self.jobs[number]
        taken, job.open_rows = job.open_rows[:rows], job.open_rows[rows:]
        lease = self.books.lease(rig)
        share = Share(rig, number, taken)
        part, payloads = self.books.part_records(lease, 0, 0, [])
        price = self._unit(number)
        pay = self.books.credit(lease, rig, number, len(taken) * price)
        pay = CreditEarned(
            pay.lease, 0, number, "row", "pay", pay.account, pay.rig, len(taken), pay.amount
        )
        share.credits.append(pay)
        self.books.commit(part, pay, payloads=payloads)
        self.shares[lease] = share

    @precondition(lambda self: self.shares)
    @rule(amount=st.integers(1, 9), data=st.data())
    def pay_a_check(self, amount: int, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(sorted(self.shares)))
        share = self.shares[lease]
        job = self.jobs[share.job]
        source = "check" if job.check_left >= amount else "reserve"
        if source == "reserve" and self.reserve < amount:
            return
        if any(c.kind == "check" and c.source == source for c in share.credits):
            return
        if source == "check":
            job.check_left -= amount
        else:
            self.reserve -= amount
        earned = self.books.credit(lease, share.rig, share.job, amount, kind="check", source=source)
        share.credits.append(earned)
        self.books.commit(earned)

    @precondition(lambda self: self.jobs)
    @rule(amount=st.integers(1, 9), data=st.data())
    def run_the_referee(self, amount: int, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.jobs)))
        job = self.jobs[number]
        amount = min(amount, job.check_left, job.referee_left)
        if amount:
            job.check_left -= amount
            job.referee_left -= amount
            self.books.commit(RefereePaid(number, amount, amount))

    @precondition(lambda self: self.shares)
    @rule(cleared=st.booleans(), data=st.data())
    def judge(self, cleared: bool, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(sorted(self.shares)))
        if cleared:
            self._clear(lease)
        else:
            self._reject(lease, forfeit=False)

    @rule(rig=st.sampled_from(RIGS))
    def convict(self, rig: str) -> None:
        """An offence: all pending shares are rejected, all held pay is forfeited."""
        for lease in [lease for lease, share in self.shares.items() if share.rig == rig]:
            self._reject(lease, forfeit=True)
        units, self.held[rig] = self.held[rig], 0
        self.offences[rig] += 1
        account, _, name = rig.partition(".")
        if units:
            self.books.commit(
                HeldForfeited(account, name, units, self.offences[rig], "offence", 1, self.books.at)
            )

    @rule(units=st.integers(1, 50))
    def seed_the_reserve(self, units: int) -> None:
        deposit(self.store.database, "reserve", units, self.books.at)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.jobs[data.draw(st.sampled_from(sorted(self.jobs)))].cancelled = True

    @rule(seconds=st.sampled_from([1.0, 20.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.books.at += seconds

    @rule()
    def settle(self) -> None:
        settled = self.books.settle()
        assert settled.unpaid == ()
        self.reserve += settled.reserve_change
        for release in settled.released:
            self.held[f"{release.account}.{release.rig}"] -= release.units
        with self.store.database.read() as connection:
            assert spendable_reserve(connection) == self.reserve

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = self.books.store = Store.open(self.folder, durable=False)
        snapshot = self.store.recover(self.books.arrays)
        self.reserve = snapshot.reserve
        held = {f"{trust.account}.{trust.rig}": trust.held for trust in snapshot.trust}
        assert held == self.held

    @rule()
    def close_what_is_done(self) -> None:
        for number, job in list(self.jobs.items()):
            busy = any(share.job == number for share in self.shares.values())
            if not busy and (job.cancelled or not job.open_rows):
                self.books.close(number, "cancelled" if job.cancelled else "completed")
                del self.jobs[number]

    # ── what must hold ───────────────────────────────────────────────────────

    @invariant()
    def the_ledger_adds_up(self) -> None:
        with self.store.database.read() as connection:
            check_ledger(connection)

    def finish(self) -> None:
        """Everything ends: no escrow, nothing pending, and each price divided exactly."""
        for lease in list(self.shares):
            self._clear(lease)
        for job in self.jobs.values():
            job.cancelled = job.cancelled or bool(job.open_rows)
        self.close_what_is_done()
        self.settle()
        for prefix in ("escrow", "pending"):
            assert self.books.balances(prefix) == {}
        with self.store.database.read() as connection:
            numbers = connection.exec_driver_sql("SELECT id FROM job").scalars().all()
        for number in numbers:
            table = self.books.table(number)
            assert table.escrow == 0
            assert min(table.pending, table.held, table.available, table.checks) >= 0
            assert min(table.operator, table.reserve, table.refund) >= 0
        held = self.books.balances("held")
        assert held == {f"held:{rig}": units for rig, units in sorted(self.held.items()) if units}

    # ── the board's part ─────────────────────────────────────────────────────

    def _clear(self, lease: int) -> None:
        share = self.shares.pop(lease)
        self.held[share.rig] += sum(credit.amount for credit in share.credits)
        self.books.judge(lease, "cleared")

    def _reject(self, lease: int, *, forfeit: bool) -> None:
        share = self.shares.pop(lease)
        self.jobs[share.job].open_rows += share.rows
        for credit in share.credits:
            if forfeit:
                continue
            if credit.source == "check":
                self.jobs[share.job].check_left += credit.amount
            elif credit.source == "reserve":
                self.reserve += credit.amount
        self.books.judge(lease, "rejected", forfeit=forfeit)

    def _unit(self, job: int) -> int:
        with self.store.database.read() as connection:
            return connection.exec_driver_sql(
                "SELECT price FROM job WHERE id = ?", (job,)
            ).scalar_one()


TestMoney = Money.TestCase
TestMoney.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
