"""The hedged tail: with nothing left to lease, a faster rig gets a slower one's rows as well."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from shares.blocks import Kind, Segment, owes
from shares.board import leases, room
from shares.board.rows import Rows
from shares.board.state import LEASED, Block, Laggard, Lease, Rig, State

_TOKEN_BYTES = 4


def hedge(state: State, rig: Rig) -> bool:
    """Lease the rows that are expected last a second time, if this rig finishes them sooner."""
    if not rig.standing.accepted_rows:
        return False
    if state.tail is None:
        state.tail = sorted(_laggards(state), key=lambda late: (-late.finish, late.lease.lease))
    rate = rig.rate(state.policy)
    soonest = state.at + rig.in_hand / rate + state.policy.hedge_margin_seconds
    for late in state.tail:
        if soonest >= late.finish:
            return False  # and so are all the others
        lease = late.lease
        if late.work == 0 or lease.rig is rig or lease.model not in rig.staged:
            continue
        if not room.may_take(state, rig, lease.model) or not _may_see(state, rig, lease):
            continue
        if late.work is None:
            late.work = sum(int(block.works[r].sum()) for block, r in _unhedged(state, lease))
        if not late.work:
            continue
        if soonest + min(late.work, rig.difficulty) / rate >= late.finish:
            continue
        segments, works = _take(state, rig, lease)
        if not segments or soonest + int(works.sum()) / rate >= late.finish:
            continue
        late.work -= int(works.sum())
        leases.issue(
            state,
            rig,
            lease.model,
            lease.operation,
            segments,
            works,
            direct=lease.direct,
            tasks={},
        )
        return True
    return False


def _may_see(state: State, rig: Rig, lease: Lease) -> bool:
    """Whether the rig may have every row of a lease that is still wanted."""
    numbers = {segment.job for segment in lease.segments if owes(segment)}
    wanted = [state.jobs[number] for number in numbers if number in state.jobs]
    return all(room.may_see(state, rig, job) for job in wanted)


def _laggards(state: State) -> Iterator[Laggard]:
    """Open leases, and when they are expected to be finished."""
    policy = state.policy
    for rig in state.rigs.values():
        if not rig.leases:
            continue
        rate = rig.rate(policy)
        finish = max(rig.busy_since, next(iter(rig.leases.values())).issued)
        for lease in rig.leases.values():
            finish += lease.left / rate
            late = state.at - finish
            if rig.session is None:
                yield Laggard(lease.deadline + policy.lease_min_seconds, lease)
            else:  # what is late may be as late again
                yield Laggard(finish if late < 0 else state.at + late, lease)


def _unhedged(state: State, lease: Lease) -> Iterator[tuple[Block, Rows]]:
    """Rows that it still owes, nobody else holds and nobody did, in the share's order."""
    for segment, start, stop, _ in lease.pieces(lease.next_row, lease.rows):
        block = state.block(segment.job, segment.block)
        if block is None or not owes(segment) or state.jobs[segment.job].cancelled:
            continue
        alone = (block.state[start:stop] == LEASED) & (block.holders[start:stop] == 1)
        yield block, np.flatnonzero(alone) + start


def _take(state: State, rig: Rig, lease: Lease) -> tuple[tuple[Segment, ...], NDArray[np.int64]]:
    """Its last such rows, as many as fit one share of this rig (the slow one is at the front)."""
    policy = state.policy
    segments: list[Segment] = []
    works: list[NDArray[np.int64]] = []
    work = count = tokens = result = 0
    for block, rows in reversed(list(_unhedged(state, lease))):
        backwards = rows[::-1]
        row_bytes = max(1, state.jobs[block.job].row_bytes)
        sums = np.cumsum(block.works[backwards]) + work
        bytes_in = (np.cumsum(block.lengths[backwards], dtype=np.int64) + tokens) * _TOKEN_BYTES
        fit = min(
            int(np.searchsorted(sums, rig.difficulty, side="right")),
            int(np.searchsorted(bytes_in, policy.max_share_input_bytes, side="right")),
            policy.max_share_rows - count,
            (policy.max_share_result_bytes - result) // row_bytes,
        )
        fit = max(fit, 0 if count else 1)
        taken = rows[rows.size - min(fit, rows.size) :]
        if not taken.size:
            if rows.size:
                break
            continue
        bounds = np.flatnonzero(np.diff(taken) != 1) + 1
        for run in reversed(np.split(taken, bounds)):
            segments.append(Segment(block.job, block.no, int(run[0]), int(run[-1]) + 1, Kind.HEDGE))
            works.append(block.works[run])
        work += int(block.works[taken].sum())
        tokens += int(block.lengths[taken].sum())
        result += row_bytes * taken.size
        count += taken.size
        if taken.size < rows.size:
            break
    segments.reverse()
    works.reverse()
    return tuple(segments), np.concatenate(works) if works else np.zeros(0, np.int64)
