"""After a simulation: is every row there once and right, and is every unit where it belongs?"""

from __future__ import annotations

from collections import defaultdict
from hashlib import blake2b

import sqlalchemy as sa
from sqlalchemy import select
from world import SimJob, World

from pool.store import schema
from pool.store.blockfile import BlockFile
from pool.store.ledger import balances
from pool.store.ledgeraudit import check_ledger
from pool.store.moneytable import money_table
from pool.store.results import missing_rows, read_part, result_runs
from shares.money import posting

ROW_BYTES = 32


def check_results(world: World, job: SimJob) -> None:
    """Every row of the job has one cleared result, and it is the right one."""
    with world.store.database.read() as connection:
        runs = result_runs(connection, world.store.log, job.job)  # refuses two for one row
        assert not missing_rows(connection, job.job, runs)
    wrong = wrong_rows(world, job)
    assert not wrong, f"rows {wrong[:10]} (block, row) are wrong"


def wrong_rows(world: World, job: SimJob) -> list[tuple[int, int]]:
    """(block, row) of every cleared result of the job that is not the right one."""
    with world.store.database.read() as connection:
        runs = result_runs(connection, world.store.log, job.job)
        block = schema.block
        sizes = {
            row.no: row.rows
            for row in connection.execute(select(block).where(block.c.job == job.job))
        }
    wrong = []
    place = 0
    for number in sorted(sizes):
        with BlockFile(world.store.block_path(job.job, number)) as file:
            order = file.order.tolist()
            for run in runs.get(number, ()):
                values, failed = read_part(run, ROW_BYTES)
                assert not failed
                for row in range(run.start, run.stop):
                    at = (run.first_row + row - run.start) * ROW_BYTES
                    tokens = job.rows[place + order[row]].tobytes()
                    wanted = blake2b(tokens, digest_size=32).digest()
                    if bytes(values[at : at + ROW_BYTES]) != wanted:
                        wrong.append((number, row))
        place += sizes[number]
    assert place == len(job.rows)
    return wrong


def check_money(world: World, *jobs: SimJob, whole: bool = True) -> None:
    """The ledger balances, the jobs' escrows are empty, and their work is paid once.

    ``whole``: all of their work was done (not so when they were cancelled).
    """
    with world.store.database.read() as connection:
        check_ledger(connection)
        for job in jobs:
            row = connection.execute(select(schema.job).where(schema.job.c.id == job.job)).one()
            assert row.settled is not None, f"job {job.job} is not settled"
            assert paid_work(connection, job.job) == row.paid_work
            assert row.paid_work == row.work or not whole
            for code in posting.escrows(job.job):
                assert balances(connection, code).get(code, 0) == 0, code
            table = money_table(connection, job.job)
            assert table.total == table.price
        pending = balances(connection, "pending:")
        assert not any(pending.values()), pending


def paid_work(connection: sa.Connection, job: int) -> int:
    """Work of the job's rows for which somebody keeps the pay."""
    credit = schema.credit
    return int(
        connection.scalar(
            select(sa.func.coalesce(sa.func.sum(credit.c.work), 0)).where(
                credit.c.job == job, credit.c.kind == "row", credit.c.state == "cleared"
            )
        )
    )


def lost_units(world: World) -> dict[str, int]:
    """Units that each account earned and lost again, with what it had held."""
    credit, forfeit = schema.credit, schema.forfeit
    lost: dict[str, int] = defaultdict(int)
    with world.store.database.read() as connection:
        for row in connection.execute(
            select(credit.c.account, credit.c.amount).where(
                credit.c.state.in_(("rejected", "forfeited"))
            )
        ):
            lost[row.account] += row.amount
        for row in connection.execute(select(forfeit.c.account, forfeit.c.units)):
            lost[row.account] += row.units
    return dict(lost)
