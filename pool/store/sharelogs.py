"""What a pool's credits say, as a share log for other reward schemes to be tried on."""

from __future__ import annotations

import random
from collections import defaultdict

import sqlalchemy as sa
from sqlalchemy import select

from pool.store import schema
from shares.money.sharelog import JobRecord, ShareLog, ShareRecord, share_log

_JUDGED = {"cleared": True, "rejected": False, "forfeited": False}


def pool_share_log(connection: sa.Connection, *, pseudonyms: bool = False) -> ShareLog:
    """Each credit that has its verdict, and each job that had rows.

    A check or a hedge that was paid counts as work of its job, and what a levy or the reserve paid
    for it as part of the job's bounty. With ``pseudonyms`` accounts are m1, m2, … by chance, and
    differently each time.
    """
    credit, job = schema.credit.c, schema.job.c
    shares = [
        ShareRecord(
            at=row.at,
            account=row.account,
            job=str(row.job),
            work=row.work,
            units=row.amount,
            cleared=_JUDGED[row.state],
        )
        for row in connection.execute(
            select(
                credit.at, credit.account, credit.job, credit.work, credit.amount, credit.state
            ).where(credit.state.in_(_JUDGED), credit.work > 0)
        )
    ]
    rows: dict[int, int] = defaultdict(int)
    beside: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
    sums = (
        select(
            credit.job,
            credit.source == "pay",
            sa.func.sum(credit.work),
            sa.func.sum(credit.amount),
        )
        .where(credit.state == "cleared")
        .group_by(credit.job, credit.source == "pay")
    )
    for number, of_rows, work, units in connection.execute(sums):
        if of_rows:
            rows[number] = int(work)
        else:
            beside[number] = int(work), int(units)
    jobs = []
    for one in connection.execute(
        select(job.id, job.work, job.price, job.settled).order_by(job.id)
    ):
        # Rows found wrong after they were cleared are paid for again, out of forfeits.
        ordered = max(one.work, rows[one.id])
        work, units = beside[one.id]
        if ordered + work:
            bounty = ordered * one.price + units
            jobs.append(JobRecord(str(one.id), ordered + work, bounty, one.settled))
    if pseudonyms:
        shares = _renamed(shares)
    return share_log(shares, jobs)


def _renamed(shares: list[ShareRecord]) -> list[ShareRecord]:
    names = sorted({share.account for share in shares})
    # Not from a seed: who knows the accounts must not be able to repeat it.
    random.SystemRandom().shuffle(names)
    pseudonym = {name: f"m{number}" for number, name in enumerate(names, 1)}
    return [
        ShareRecord(s.at, pseudonym[s.account], s.job, s.work, s.units, s.cleared) for s in shares
    ]
