"""Transitions of rows. Every change of a row's state, holder or winner happens here, with the
counters that depend on it.

    OPEN ──lease──▶ LEASED ──win──▶ DONE ──clear──▶ CLEARED
      ▲───give_back───┘  ▲──────reopen──┘   (to OPEN when nobody holds the row)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shares.blocks import owes
from shares.board.state import CLEARED, DONE, LEASED, OPEN, Block, Job, Lease, Rig, State

Rows = NDArray[np.intp]  # positions in a block, ascending


def span(start: int, stop: int) -> Rows:
    """Rows ``start`` to ``stop`` (exclusive)."""
    return np.arange(start, stop)


def lease(state: State, lease: Lease) -> None:
    """An open lease holds the rows that it owes."""
    for segment, start, stop, _ in lease.pieces(lease.next_row, lease.rows):
        block = state.block(segment.job, segment.block)
        if block is None or not owes(segment):
            continue
        job = state.jobs[segment.job]
        rows = slice(start, stop)
        opened = span(start, stop)[block.state[rows] == OPEN]
        _close(job, block, opened, LEASED)
        block.holders[rows] += 1
        account = lease.account
        job.held_by[account] = job.held_by.get(account, 0) + int(block.works[rows].sum())
        block.lessees[lease.lease] = lease


def give_back(state: State, lease: Lease, first: int, stop: int) -> bool:
    """A lease no longer holds rows ``first:stop`` of its share; whether any is open again."""
    reopened = False
    for segment, start, end, _ in lease.pieces(first, stop):
        block = state.block(segment.job, segment.block)
        if block is None or not owes(segment):
            continue
        job = state.jobs[segment.job]
        rows = slice(start, end)
        block.holders[rows] -= 1
        _owe_less(job, lease.account, int(block.works[rows].sum()))
        orphans = span(start, end)[(block.state[rows] == LEASED) & (block.holders[rows] == 0)]
        if orphans.size:
            _open(state, job, block, orphans)
            reopened = True
    return reopened


def let_go(job: Job, block: Block) -> None:
    """The block is dropped: whoever still owes rows of it owes them no more."""
    for lease in block.lessees.values():
        for segment, start, end, _ in lease.pieces(lease.next_row, lease.rows):
            if (segment.job, segment.block) == (block.job, block.no) and owes(segment):
                _owe_less(job, lease.account, int(block.works[start:end].sum()))


def win(job: Job, block: Block, rows: Rows, lease: Lease, digests: NDArray[np.uint8]) -> int:
    """The lease's result counts for these rows (open or leased before); returns their work."""
    _close(job, block, rows[block.state[rows] == OPEN], DONE)
    block.state[rows] = DONE
    block.winner[rows] = lease.lease
    block.digests[rows] = digests
    block.winners[lease.lease] = lease.rig
    work = int(block.works[rows].sum())
    job.accepted_rows += rows.size
    job.accepted_work += work
    return work


def won_by(block: Block, lease: Lease) -> Rows:
    """Rows of the block that a lease not yet judged has won."""
    parts = [
        span(segment.start, segment.stop)[
            (block.winner[segment.start : segment.stop] == lease.lease)
            & (block.state[segment.start : segment.stop] == DONE)
        ]
        for segment in lease.segments
        if segment.job == block.job and segment.block == block.no and owes(segment)
    ]
    return np.concatenate(parts) if parts else span(0, 0)


def holds_any(lease: Lease, block: Block, rows: Rows) -> bool:
    """Whether a lease has any of these rows of the block and has not delivered it."""
    return any(
        owes(segment) and bool(((rows >= start) & (rows < stop)).any())
        for segment, start, stop, _ in lease.pieces(lease.next_row, lease.rows)
        if (segment.job, segment.block) == (block.job, block.no)
    )


def clear(job: Job, block: Block, rows: Rows) -> None:
    """The share that won these rows is cleared."""
    block.state[rows] = CLEARED
    block.cleared_rows += rows.size
    job.cleared_rows += rows.size
    job.cleared_work += int(block.works[rows].sum())


def reopen(state: State, job: Job, block: Block, rows: Rows, lease: Lease) -> None:
    """The share that won these rows is rejected."""
    work = int(block.works[rows].sum())
    job.accepted_rows -= rows.size
    job.accepted_work -= work
    block.winner[rows] = 0
    block.digests[rows] = 0
    block.winners.pop(lease.lease, None)
    held = block.holders[rows] > 0
    block.state[rows[held]] = LEASED
    if not held.all():
        _open(state, job, block, rows[~held])


def wanted(state: State, start: int, stop: int, block: Block | None) -> bool:
    """Whether any of these rows still lacks a result that anybody wants."""
    if block is None or state.jobs[block.job].cancelled:
        return False
    return bool((block.state[start:stop] < DONE).any())


def drop_from(block: Block, rig: Rig, start: int, stop: int) -> None:
    """A rig dropped these rows: it is offered them last."""
    mask = block.avoid.setdefault(rig.key, np.zeros(block.rows, np.bool_))
    mask[start:stop] = True


def set_ready(job: Job) -> None:
    """Keep the queue's list of jobs that have rows to lease."""
    ready = job.queue.ready
    mine = ready.get(job.account)
    if job.open_rows and not job.cancelled:
        if mine is None:
            mine = ready[job.account] = {}
        if job.job not in mine:
            late = bool(mine) and next(reversed(mine.values())).order > job.order
            mine[job.job] = job
            if late:
                ready[job.account] = {j.job: j for j in sorted(mine.values(), key=_order)}
    elif mine is not None and mine.pop(job.job, None) is not None and not mine:
        del ready[job.account]


def _order(job: Job) -> tuple[float, int]:
    return job.order


def _owe_less(job: Job, account: str, work: int) -> None:
    left = job.held_by[account] - work
    if left:
        job.held_by[account] = left
    else:
        del job.held_by[account]


def _close(job: Job, block: Block, rows: Rows, new: int) -> None:
    if not rows.size:
        return
    work = int(block.works[rows].sum())
    block.state[rows] = new
    block.open_rows -= rows.size
    block.open_work -= work
    job.open_rows -= rows.size
    job.open_work -= work
    if block.first_open == rows[0]:
        unbroken = rows[-1] - rows[0] == rows.size - 1
        block.first_open = int(rows[-1] if unbroken else rows[0]) + 1
    set_ready(job)


def _open(state: State, job: Job, block: Block, rows: Rows) -> None:
    work = int(block.works[rows].sum())
    block.state[rows] = OPEN
    block.open_rows += rows.size
    block.open_work += work
    job.open_rows += rows.size
    job.open_work += work
    block.first_open = min(block.first_open, int(rows[0]))
    set_ready(job)
    state.work_came = True
