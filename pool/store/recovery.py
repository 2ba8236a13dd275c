"""The start: cut off what was never committed, and hand the board everything that is open."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import case, func, select

from pool.crashpoints import crash_point
from pool.store import schema
from pool.store.commit import LOG_END, unpack_segments
from pool.store.database import Database, meta_value, set_meta
from pool.store.openjobs import manifest_of
from pool.store.releases import held_by_rig
from pool.store.reserve import watch_reserve
from pool.store.resultlog import Position, ResultLog
from shares.board.effects import TrustChanged, Won
from shares.board.snapshot import (
    OpenBlock,
    OpenJob,
    Snapshot,
    StoredCheck,
    StoredCredit,
    StoredLease,
    StoredPart,
    StoredRecount,
)

# (job, block, object name) -> lengths int32 [rows], works int64 [rows]
BlockArrays = Callable[[int, int, str], tuple[NDArray[np.int32], NDArray[np.int64]]]

OPEN_STATES = ("in_progress", "cancelling")
_IN_CHUNKS = 500  # values in one IN (...)


def claim_log(database: Database, log: ResultLog) -> int:
    """Become the one pool that appends to the result log, and cut off what was never committed.

    Returns the bytes cut off. Raises ``StoreError`` when another pool is running here or the log
    does not hold what the database names.
    """
    with database.read() as connection:
        end = _committed_end(connection)
    cut = log.claim(end)
    crash_point("recovery.truncated")
    return cut


def recover(database: Database, block_arrays: BlockArrays) -> Snapshot:
    """Begin a new boot and read everything that is open; the result log must be claimed.

    ``block_arrays`` reads a block's lengths and works.
    """
    with database.write() as connection:
        crash_point("recovery.begun")
        boot = int(meta_value(connection, "boot") or 0) + 1
        set_meta(connection, "boot", str(boot))
        reserve = watch_reserve(connection)
        snapshot = _read(connection, boot, reserve, block_arrays)
        crash_point("recovery.before_commit")
    crash_point("recovery.committed")
    return snapshot


def _committed_end(connection: sa.Connection) -> Position:
    log, offset = (meta_value(connection, LOG_END) or "0:0").split(":")
    return Position(int(log), int(offset))


def _read(
    connection: sa.Connection, boot: int, reserve: int, block_arrays: BlockArrays
) -> Snapshot:
    job, block = schema.job, schema.block
    jobs = connection.execute(
        select(job).where(job.c.state.in_(OPEN_STATES), job.c.closed.is_(None)).order_by(job.c.id)
    ).all()
    ids = {row.id for row in jobs}
    manifests = {row.model: manifest_of(connection, row.model) for row in jobs}
    open_blocks = {
        (row.job, row.no): row.object
        for row in _where_in(
            connection,
            select(block.c.job, block.c.no, block.c.object).where(~block.c.cleared),
            block.c.job,
            ids,
        )
    }
    leases = _leases(connection, ids)
    recounts = _recounts(connection)
    checks = _checks(connection, ids)
    touched = {(check.job, check.block) for check in checks}
    for lease in (*leases, *(recount.lease for recount in recounts)):
        touched |= {(segment.job, segment.block) for segment in lease.segments}
        touched |= {(won.job, won.block) for part in lease.parts for won in part.won}
    cleared: dict[int, dict[int, tuple[int, int]]] = defaultdict(dict)  # {job: {block: ...}}
    for row in _where_in(
        connection,
        select(block.c.job, block.c.no, block.c.rows, block.c.work).where(block.c.cleared),
        block.c.job,
        ids,
    ):
        cleared[row.job][row.no] = (row.rows, row.work)
    spent = _check_budget_spent(connection, ids)
    found: dict[int, list[OpenBlock]] = defaultdict(list)
    for job_no, block_no in sorted(touched & set(open_blocks)):
        lengths, works = block_arrays(job_no, block_no, open_blocks[job_no, block_no])
        found[job_no].append(OpenBlock(block=block_no, lengths=lengths, works=works))
    return Snapshot(
        boot=boot,
        reserve=reserve,
        jobs=tuple(
            OpenJob(
                job=row.id,
                account=row.account,
                model=row.model,
                operation=row.operation,
                direct=row.direct,
                blocks=row.blocks,
                rows=row.rows,
                work=row.work,
                price=row.price,
                check_left=max(0, row.check_reserved - spent.get(row.id, 0)),
                check_budget=row.check_reserved,
                row_bytes=manifests[row.model].row_bytes,
                exact=manifests[row.model].exact,
                assurance_ppm=row.assurance_ppm,
                trusted=row.trusted,
                cleared_blocks=frozenset(cleared[row.id]),
                open_blocks=tuple(found[row.id]),
                cancelled="cancelled" if row.state == "cancelling" else "",
                created=row.created,
                cleared_rows=sum(rows for rows, _ in cleared[row.id].values()),
                cleared_work=sum(work for _, work in cleared[row.id].values()),
            )
            for row in jobs
        ),
        leases=leases,
        checks=checks,
        trust=_trust(connection),
        recounts=recounts,
        excused=_excused(connection),
        suspected_blocks=tuple(
            (row.block, row.until) for row in connection.execute(select(schema.network_block))
        ),
    )


def _leases(connection: sa.Connection, jobs: set[int]) -> tuple[StoredLease, ...]:
    lease, won, block = schema.lease, schema.won, schema.block
    wins = defaultdict(list)  # {(lease, part): [Won]}, of open blocks
    of_open_blocks = select(won).join(
        block, (block.c.job == won.c.job) & (block.c.no == won.c.block) & ~block.c.cleared
    )
    for row in _where_in(connection, of_open_blocks, block.c.job, jobs):
        wins[row.lease, row.part].append(
            Won(row.job, row.block, row.start, row.stop, row.first_row)
        )
    leased = connection.execute(select(lease).where(lease.c.state == "open")).all()
    accepted = connection.execute(
        select(lease).where(schema.awaits_verdict, lease.c.state != "open")
    ).all()
    undecided = [*leased, *accepted]
    seen = {row.id for row in undecided}
    cleared = _where_in(
        connection,
        select(lease).where(lease.c.verdict == "cleared"),
        lease.c.id,
        {lease_id for lease_id, _ in wins} - seen,
    )
    rows = sorted(
        [row for row in (*undecided, *cleared) if row.verdict not in ("rejected", "void")],
        key=lambda row: row.id,
    )
    parts = _parts(connection, {row.id for row in rows}, wins)
    pending = _pending_credits(connection, {row.id for row in rows if row.verdict != "cleared"})
    return tuple(
        _stored(
            row,
            [part for part in parts[row.id] if row.verdict != "cleared" or part.won],
            pending[row.id],
        )
        for row in rows
    )


def _stored(row: sa.Row[Any], parts: list[StoredPart], pending: list[StoredCredit]) -> StoredLease:
    return StoredLease(
        lease=row.id,
        account=row.account,
        rig=row.rig,
        model=row.model,
        operation=row.operation,
        segments=unpack_segments(row.segments),
        work=row.work,
        difficulty=row.difficulty,
        issued=row.issued,
        deadline=row.deadline,
        state=row.state,
        verdict=row.verdict,
        parts=tuple(parts),
        credits=tuple(pending),
        suspect=row.suspect,
        trial=None
        if row.trial is None or row.verdict != "accepted"
        else (row.trial, row.trial_kind),
    )


def _recounts(connection: sa.Connection) -> tuple[StoredRecount, ...]:
    lease = schema.lease
    rows = connection.execute(
        select(lease).where(lease.c.recount.is_not(None)).order_by(lease.c.id)
    ).all()
    parts = _parts(connection, {row.id for row in rows}, {})
    return tuple(
        StoredRecount(lease=_stored(row, parts[row.id], []), row=row.recount) for row in rows
    )


def _excused(connection: sa.Connection) -> tuple[tuple[str, int, str, str, int], ...]:
    one = schema.excuse.c
    rows = connection.execute(
        select(one.account, one.lease, one.model, one.kind, one.rows)
        .where(one.outcome.is_(None))
        .order_by(one.lease)
    )
    return tuple((row.account, row.lease, row.model, row.kind, row.rows) for row in rows)


def _parts(
    connection: sa.Connection, leases: set[int], wins: dict[tuple[int, int], list[Won]]
) -> dict[int, list[StoredPart]]:
    part = schema.part
    query = select(
        part.c.lease, part.c.no, part.c.first_row, part.c.rows, part.c.digests, part.c.at
    ).order_by(part.c.lease, part.c.no)
    parts: dict[int, list[StoredPart]] = defaultdict(list)
    for row in _where_in(connection, query, part.c.lease, leases):
        won = sorted(wins.get((row.lease, row.no), []), key=lambda win: win.first_row)
        parts[row.lease].append(
            StoredPart(
                part=row.no,
                first_row=row.first_row,
                rows=row.rows,
                digests=row.digests,
                won=tuple(won),
                at=row.at,
            )
        )
    return parts


def _pending_credits(connection: sa.Connection, leases: set[int]) -> dict[int, list[StoredCredit]]:
    credit = schema.credit
    query = select(credit).where(credit.c.state == "pending").order_by(credit.c.id)
    found: dict[int, list[StoredCredit]] = defaultdict(list)
    for row in _where_in(connection, query, credit.c.lease, leases):
        found[row.lease].append(
            StoredCredit(
                part=row.part,
                job=row.job,
                kind=row.kind,
                source=row.source,
                work=row.work,
                amount=row.amount,
            )
        )
    return found


def _checks(connection: sa.Connection, jobs: set[int]) -> tuple[StoredCheck, ...]:
    check = schema.check
    rows = connection.execute(
        select(
            check.c.id,
            check.c.by,
            check.c.lease,
            check.c.part,
            check.c.job,
            check.c.block,
            check.c.row,
            check.c.at,
        )
        .where(check.c.outcome.is_(None))
        .order_by(check.c.id)
    )
    return tuple(
        StoredCheck(
            check=row.id,
            by=row.by,
            lease=row.lease,
            part=row.part,
            job=row.job,
            block=row.block,
            row=row.row,
            at=row.at,
        )
        for row in rows
        if row.job in jobs
    )


def _check_budget_spent(connection: sa.Connection, jobs: set[int]) -> dict[int, int]:
    """Units of each job's check budget that are credited to checkers or cost by the referee."""
    credit, run = schema.credit, schema.referee_run
    spent = func.sum(case((credit.c.state == "rejected", 0), else_=credit.c.amount))
    query = (
        select(credit.c.job, spent.label("units"))
        .where(credit.c.source == "check")
        .group_by(credit.c.job)
    )
    runs = select(run.c.job, func.sum(run.c.amount).label("units")).group_by(run.c.job)
    found: dict[int, int] = defaultdict(int)
    for row in _where_in(connection, query, credit.c.job, jobs):
        found[row.job] += int(row.units)
    for row in _where_in(connection, runs, run.c.job, jobs):
        found[row.job] += int(row.units)
    return found


def _trust(connection: sa.Connection) -> tuple[TrustChanged, ...]:
    rows = connection.execute(
        select(schema.trust).order_by(schema.trust.c.account, schema.trust.c.rig)
    )
    # The ledger has the last word on what is held: a release may have been posted, and the
    # pool have ended before the board heard of it.
    held = held_by_rig(connection)
    return tuple(
        TrustChanged(
            **{
                **row,
                "held": held.get((row["account"], row["rig"]), 0),
                "proved": tuple(row["proved"].items()),
            }
        )
        for row in rows.mappings()
    )


def _where_in(
    connection: sa.Connection,
    query: sa.Select[tuple[object, ...]],
    column: sa.Column[int],
    values: Iterable[int],
) -> list[sa.Row[tuple[object, ...]]]:
    """``query`` for every value of ``column``, asked for in pieces."""
    ordered = sorted(values)
    return [
        row
        for start in range(0, len(ordered), _IN_CHUNKS)
        for row in connection.execute(query.where(column.in_(ordered[start : start + _IN_CHUNKS])))
    ]
