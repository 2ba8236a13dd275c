"""Facts for the store's tests: jobs, shares, parts, credits and verdicts, made like the board's."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import insert, update

from pool.settlement import Settled, SettlementPolicy, settle
from pool.store import Group, Store, commit_group, schema
from pool.store.accounts import create_account
from pool.store.escrow import deposit, reserve_job
from pool.store.ledger import balances
from pool.store.ledgeraudit import check_ledger
from pool.store.moneytable import MoneyTable, money_table
from shares.blocks import Kind, Segment
from shares.board.effects import (
    CreditEarned,
    JobClosed,
    LeaseEnded,
    LeaseIssued,
    PartAccepted,
    Record,
    ShareJudged,
    TrustChanged,
    Won,
)
from shares.money.price import price_of
from stratum.manifest import BLAKE2B, encode_manifest, manifest_digest

MODEL = manifest_digest(encode_manifest(BLAKE2B))
ROW_BYTES = 32


def values(lease: int, part: int, rows: int) -> bytes:
    """Result bytes that tell which part they are of."""
    return b"".join(b"%016d%08d%08d" % (lease, part, row) for row in range(rows))


@dataclass
class Bookmaker:
    """Writes facts to a store and keeps the time."""

    store: Store
    at: float = 1_000.0
    next_lease: int = 1
    next_payload: int = 1
    policy: SettlementPolicy = field(default_factory=SettlementPolicy)

    def customer(self, name: str = "carol", units: int = 1_000_000) -> str:
        create_account(self.store.database, name, "customer", self.at)
        if units:
            deposit(self.store.database, name, units, self.at)
        return name

    def job(
        self,
        *,
        account: str = "carol",
        blocks: tuple[int, ...] = (100,),
        work: int = 1,
        unit: int = 1,
        levy_ppm: int = 30_000,
        fee_ppm: int = 20_000,
        assurance_ppm: int = 0,
    ) -> int:
        """A job of blocks with so many rows each, every row of this work; its price reserved."""
        rows = sum(blocks)
        with self.store.database.write() as connection:
            job = connection.execute(
                insert(schema.job).values(
                    account=account,
                    endpoint="/v1/digests",
                    operation="digest",
                    model=MODEL,
                    state="in_progress",
                    created=self.at,
                    rows=rows,
                    blocks=len(blocks),
                )
            ).inserted_primary_key[0]
            levy_ppm += assurance_ppm
            price = price_of(rows * work, unit=unit, levy_ppm=levy_ppm, fee_ppm=fee_ppm)
            reserve_job(connection, job, account, price, self.at, assurance_ppm=assurance_ppm)
            connection.execute(
                insert(schema.block),
                [
                    {
                        "job": job,
                        "no": n,
                        "object": f"blocks/{job}-{n}",
                        "rows": r,
                        "work": r * work,
                    }
                    for n, r in enumerate(blocks)
                ],
            )
        return int(job)

    def commit(self, *records: Record, payloads: dict[int, bytes] | None = None) -> None:
        commit_group(self.store, Group(list(records), payloads or {}))

    def lease(self, rig: str, *segments: Segment) -> int:
        """Issue a share; ``rig`` is ACCOUNT.RIG."""
        lease = self.next_lease
        self.next_lease += 1
        account, _, name = rig.partition(".")
        rows = sum(segment.rows for segment in segments)
        self.commit(
            LeaseIssued(
                lease=lease,
                account=account,
                rig=name,
                model=MODEL,
                operation="digest",
                segments=segments,
                rows=rows,
                work=rows,
                difficulty=rows,
                issued=self.at,
                deadline=self.at + 60,
            )
        )
        return lease

    def part_records(
        self, lease: int, part: int, first_row: int, won: list[Won]
    ) -> tuple[PartAccepted, dict[int, bytes]]:
        rows = sum(win.stop - win.start for win in won)
        payload = self.next_payload
        self.next_payload += 1
        record = PartAccepted(
            lease=lease,
            part=part,
            first_row=first_row,
            rows=rows,
            payload=payload,
            digests=bytes(16 * rows),
            digest=bytes(32),
            epoch=1,
            check_rate_ppm=10_000,
            referee_rate_ppm=1_000,
            row_work=1_000,
            why="held",
            held=200,
            price=1,
            works=((1, rows),),
            over=(),
            check_rows=(0,),
            referee_rows=(),
            policy=3,
            won=tuple(won),
            at=self.at,
            least=((0, rows, 250_000),),
        )
        return record, {payload: values(lease, part, rows)}

    def credit(
        self,
        lease: int,
        rig: str,
        job: int,
        amount: int,
        *,
        part: int = 0,
        kind: str = "row",
        source: str = "pay",
    ) -> CreditEarned:
        account, _, name = rig.partition(".")
        return CreditEarned(lease, part, job, kind, source, account, name, amount, amount)

    def share(
        self, rig: str, job: int, start: int, stop: int, *, block: int = 0, unit: int = 1
    ) -> int:
        """A share of one segment, computed in one part and paid, without a verdict."""
        lease = self.lease(rig, Segment(job, block, start, stop, Kind.ROW))
        rows = stop - start
        part, payloads = self.part_records(lease, 0, 0, [Won(job, block, start, stop, 0)])
        account, _, name = rig.partition(".")
        pay = CreditEarned(lease, 0, job, "row", "pay", account, name, rows, rows * unit)
        ended = LeaseEnded(lease, "done", "none", self.at)
        self.commit(part, pay, ended, payloads=payloads)
        return lease

    def judge(self, lease: int, state: str, *, forfeit: bool = False) -> None:
        self.commit(ShareJudged(lease, state, "test", forfeit, self.at))

    def trust(self, rig: str, *, held: int = 0, row_work: int = 1_000) -> None:
        account, _, name = rig.partition(".")
        self.commit(TrustChanged(account, name, held, 1, 1, 1, 1, 0, 0, 0, 0.0, row_work))

    def close(self, job: int, state: str = "completed") -> None:
        """The board has closed the job, and the customer's side has followed."""
        self.commit(JobClosed(job, state, self.at))
        with self.store.database.write() as connection:
            connection.execute(update(schema.job).where(schema.job.c.id == job).values(state=state))

    def settle(self) -> Settled:
        settled = settle(self.store.database, self.policy, self.at)
        self.check()
        return settled

    def check(self) -> None:
        """Every unit is somewhere, and nothing but the world outside is below zero."""
        with self.store.database.read() as connection:
            check_ledger(connection)
            assert sum(balances(connection).values()) == 0

    def balances(self, prefix: str = "") -> dict[str, int]:
        """What is not zero, by account code."""
        with self.store.database.read() as connection:
            return {code: u for code, u in balances(connection, prefix).items() if u}

    def table(self, job: int) -> MoneyTable:
        with self.store.database.read() as connection:
            table = money_table(connection, job)
        assert table.total == table.price
        return table

    def arrays(self, _job: int, _block: int, _name: str) -> tuple[np.ndarray, np.ndarray]:
        """Lengths and works for recovery, where no block was stored."""
        return np.ones(100, np.int32), np.ones(100, np.int64)
