"""The hedged tail: with nothing left to lease, a faster rig gets a slower one's rows as well."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shares.blocks import Kind, Segment
from shares.board import leases
from shares.board.state import LEASED, Lease, Rig, State, owes


def hedge(state: State, rig: Rig) -> bool:
    """Lease the rows that are expected last a second time, if this rig finishes them sooner."""
    if not rig.standing.accepted_rows:
        return False
    for finish, lease in sorted(_expected(state, rig), key=lambda item: (-item[0], item[1].lease)):
        segments, works = _unhedged(state, rig, lease)
        if not segments:
            continue
        mine = state.at + (rig.in_hand + int(works.sum())) / rig.rate(state.policy)
        if mine + state.policy.hedge_margin_seconds >= finish:
            continue
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


def _expected(state: State, rig: Rig) -> Iterator[tuple[float, Lease]]:
    """When open leases of other rigs will be finished, by their rigs' speed."""
    policy = state.policy
    for other in state.rigs.values():
        if other is rig or not other.leases:
            continue
        rate = other.rate(policy)
        finish = max(other.busy_since, next(iter(other.leases.values())).issued)
        for lease in other.leases.values():
            finish += lease.left / rate
            if lease.model not in rig.staged:
                continue
            late = state.at - finish
            if other.session is None:
                yield lease.deadline + policy.lease_min_seconds, lease
            else:  # what is late may be as late again
                yield (finish if late < 0 else state.at + late), lease


def _unhedged(
    state: State, rig: Rig, lease: Lease
) -> tuple[tuple[Segment, ...], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Its last rows that nobody else holds and nobody did, as much as fits one share."""
    policy = state.policy
    segments: list[Segment] = []
    works = []
    work = count = tokens = result = 0
    for segment, start, stop, _ in reversed(list(lease.pieces(lease.next_row, lease.rows))):
        block = state.block(segment.job, segment.block)
        if block is None or not owes(segment) or state.jobs[segment.job].cancelled:
            continue
        row_bytes = state.jobs[segment.job].row_bytes
        free = (block.state[start:stop] == LEASED) & (block.holders[start:stop] == 1)
        high = stop
        for row in range(stop - 1, start - 2, -1):
            usable = row >= start and bool(free[row - start])
            if usable:
                work += int(block.works[row])
                count += 1
                tokens += int(block.lengths[row])
                result += row_bytes
            full = (
                usable
                and count > 1
                and (
                    work > rig.difficulty
                    or count > policy.max_share_rows
                    or tokens * 4 > policy.max_share_input_bytes
                    or result > policy.max_share_result_bytes
                )
            )
            if not usable or full:
                if row + 1 < high:
                    segments.append(Segment(segment.job, segment.block, row + 1, high, Kind.HEDGE))
                    works.append(block.works[row + 1 : high])
                high = row
            if full:
                break
        else:
            continue
        break
    segments.reverse()
    works.reverse()
    together = np.concatenate(works) if works else np.zeros(0, np.int64)
    return tuple(segments), together
