"""Recounts: a share was rejected for one wrong row, and the referee computes all of its others.

Another wrong row makes an offence of it. A recount is durable from its beginning to its end: a
pool that is killed in between asks the referee again for every row but the one that was found.
"""

from __future__ import annotations

from shares.board import checks
from shares.board.effects import RecountBegun, RecountEnded
from shares.board.state import Lease, Recount, State


def begin(state: State, lease: Lease, wrong: int) -> None:
    """Count a rejected share through. ``wrong``: the row of the share that was found."""
    if _ask(state, lease, wrong):
        state.emit(RecountBegun(lease.lease, wrong))


def resume(state: State, lease: Lease, wrong: int) -> None:
    """Go on after a restart: what the referee had said before is not known any more."""
    if not _ask(state, lease, wrong):
        state.emit(RecountEnded(lease.lease))


def _ask(state: State, lease: Lease, wrong: int) -> bool:
    """Ask for what the referee has not seen yet of it; whether there is any."""
    recount = Recount(lease)
    for segment, start, stop, share_row in lease.pieces(0, lease.next_row):
        block = state.block(segment.job, segment.block)
        if block is None:
            continue
        for row in range(start, stop):
            place = share_row + row - start
            if row in block.truth or place == wrong:
                continue
            key = (segment.job, segment.block, row)
            recount.waiting[key] = None
            case = checks.ask(state, key, lease.rig, urgent=False)
            case.recounts[lease.lease] = (recount, place)
    if recount.waiting:
        state.recounts[lease.lease] = recount
    return bool(recount.waiting)


def end_if_done(state: State, recount: Recount) -> None:
    """Its last row was counted, or cannot be any more."""
    if not recount.waiting and state.recounts.pop(recount.lease.lease, None) is not None:
        state.emit(RecountEnded(recount.lease.lease))


def stop(state: State, recount: Recount) -> None:
    """Nothing more needs to be known of the share."""
    for job, number, row in recount.waiting:
        block = state.block(job, number)
        if block is not None and row in block.cases:
            case = block.cases[row]
            case.recounts.pop(recount.lease.lease, None)
            checks.tidy(block, case)
    recount.waiting.clear()
    end_if_done(state, recount)
