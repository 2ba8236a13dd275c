"""Leases: issued, kept alive, ended."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shares.blocks import Segment, owes
from shares.board import checks, room, rows
from shares.board.effects import Cancel, Disconnect, LeaseEnded, LeaseIssued, Notify, SetDifficulty
from shares.board.state import Block, Lease, Rig, State, Task
from shares.vardiff import clamp

_SLOWEST = 3600.0  # seconds; a deadline further away than a day says nothing


def issue(
    state: State,
    rig: Rig,
    model: str,
    operation: str,
    segments: tuple[Segment, ...],
    works: NDArray[np.int64],
    *,
    direct: bool,
    tasks: dict[int, Task],
) -> Lease:
    """A share was cut: lease it and send it."""
    policy = state.policy
    assert rig.session is not None
    work = int(works.sum())
    expected = (rig.in_hand + work) / rig.rate(policy)
    allowed = max(policy.lease_min_seconds, policy.lease_factor * min(expected, _SLOWEST))
    lease = Lease(
        lease=state.lease_id(),
        rig=rig,
        model=model,
        operation=operation,
        segments=segments,
        rows=len(works),
        work=work,
        difficulty=rig.difficulty,
        issued=state.at,
        deadline=state.at + allowed,
        latest=state.at + allowed * policy.lease_factor,
        direct=direct,
        works=works,
        left=work,
        tasks=tasks,
    )
    state.emit(
        LeaseIssued(
            lease.lease,
            *rig.key,
            model,
            operation,
            segments,
            lease.rows,
            work,
            lease.difficulty,
            lease.issued,
            lease.deadline,
        )
    )
    state.emit(Notify(rig.session, lease.lease, model, operation, segments, allowed))
    hold(state, lease)
    room.count_in(state, lease)
    return lease


def hold(state: State, lease: Lease) -> None:
    """Enter an open lease everywhere (its accepted rows, after a restart, are not held)."""
    enter(state, lease)
    state.open[lease.lease] = lease
    lease.rig.leases[lease.lease] = lease
    lease.rig.in_hand += lease.left
    rows.lease(state, lease)


def enter(state: State, lease: Lease) -> None:
    """Know a share until its verdict."""
    state.leases[lease.lease] = lease
    for segment in lease.segments:
        job = state.jobs.get(segment.job)
        if job is not None and owes(segment):
            job.shares[lease.lease] = lease


def extend(state: State, lease: Lease) -> None:
    """A part arrived: allow for what is left, within four times what was allowed at first."""
    policy = state.policy
    needed = policy.lease_factor * lease.left / lease.rig.rate(policy)
    lease.deadline = max(lease.deadline, min(lease.latest, state.at + needed))


def end(state: State, lease: Lease, how: str, fault: str, *, tell: str = "") -> None:
    """Expect no more of an open lease; what it did not finish opens again.

    ``tell``: the reason for a ``Cancel`` to its rig; "" when the rig knows or is not there.
    """
    rig = lease.rig
    state.emit(LeaseEnded(lease.lease, how, fault, state.at))
    if tell and rig.session is not None:
        state.emit(Cancel(rig.session, lease.lease, tell))
    lease.state = how
    lease.ended_at = state.at
    if how == "cancelled":
        state.called_off[lease.lease] = lease
    if how in ("expired", "released", "malformed"):
        for segment, start, stop, _ in lease.pieces(lease.next_row, lease.rows):
            block = state.block(segment.job, segment.block)
            if block is not None and owes(segment):
                rows.drop_from(block, rig, start, stop)
        if not lease.accepted:
            _fruitless(state, rig)
    rows.give_back(state, lease, lease.next_row, lease.rows)
    leave(state, lease)
    for task in lease.tasks.values():
        checks.hand_back(state, task)
    lease.tasks.clear()
    if not rig.leases:
        rig.busy_since = state.at
    state.wake[rig.key] = rig


def leave(state: State, lease: Lease) -> None:
    """Take a lease that is no longer open out of the rig's hands; it waits for its verdict."""
    rig = lease.rig
    del state.open[lease.lease]
    del rig.leases[lease.lease]
    rig.in_hand -= lease.left
    if not rig.leases:
        state.away.pop(rig.key, None)
    for segment in lease.segments:
        block = state.block(segment.job, segment.block)
        if block is not None:
            block.lessees.pop(lease.lease, None)
    state.waiting[lease.lease] = lease
    state.ripe[lease.lease] = lease


def _fruitless(state: State, rig: Rig) -> None:
    """One more share came to nothing: pause for longer and longer, so that it cannot spin."""
    rig.failures += 1
    rig.rest_until = state.at + min(state.policy.rest_seconds, 2.0 ** (rig.failures - 1))


def allow(state: State, seconds: float) -> None:
    """The pool kept its rigs waiting: every deadline moves by as much."""
    for rig in state.away.values():
        rig.grace_until += seconds
    for lease in state.open.values():
        lease.deadline += seconds
        lease.latest += seconds


def expire(state: State) -> None:
    """End the leases whose time is over, and those of rigs that did not come back."""
    for rig in list(state.away.values()):
        if state.at >= rig.grace_until:
            for lease in list(rig.leases.values()):
                end(state, lease, "expired", "network")
    for lease in [lease for lease in state.open.values() if state.at >= lease.deadline]:
        rig = lease.rig
        if rig.session is None:
            end(state, lease, "expired", "network")
            continue
        end(state, lease, "expired", "rig", tell="expired")
        rig.meter.slow_down()
        ceiling = rig.ceiling(state.policy)
        set_difficulty(state, rig, clamp(rig.difficulty / 2, ceiling, state.policy))


def set_difficulty(state: State, rig: Rig, difficulty: int) -> None:
    """Shares cut from now on hold about this much work."""
    if difficulty != rig.difficulty:
        rig.difficulty = difficulty
        if rig.session is not None:
            state.emit(SetDifficulty(rig.session, difficulty))


def superseded(state: State, block: Block) -> None:
    """Rows of the block are done: cancel the open leases that owe nothing that is wanted."""
    for lease in list(block.lessees.values()):
        if not any(
            rows.wanted(state, start, stop, state.block(segment.job, segment.block))
            if owes(segment)
            else any(task.check in state.checks for task in lease.tasks.values())
            for segment, start, stop, _ in lease.pieces(lease.next_row, lease.rows)
        ):
            end(state, lease, "cancelled", "none", tell="superseded")


def disconnect(state: State, rig: Rig, reason: str) -> None:
    """Say why and close the rig's session; its leases stay."""
    if rig.session is not None:
        state.emit(Disconnect(rig.session, reason))
        part_with(state, rig)


def part_with(state: State, rig: Rig) -> None:
    """The rig's session is over."""
    assert rig.session is not None
    del state.sessions[rig.session]
    rig.session = None
    rig.staged.clear()
    state.rates.clear()
    state.hungry.pop(rig.key, None)
    state.wake.pop(rig.key, None)
