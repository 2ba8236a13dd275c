"""Where the result rows of a job are: the parts that won them, in shares that were cleared."""

from __future__ import annotations

from collections import defaultdict

import sqlalchemy as sa
from sqlalchemy import select

from pool.batches.output import ResultRun
from pool.store import schema
from pool.store.resultlog import ResultLog


def result_runs(connection: sa.Connection, log: ResultLog, job: int) -> dict[int, list[ResultRun]]:
    """{block: runs of rows, in order} of every cleared row of a job."""
    won, part, lease = schema.won, schema.part, schema.lease
    query = (
        select(
            won.c.block,
            won.c.start,
            won.c.stop,
            won.c.first_row,
            part.c.log,
            part.c.offset,
            part.c.bytes,
            part.c.rows,
        )
        .join(part, (part.c.lease == won.c.lease) & (part.c.no == won.c.part))
        .join(lease, lease.c.id == won.c.lease)
        .where(won.c.job == job, lease.c.verdict == "cleared")
        .order_by(won.c.block, won.c.start)
    )
    runs: dict[int, list[ResultRun]] = defaultdict(list)
    for row in connection.execute(query):
        runs[row.block].append(
            ResultRun(
                start=row.start,
                stop=row.stop,
                path=log.path(row.log),
                offset=row.offset,
                size=row.bytes,
                part_rows=row.rows,
                first_row=row.first_row,
            )
        )
    return runs
