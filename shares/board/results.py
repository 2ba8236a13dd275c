"""Results: parts accepted or refused, what they won, what of them is drawn, what they earn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from shares.blocks import Kind, Segment, owes
from shares.board import checks, doubts, leases, opinions, progress, rows, trials
from shares.board.effects import (
    Accepted,
    CreditEarned,
    LeaseEnded,
    PartAccepted,
    PayloadDropped,
    Refused,
    Won,
)
from shares.board.events import LeaseReleased, PartMalformed, PartSubmitted
from shares.board.state import DONE, Block, Check, Credit, Job, Lease, RowKey, State
from shares.results import DIGEST_BYTES, part_digest
from shares.trust.sampling import (
    CHECK,
    NO_KEY,
    REFEREE,
    SUSPECT,
    draw,
    least_of,
)
from shares.vardiff import retarget

_OTHER, _STALE, _DUPLICATE, _MALFORMED = 20, 21, 22, 31  # of stratum.errors


@dataclass(slots=True, eq=False)
class _Findings:
    """What one part turns out to be, before any of it is announced."""

    part: int
    first: int
    digests: NDArray[np.uint8]  # [rows, 16]
    won: NDArray[np.bool_]  # [rows]
    known: NDArray[np.bool_]  # [rows] in a block that is in memory
    in_time: bool
    runs: list[Won] = field(default_factory=list)
    # {(job, kind, source): [work, units]}
    pay: dict[tuple[int, str, str], list[int]] = field(default_factory=dict)
    price: int = 0  # the highest of its jobs
    matched: list[Check] = field(default_factory=list)
    differing: list[Check] = field(default_factory=list)
    decided: list[Check] = field(default_factory=list)  # the referee has spoken on the row
    heard: list[tuple[Check, bytes]] = field(default_factory=list)  # of witnesses: what it gave
    disputed: list[RowKey] = field(default_factory=list)  # differs from what is recorded
    finished: dict[tuple[int, int], Block] = field(default_factory=dict)  # others hold rows of it

    def earn(self, job: int, kind: str, source: str, work: int, amount: int) -> None:
        sums = self.pay.setdefault((job, kind, source), [0, 0])
        sums[0] += work
        sums[1] += amount


def submitted(state: State, event: PartSubmitted) -> None:
    """A part came: refuse it, or make it durable, pay it and draw from it."""
    if len(event.digests) != DIGEST_BYTES * event.rows or event.rows < 1:
        raise ValueError(f"a part of {event.rows} rows needs {DIGEST_BYTES} bytes of digest a row")
    lease = _lease_of(state, event.session, event.lease)
    if lease is None:
        _refuse(state, event, _STALE, "unknown_lease")
        return
    if 0 <= event.part < len(lease.part_starts):
        _refuse(state, event, _DUPLICATE, "duplicate_part")
        return
    stop = event.first_row + event.rows
    if (
        event.part != len(lease.part_starts)
        or event.first_row != lease.next_row
        or stop > lease.rows
        or event.final != (stop == lease.rows)
    ):
        _refuse(state, event, _OTHER, "out_of_order")
        return
    _accept(state, event, lease)


def malformed(state: State, event: PartMalformed) -> None:
    """A part of the wrong shape or with impossible values ends its lease; nobody pays."""
    lease = _lease_of(state, event.session, event.lease)
    if lease is None:
        state.emit(Refused(event.session, event.request, _STALE, "unknown_lease"))
        return
    if lease.state == "open":
        leases.end(state, lease, "malformed", "rig")
    state.emit(Refused(event.session, event.request, _MALFORMED, event.reason))


def released(state: State, event: LeaseReleased) -> None:
    """The rig hands the rest of a share back."""
    lease = _lease_of(state, event.session, event.lease)
    if lease is None or lease.state != "open":
        state.emit(Refused(event.session, event.request, _STALE, "unknown_lease"))
        return
    leases.end(state, lease, "released", "none")
    state.emit(Accepted(event.session, event.request))


def _lease_of(state: State, session: int, number: int) -> Lease | None:
    rig = state.sessions.get(session)
    lease = state.leases.get(number)
    return lease if rig is not None and lease is not None and lease.rig is rig else None


def _refuse(state: State, event: PartSubmitted, code: int, reason: str) -> None:
    state.emit(PayloadDropped(event.payload))
    state.emit(Refused(event.session, event.request, code, reason))


def _accept(state: State, event: PartSubmitted, lease: Lease) -> None:
    rig = lease.rig
    found = _look(state, event, lease)
    _record(state, event, lease, found)
    for check in found.matched:
        checks.ended(state, check, "matched", ".".join(rig.key))
    for check in found.differing:
        doubts.of_check(state, lease, check)
    for check, given in found.heard:
        hear = opinions.heard if check.trial is None else trials.heard
        hear(state, check, lease, given)
    for check in found.decided:
        checks.refer_check(state, check)
    for key in found.disputed:
        doubts.of_result(state, lease, key)
    state.changed[rig.key] = rig
    if lease.state == "open":
        if event.final:
            _finish(state, lease)
        else:
            leases.extend(state, lease)
    state.ripe[lease.lease] = lease
    state.emit(Accepted(event.session, event.request))
    for block in found.finished.values():
        leases.superseded(state, block)
    state.wake[rig.key] = rig


# ── what the part is ─────────────────────────────────────────────────────────


def _look(state: State, event: PartSubmitted, lease: Lease) -> _Findings:
    """Compare every row with what is known and let it win what is not done."""
    found = _Findings(
        part=event.part,
        first=event.first_row,
        digests=np.frombuffer(event.digests, np.uint8).reshape(event.rows, DIGEST_BYTES),
        won=np.zeros(event.rows, np.bool_),
        known=np.zeros(event.rows, np.bool_),
        in_time=state.at <= lease.deadline,
    )
    stop = event.first_row + event.rows
    for segment, start, end, share_row in lease.pieces(event.first_row, stop):
        block = state.block(segment.job, segment.block)
        if segment.kind is Kind.CHECK:
            for row in range(start, end):
                _look_at_check(state, lease, block, segment, row, share_row + row - start, found)
        elif block is not None:
            _look_at_rows(state, lease, block, start, end, share_row, found)
    if lease.state == "open":
        rows.give_back(state, lease, event.first_row, stop)
    return found


def _look_at_rows(
    state: State,
    lease: Lease,
    block: Block,
    start: int,
    end: int,
    share_row: int,
    found: _Findings,
) -> None:
    job = state.jobs[block.job]
    low = share_row - found.first
    mine = found.digests[low : low + end - start]
    found.known[low : low + end - start] = True
    found.price = max(found.price, job.price)
    late = lease.state != "open" and not found.in_time
    fresh = block.state[start:end] < DONE
    if fresh.any() and not (job.cancelled and late):
        won = rows.span(start, end)[fresh]
        if (block.holders[won] > (1 if lease.state == "open" else 0)).any():
            found.finished[block.job, block.no] = block
        work = rows.win(job, block, won, lease, mine[fresh])
        progress.accepted(job, work, state.at)
        found.earn(job.job, "row", "pay", work, work * job.price)
        found.won[low : low + end - start] = fresh
        for first, last in _runs(won):
            found.runs.append(Won(job.job, block.no, first, last + 1, low + first - start))
    done = ~fresh
    if done.any():
        there = rows.span(start, end)[done]
        equal = (block.digests[there] == mine[done]).all(axis=1)
        # What is alike without being equal is paid as well: what is not is found out, and lost.
        _pay_hedge(state, lease, job, block, there[equal] if job.exact else there, found)
        found.disputed += [(job.job, block.no, row) for row in there[~equal].tolist()]
    if block.truth:  # the referee may have spoken on some of these rows
        for row in (np.flatnonzero(block.told[start:end]) + start).tolist():
            if block.truth[row] != mine[row - start].tobytes():
                found.disputed.append((job.job, block.no, row))


def _pay_hedge(
    state: State,
    lease: Lease,
    job: Job,
    block: Block,
    equal: rows.Rows,
    found: _Findings,
) -> None:
    """An honest loser that was in time is paid as a checker would be, from the job's levy.

    Only of a share that it still held: who gave rows up and copies what another computed of them
    has done nothing. And never from the reserve, which is for checks that the pool asked for.
    """
    if not found.in_time or not equal.size or lease.state not in ("open", "cancelled"):
        return
    others = np.array(
        [block.winners[won].key[0] != lease.account for won in block.winner[equal].tolist()]
    )
    work = int(block.works[equal[others]].sum())
    amount = work * job.price
    if 0 < amount <= job.check_left - checks.promised(job):
        job.check_left -= amount
        found.earn(job.job, "hedge", "check", work, amount)


def _look_at_check(
    state: State,
    lease: Lease,
    block: Block | None,
    segment: Segment,
    row: int,
    share_row: int,
    found: _Findings,
) -> None:
    """A row computed for a check: paid as agreed, and compared."""
    task = lease.tasks.pop(share_row, None)
    if task is not None and task.amount:
        _pay_check(state, task.job, task.work, task.amount, task.source, found)
    if block is None:
        return
    low = share_row - found.first
    found.known[low] = True
    found.price = max(found.price, state.jobs[block.job].price)
    mine = found.digests[low].tobytes()
    key = (segment.job, segment.block, row)
    check = state.checks.get(task.check) if task is not None else None
    if row in block.truth:
        if block.truth[row] != mine:
            found.disputed.append(key)
        if check is not None:
            if check.witness is None:
                found.decided.append(check)
            else:
                found.heard.append((check, mine))
        return
    if check is not None and not (check.accuser or check.doubted):
        target = check.target
        same = target.digest(target.find(key)) == mine
        (found.matched if same else found.differing).append(check)
    elif block.state[row] >= DONE and block.digests[row].tobytes() != mine:
        found.disputed.append(key)


def _pay_check(
    state: State, number: int, work: int, amount: int, source: str, found: _Findings
) -> None:
    if source == "check" and number not in state.jobs:
        # The job is closed and its check budget gone: the reserve pays for honest late work.
        if state.reserve < amount:
            return
        state.reserve -= amount
        source = "reserve"
    found.earn(number, "check", source, work, amount)


def _runs(positions: rows.Rows) -> Iterator[tuple[int, int]]:
    """Ascending positions as runs (first, last)."""
    if not positions.size:
        return iter(())
    breaks = np.flatnonzero(np.diff(positions) != 1)
    firsts = positions[np.concatenate(([0], breaks + 1))]
    lasts = positions[np.concatenate((breaks, [positions.size - 1]))]
    return zip(firsts.tolist(), lasts.tolist(), strict=True)


# ── what is recorded of it ───────────────────────────────────────────────────


def _record(state: State, event: PartSubmitted, lease: Lease, found: _Findings) -> None:
    """Announce the part, its draw and its pay, and remember them."""
    rig = lease.rig
    stop = event.first_row + event.rows
    works = lease.works[event.first_row : stop]
    work = int(works.sum())
    digest = part_digest(event.digests)
    why = _why(state, lease)
    held, row_work = rig.standing.held, rig.standing.row_work
    by_rigs, by_referee = rig.standing.rates(why, found.price, state.policy)
    least = _least(state, lease, event.first_row, stop)
    drawing = (state.key, lease.lease, event.part, digest)
    for_rigs = _draw(
        CHECK, drawing, works, by_rigs, row_work, found.won, least_of(least, event.rows)
    )
    for_referee = _draw(REFEREE, drawing, works, by_referee, row_work, found.known)
    state.emit(
        PartAccepted(
            lease=lease.lease,
            part=event.part,
            first_row=event.first_row,
            rows=event.rows,
            payload=event.payload,
            digests=event.digests,
            digest=digest,
            epoch=state.epoch,
            check_rate_ppm=by_rigs,
            referee_rate_ppm=by_referee,
            row_work=row_work,
            why=why,
            held=held,
            price=found.price,
            works=tuple((work, sum(1 for _ in same)) for work, same in groupby(works.tolist())),
            over=tuple((a, b + 1) for a, b in _runs(np.flatnonzero(~found.known))),
            check_rows=for_rigs,
            referee_rows=for_referee,
            policy=state.policy.version,
            won=tuple(found.runs),
            at=state.at,
            least=least,
        )
    )
    for (job, kind, source), (paid_work, amount) in found.pay.items():
        lease.credits.append(Credit(event.part, job, kind, source, paid_work, amount))
        state.emit(
            CreditEarned(lease.lease, event.part, job, kind, source, *rig.key, paid_work, amount)
        )
    if not lease.accepted:
        rig.shares[lease.lease] = lease
    rig.failures = 0
    lease.part_starts.append(event.first_row)
    lease.next_row = stop
    lease.last_part_at = state.at
    lease.digests += event.digests
    lease.left -= work
    rig.standing.accepted(works)
    if lease.state == "open":
        rig.in_hand -= work
        rig.meter.add(
            work,
            state.at - max(lease.issued, rig.busy_since),
            state.policy.rate_memory_seconds,
        )
        rig.busy_since = state.at
    twice = set(for_referee)
    for row in for_referee:
        share_row = event.first_row + row
        check = checks.drawn(state, lease, share_row, _key(lease, share_row), "referee")
        checks.refer_check(state, check)
    for row in for_rigs:
        if row not in twice:  # the referee's word serves both
            share_row = event.first_row + row
            check = checks.drawn(state, lease, share_row, _key(lease, share_row), "rig")
            checks.offer(state, check)


def _why(state: State, lease: Lease) -> str:
    if not state.key:
        return NO_KEY
    if lease.suspect:
        return SUSPECT
    return state.why(lease.rig, lease.model)


def _draw(
    purpose: str,
    drawing: tuple[bytes, int, int, bytes],
    works: NDArray[np.int64],
    rate: int,
    row_work: int,
    eligible: NDArray[np.bool_],
    least: NDArray[np.int64] | int = 0,
) -> tuple[int, ...]:
    key, lease, part, digest = drawing
    return draw(key, purpose, lease, part, digest, works, rate, row_work, eligible, least)


def _least(state: State, lease: Lease, first: int, stop: int) -> tuple[tuple[int, int, int], ...]:
    """Runs of the part's rows whose customer bought assurance (see ``PartAccepted.least``)."""
    runs: list[tuple[int, int, int]] = []
    for segment, begin, end, share_row in lease.pieces(first, stop):
        job = state.jobs.get(segment.job)
        if job is None or not job.assurance_ppm or not owes(segment):
            continue
        start, ppm = share_row - first, job.assurance_ppm
        if runs and runs[-1][1:] == (start, ppm):
            start = runs.pop()[0]
        runs.append((start, share_row - first + end - begin, ppm))
    return tuple(runs)


def _key(lease: Lease, share_row: int) -> RowKey:
    segment, row, _, _ = next(lease.pieces(share_row, share_row + 1))
    return segment.job, segment.block, row


def _finish(state: State, lease: Lease) -> None:
    """The share's last part came in its time."""
    rig = lease.rig
    lease.state = "done"
    lease.ended_at = state.at
    state.emit(LeaseEnded(lease.lease, "done", "none", state.at))
    leases.leave(state, lease)
    rate = rig.meter.rate
    if rate is not None:
        ceiling = rig.ceiling(state.policy)
        leases.set_difficulty(state, rig, retarget(rig.difficulty, rate, ceiling, state.policy))
