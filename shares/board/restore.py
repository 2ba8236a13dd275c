"""From a snapshot back to a board: everything open goes on, nothing is drawn or paid twice."""

from __future__ import annotations

import numpy as np

from shares.blocks import Kind, owes
from shares.board import checks, doubts, jobs, leases, recounts, rows, verdicts
from shares.board.snapshot import OpenJob, Snapshot, StoredLease
from shares.board.state import CLEARED, DONE, Block, Check, Credit, Lease, State
from shares.policy import Policy
from shares.results import DIGEST_BYTES


def restored(policy: Policy, snapshot: Snapshot, at: float) -> State:
    """The state that a snapshot describes, before ``start`` asks for anything."""
    first = snapshot.boot << 32
    state = State(policy, snapshot.reserve, first, first, at)
    state.suspected_blocks.update(snapshot.suspected_blocks)
    for account, number, model, kind, count in snapshot.excused:
        state.excused.setdefault(account, {})[number] = (model, kind, count)
    for record in snapshot.trust:
        standing = state.rig((record.account, record.rig)).standing
        for name in standing.__dataclass_fields__:
            setattr(standing, name, getattr(record, name))
        standing.proved = dict(record.proved)
    for stored in sorted(snapshot.jobs, key=lambda job: (job.created, job.job)):
        _job(state, stored)
    for lease in sorted(snapshot.leases, key=lambda lease: lease.lease):
        _lease(state, lease)
    return state


def start(state: State, snapshot: Snapshot) -> None:
    """What the restored state asks for."""
    for stored in sorted(snapshot.checks, key=lambda check: check.check):
        target = state.leases.get(stored.lease)
        asked = stored.by in ("witness", "opinion")  # they are asked anew
        if asked or target is None or state.block(stored.job, stored.block) is None:
            verdicts.void_orphan(state, stored.check)
            continue
        key = (stored.job, stored.block, stored.row)
        check = Check(stored.check, stored.by, target, stored.part, key, state.at)
        checks.enter(state, check)
    open_checks = {check.key: check for check in state.checks.values() if check.by == "rig"}
    for lease in list(state.leases.values()):
        _set_aside(state, lease, open_checks)
        _disagreements(state, lease, open_checks)
    for check in list(state.checks.values()):
        if check.by == "referee":
            checks.refer_check(state, check)
        elif not (check.lessee or check.referred or check.doubted):
            checks.put(state, check)  # rigs are on their way back; patience ends it
    for share in snapshot.leases:
        if share.trial is not None:
            _try_again(state, state.leases[share.lease], *share.trial)
    for recount in snapshot.recounts:
        recounts.resume(state, _share(state, recount.lease), recount.row)
    state.ripe.update(state.waiting)
    state.unsettled.update(state.jobs)
    jobs.want_everywhere(state)


def _job(state: State, stored: OpenJob) -> None:
    budget = stored.check_left if stored.check_budget is None else stored.check_budget
    job = jobs.add(
        state,
        job=stored.job,
        account=stored.account,
        model=stored.model,
        operation=stored.operation,
        direct=stored.direct,
        blocks=stored.blocks,
        rows=stored.rows,
        work=stored.work,
        price=stored.price,
        row_bytes=stored.row_bytes,
        check_left=stored.check_left,
        check_budget=budget,
        created=stored.created,
        assurance_ppm=stored.assurance_ppm,
        trusted=stored.trusted,
        exact=stored.exact,
    )
    job.cleared = set(stored.cleared_blocks)
    job.cleared_rows = job.accepted_rows = stored.cleared_rows
    job.cleared_work = job.accepted_work = stored.cleared_work
    job.open_work -= stored.cleared_work
    job.unopened_work -= stored.cleared_work
    for block in stored.open_blocks:
        if block.block not in job.cleared:
            jobs.add_block(job, Block(stored.job, block.block, block.lengths, block.works))
    if stored.cancelled:
        jobs.cancel(job, stored.cancelled)


def _lease(state: State, stored: StoredLease) -> None:
    lease = _share(state, stored)
    rig = lease.rig
    for part in stored.parts:
        digests = np.frombuffer(part.digests, np.uint8).reshape(part.rows, DIGEST_BYTES)
        for won in part.won:
            block = state.block(won.job, won.block)
            if block is not None:
                mine = digests[won.first_row : won.first_row + won.stop - won.start]
                span = rows.span(won.start, won.stop)
                job = state.jobs[won.job]
                rows.win(job, block, span, lease, mine)
                if stored.verdict == "cleared":
                    rows.clear(job, block, span)
    if stored.verdict == "cleared":
        return
    lease.left = int(lease.works[lease.next_row :].sum())
    lease.credits = [
        Credit(c.part, c.job, c.kind, c.source, c.work, c.amount) for c in stored.credits
    ]
    rig.difficulty = stored.difficulty
    if lease.accepted:
        rig.shares[lease.lease] = lease
    if stored.state == "open":
        leases.hold(state, lease)
        rig.grace_until = state.at + state.policy.restart_grace_seconds
        state.away[rig.key] = rig
    else:
        leases.enter(state, lease)
        state.waiting[lease.lease] = lease


def _try_again(state: State, lease: Lease, row: int, kind: str) -> None:
    """A row of the share was found wrong before: the referee says so again, and its trial begins
    anew when witnesses are back."""
    state.back_by = state.at + state.policy.restart_grace_seconds
    lease.rig.kinds = (kind,)
    segment, first, _, _ = next(lease.pieces(row, row + 1))
    if state.block(segment.job, segment.block) is not None:
        key = (segment.job, segment.block, first)
        checks.claim(checks.ask(state, key, lease.rig, urgent=True), lease)


def _share(state: State, stored: StoredLease) -> Lease:
    """A lease as it was, with the digests of what was accepted of it; known to nobody yet."""
    policy = state.policy
    count = sum(segment.rows for segment in stored.segments)
    works = np.zeros(count, np.int64)
    allowed = max(policy.lease_min_seconds, stored.deadline - stored.issued)
    back = state.at + policy.restart_grace_seconds  # the pool's absence is not held against it
    lease = Lease(
        lease=stored.lease,
        rig=state.rig((stored.account, stored.rig)),
        model=stored.model,
        operation=stored.operation,
        segments=stored.segments,
        rows=count,
        work=stored.work,
        difficulty=stored.difficulty,
        issued=stored.issued,
        deadline=back + allowed,
        latest=back + allowed * policy.lease_factor,
        direct=_direct(state, stored),
        works=works,
        left=0,
        state=stored.state,
        # What was on its way to a cancelled lease was lost with the connection.
        ended_at=0.0 if stored.state == "cancelled" else state.at,
        suspect=stored.suspect,
    )
    for segment, begin, stop, row in lease.pieces(0, count):
        block = state.block(segment.job, segment.block)
        if block is not None:
            works[row : row + stop - begin] = block.works[begin:stop]
    for part in sorted(stored.parts, key=lambda part: part.part):
        lease.part_starts.append(part.first_row)
        lease.next_row = part.first_row + part.rows
        lease.last_part_at = part.at
        lease.digests += part.digests
    return lease


def _direct(state: State, stored: StoredLease) -> bool:
    found = [state.jobs.get(segment.job) for segment in stored.segments]
    return all(job is not None and job.direct for job in found)


def _set_aside(state: State, lease: Lease, open_checks: dict[tuple[int, int, int], Check]) -> None:
    """Units for the check rows that an open lease still owes."""
    if lease.state != "open":
        return
    for segment, begin, stop, share_row in lease.pieces(lease.next_row, lease.rows):
        if owes(segment):
            continue
        for row in range(begin, stop):
            key = (segment.job, segment.block, row)
            check = open_checks.get(key)
            if check is None or check.lessee:
                continue
            task = checks.take(state, check)
            if task is not None:
                lease.tasks[share_row + row - begin] = task
                check.lessee = lease.lease


def _disagreements(
    state: State, lease: Lease, open_checks: dict[tuple[int, int, int], Check]
) -> None:
    """Rows of which a share not yet judged differs from what is recorded."""
    for segment, begin, stop, share_row in lease.pieces(0, lease.next_row):
        block = state.block(segment.job, segment.block)
        if block is None:
            continue
        mine = np.frombuffer(bytes(lease.digests), np.uint8).reshape(-1, DIGEST_BYTES)
        mine = mine[share_row : share_row + stop - begin]
        done = (block.state[begin:stop] == DONE) | (block.state[begin:stop] == CLEARED)
        differs = done & (block.digests[begin:stop] != mine).any(axis=1)
        for row in (np.flatnonzero(differs) + begin).tolist():
            key = (segment.job, segment.block, row)
            check = open_checks.get(key)
            if segment.kind is Kind.CHECK and check is not None:
                doubts.of_check(state, lease, check)
            else:
                doubts.of_result(state, lease, key, again=True)
