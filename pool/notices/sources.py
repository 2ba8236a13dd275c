"""Where notices come from: batches that ended, payouts, rejected shares, rigs that went away."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import aclosing

import sqlalchemy as sa
from sqlalchemy import select, update

from pool.core import Core
from pool.ledgerwatch import LedgerWatch
from pool.rigwalk import walk_rigs
from pool.store import schema
from pool.store.database import Database
from pool.store.jobs import OVER
from pool.store.notices import OPERATOR, notify
from shares.board.effects import Record, ShareJudged

_TOLD_PAYOUTS = ("finalised", "returned", "manual")


class Sources:
    """Looks for news now and then. Batches and payouts are told of whatever happens in between; a
    rejection of the last seconds before a crash is not."""

    def __init__(self, core: Core, watch: LedgerWatch, offline_after: float) -> None:
        self._core = core
        self._watch = watch
        self._offline_after = offline_after
        self._rejected: list[tuple[int, str]] = []  # (lease, reason), not yet noted
        self._seen: dict[tuple[str, str], float] = {}  # {rig: when it was connected last}
        self._violations = 0

    def committed(self, records: Iterable[Record]) -> None:
        """Follow verdicts."""
        for record in records:
            if isinstance(record, ShareJudged) and record.state == "rejected":
                self._rejected.append((record.lease, record.reason))

    async def recover(self) -> None:
        """Rigs that had shares when the pool stopped were connected then."""

        def read() -> list[tuple[str, str]]:
            lease = schema.lease.c
            with self._core.store.database.read() as connection:
                wanted = select(lease.account, lease.rig).where(lease.state == "open").distinct()
                return [(row.account, row.rig) for row in connection.execute(wanted)]

        now = self._core.clock.now()
        self._seen = dict.fromkeys(await self._core.in_thread(read), now)

    async def look(self) -> None:
        """Note what happened since the last look."""
        now, rejected = self._core.clock.now(), self._rejected
        self._rejected = []
        await self._see(now)
        gone = self._gone(now)
        broken = self._watch.violations > self._violations
        self._violations = self._watch.violations
        database = self._core.store.database
        await self._core.in_thread(_note, database, now, rejected, gone, broken)

    async def _see(self, now: float) -> None:
        async with aclosing(walk_rigs(self._core.board)) as walk:
            async for view, _ in walk:
                self._seen[view.account, view.rig] = now

    def _gone(self, now: float) -> list[tuple[str, str, float]]:
        """(account, rig, seconds) of rigs that have been away for long enough, each once."""
        gone = [
            (account, rig, now - at)
            for (account, rig), at in self._seen.items()
            if now - at >= self._offline_after
        ]
        for account, rig, _ in gone:
            del self._seen[account, rig]
        return gone


def _note(
    database: Database,
    now: float,
    rejected: list[tuple[int, str]],
    gone: list[tuple[str, str, float]],
    broken: bool,
) -> None:
    with database.read() as connection:
        news = _ended(connection) or _paid(connection)
    if not (news or rejected or gone or broken):  # mostly: the write lock is left to others
        return
    with database.write() as connection:
        for account, rig, seconds in gone:
            facts = {"rig": f"{account}.{rig}", "seconds": round(seconds)}
            notify(connection, account, "rig_offline", facts, now)
        _note_rejections(connection, rejected, now)
        job, payout = schema.job, schema.payout
        for batch in _ended(connection):
            facts = {"batch": batch.batch, "status": batch.state}
            notify(connection, batch.account, "batch_done", facts, now)
            connection.execute(update(job).where(job.c.id == batch.id).values(notified=True))
        for row in _paid(connection):
            facts = {"payout": row.id, "units": row.units, "state": row.state}
            if row.state == "manual":
                notify(connection, OPERATOR, "payout_waits", facts, now)
            else:
                notify(connection, row.account, "payout", facts, now)
            wanted = payout.c.id == row.id
            connection.execute(update(payout).where(wanted).values(notified=row.state))
        if broken:
            notify(connection, OPERATOR, "ledger", {}, now)


def _note_rejections(
    connection: sa.Connection, rejected: list[tuple[int, str]], now: float
) -> None:
    """One notice an account: how many, why, and the first few by number."""
    lease = schema.lease.c
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, reason in rejected:
        account = connection.scalar(select(lease.account).where(lease.id == number))
        if account is not None:
            reasons[account][reason] += 1
            numbers[account].append(number)
    for account, counted in reasons.items():
        facts = {
            "shares": counted.total(),
            "reasons": dict(counted),
            "leases": numbers[account][:10],
        }
        notify(connection, account, "rejections", facts, now)


def _ended(connection: sa.Connection) -> list[sa.Row[tuple[int, str, str, str]]]:
    job = schema.job.c
    wanted = select(job.id, job.batch, job.account, job.state).where(
        job.batch.is_not(None), ~job.notified, job.state.in_(OVER)
    )
    return list(connection.execute(wanted))


def _paid(connection: sa.Connection) -> list[sa.Row[tuple[int, str, int, str]]]:
    payout = schema.payout.c
    wanted = select(payout.id, payout.account, payout.units, payout.state).where(
        payout.state.in_(_TOLD_PAYOUTS), payout.notified != payout.state
    )
    return list(connection.execute(wanted))
