"""Late cutting: a share is cut the moment a rig has room for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from shares.blocks import Kind, Segment
from shares.board import checks, hedging, jobs, leases
from shares.board.room import has_room, may_see, may_take, open_work
from shares.board.rows import Rows
from shares.board.state import OPEN, Block, Check, Job, Lease, Queue, Rig, RigKey, State, Task
from shares.policy import PPM, Policy

_TOKEN_BYTES = 4
_KINDS = (Kind.ROW, Kind.HEDGE, Kind.CHECK)
_ROW, _HEDGE, _CHECK = range(3)


def pump(state: State) -> None:
    """Give shares to rigs that may have room, in rounds of one share each."""
    if state.paused:
        return
    ready = state.wake
    state.wake = {}
    if state.work_came:
        ready = {**ready, **state.hungry}
        state.work_came = False
        if any(queue.direct and queue.ready for queue in state.queues.values()):
            # Who has no room for batches may still have the credit that is kept free.
            ready = {**ready, **{rig.key: rig for rig in state.sessions.values()}}
    _share_out(state, ready)
    if state.put_off:  # they may have a hundredth of what was leased by now
        put_off, state.put_off = state.put_off, {}
        _share_out(state, put_off)


def _share_out(state: State, ready: dict[RigKey, Rig]) -> None:
    rigs = [rig for rig in ready.values() if rig.session is not None]
    while rigs:
        rigs.sort(key=lambda rig: rig.in_hand / rig.rate(state.policy))
        rigs = [rig for rig in rigs if _give(state, rig)]


def _give(state: State, rig: Rig) -> bool:
    """Lease one share to the rig, if it has room and there is anything for it."""
    state.hungry.pop(rig.key, None)
    if has_room(state, rig, direct=True) and _cut(state, rig, direct=True):
        return True
    if not has_room(state, rig):
        if state.at < rig.rest_until:
            state.hungry[rig.key] = rig
        return False
    if _cut(state, rig, direct=False):
        return True
    nothing_open = _choose(state, rig, direct=False) is None
    if nothing_open and hedging.hedge(state, rig):
        return True
    state.hungry[rig.key] = rig
    return False


@dataclass(slots=True, eq=False)
class _Share:
    """A share being put together, within its limits."""

    policy: Policy
    size: int  # work it should hold at most
    work: int = 0
    rows: int = 0
    input_bytes: int = 0
    result_bytes: int = 0
    picks: list[tuple[Block, Rows, int]] = field(default_factory=list)
    tasks: list[tuple[Check, Task]] = field(default_factory=list)  # of its check rows

    def fits(self, block: Block, rows: Rows, row_bytes: int, limit: int) -> int:
        """How many of these rows, from the first on, the share can take.

        ``limit``: work allowed for them. An empty share takes at least one row.
        """
        policy = self.policy
        most = min(
            policy.max_share_rows - self.rows,
            (policy.max_share_result_bytes - self.result_bytes) // max(1, row_bytes),
            rows.size,
        )
        if most > 0:
            rows = rows[:most]
            works = np.cumsum(block.works[rows])
            room = min(limit, self.size - self.work)
            most = min(most, int(np.searchsorted(works, room, side="right")))
            tokens = np.cumsum(block.lengths[rows], dtype=np.int64)
            room = (policy.max_share_input_bytes - self.input_bytes) // _TOKEN_BYTES
            most = min(most, int(np.searchsorted(tokens, room, side="right")))
        return max(most, 0 if self.rows else 1)

    def takes(self, work: int, tokens: int, row_bytes: int, limit: int) -> bool:
        """Whether one more row fits, the share's work staying within ``limit``."""
        policy = self.policy
        return not self.rows or (
            self.work + work <= limit
            and self.rows < policy.max_share_rows
            and self.input_bytes + _TOKEN_BYTES * tokens <= policy.max_share_input_bytes
            and self.result_bytes + row_bytes <= policy.max_share_result_bytes
        )

    def add(self, block: Block, rows: Rows, row_bytes: int, kind: int) -> int:
        """Take rows into the share; returns their work."""
        work = int(block.works[rows].sum())
        self.picks.append((block, rows, kind))
        self.count(rows.size, work, int(block.lengths[rows].sum()), row_bytes)
        return work

    def count(self, rows: int, work: int, tokens: int, row_bytes: int) -> None:
        """Add so many rows to the sums."""
        self.work += work
        self.rows += rows
        self.input_bytes += _TOKEN_BYTES * tokens
        self.result_bytes += row_bytes * rows


def _cut(state: State, rig: Rig, *, direct: bool) -> bool:
    queue = _choose(state, rig, direct=direct)
    share = _Share(state.policy, _size(state, rig, queue))
    if queue is not None:
        model, operation = queue.model, queue.operation
        if not direct:
            _pick_checks(state, rig, share, (model, operation))
        before = share.rows
        _fill(state, rig, share, queue, avoid=True)
        if share.rows == before:
            _fill(state, rig, share, queue, avoid=False)
    else:
        model = operation = ""
    if not share.rows and not direct:
        for model, operation in list(state.due):
            if model in rig.staged:
                _pick_checks(state, rig, share, (model, operation))
            if share.tasks:
                break
    if not share.rows:
        return False
    _lease(state, rig, share, model, operation, direct=direct)
    return True


def _size(state: State, rig: Rig, queue: Queue | None) -> int:
    """Work that a share of the queue should hold; on probation with its model, little."""
    if queue is None or rig.standing.established(state.policy, queue.model):
        return rig.difficulty
    return min(rig.difficulty, state.policy.probation_ceiling)


def _choose(state: State, rig: Rig, *, direct: bool) -> Queue | None:
    """The queue of the customer who was served least, among the models the rig has staged."""
    best: tuple[int, tuple[float, int]] | None = None
    chosen = None
    for queue in state.queues.values():
        if queue.direct is not direct or queue.model not in rig.staged or not queue.ready:
            continue
        if not may_take(state, rig, queue.model):
            continue
        if direct and _left_to_established(state, rig, queue.model):
            continue
        for owned in queue.ready.values():
            job = next((job for job in owned.values() if may_see(state, rig, job)), None)
            if job is None:
                continue
            rank = (job.customer.served, job.order)
            if best is None or rank < best:
                best, chosen = rank, queue
    return chosen


def _left_to_established(state: State, rig: Rig, model: str) -> bool:
    """Interactive requests are not held back for checks: rigs on probation do not get them."""
    policy = state.policy
    return not rig.standing.established(policy, model) and any(
        other.standing.established(policy, model) for other in state.online(model)
    )


# ── fresh rows ────────────────────────────────────────────────────────────────


def _fill(state: State, rig: Rig, share: _Share, queue: Queue, *, avoid: bool) -> None:
    """Take open rows, customer by customer, each one's oldest job first."""
    looked: set[int] = set()
    for job in _in_turn(state, rig, queue, looked):
        looked.add(job.job)
        limit = _allowed(state, rig, job)
        for block in job.opened.values():
            if limit <= 0 or (share.rows and share.work >= share.size):
                break
            if not block.open_rows:
                continue
            rows = _open_rows(block, rig, avoid=avoid)
            if not rows.size:
                continue
            count = share.fits(block, rows, job.row_bytes, limit)
            if not count:
                break
            work = share.add(block, rows[:count], job.row_bytes, _ROW)
            limit -= work
            job.customer.served += work
        if share.work >= share.size or share.rows >= share.policy.max_share_rows:
            return


def _in_turn(state: State, rig: Rig, queue: Queue, looked: set[int]) -> Iterator[Job]:
    def next_of(owned: dict[int, Job]) -> Job | None:
        unseen = (job for job in owned.values() if job.job not in looked)
        return next((job for job in unseen if may_see(state, rig, job)), None)

    while True:
        heads = [job for owned in queue.ready.values() if (job := next_of(owned))]
        if not heads:
            return
        yield min(heads, key=lambda job: (job.customer.served, job.order))


def _open_rows(block: Block, rig: Rig, *, avoid: bool) -> Rows:
    first = block.first_open
    free = block.state[first:] == OPEN
    dropped = block.avoid.get(rig.key)
    if avoid and dropped is not None:
        free &= ~dropped[first:]
    return np.flatnonzero(free) + first


def _allowed(state: State, rig: Rig, job: Job) -> int:
    """Work of a job that one share may take.

    Guided by what is left for the rigs, this job's and the next ones', so that rigs of any speed
    finish together: a job that were measured alone would be handed out in ever smaller pieces of
    shares that the next jobs fill up, and end long after its turn. And an account holds at most a
    part of what is left of the job while other accounts could work on it (one share is allowed).
    """
    policy = state.policy
    rate = rig.rate(policy)
    limit = job.open_work
    everybody = _rate_for(state, job)
    if everybody > rate:  # alone it can take it all
        part = rate / (2 * everybody)
        left = open_work(job.queue, rig.difficulty / part)
        limit = max(policy.min_difficulty, int(left * part))
    held = job.held_by.get(rig.key[0], 0)
    if held and _others_have_room(state, rig, job):
        left = (job.work - job.accepted_work) * policy.concentration_ppm // PPM
        limit = min(limit, left - held)
    return limit


def _rate_for(state: State, job: Job) -> float:
    """Work a second of the connected rigs that may work on a job."""
    if not job.trusted:
        return state.rate_of(job.model)
    rigs = state.online(job.model)
    return sum(rig.rate(state.policy) for rig in rigs if may_see(state, rig, job))


def _others_have_room(state: State, rig: Rig, job: Job) -> bool:
    """Whether another account could take of the job (on probation: it comes after the others)."""
    policy = state.policy
    first = rig.standing.established(policy, job.model)
    return any(
        other.key[0] != rig.key[0]
        and may_see(state, other, job)
        and (not first or other.standing.established(policy, job.model))
        and has_room(state, other)
        and may_take(state, other, job.model)
        for other in state.online(job.model)
    )


# ── check rows ────────────────────────────────────────────────────────────────


def _pick_checks(state: State, rig: Rig, share: _Share, kind: tuple[str, str]) -> None:
    """Rows of other accounts' shares, up to half of the share."""
    half = max(1, share.size // 2)
    picked: dict[tuple[int, int], list[int]] = {}  # {(job, block): rows}
    for check in _candidates(state, rig, kind, half):
        number, no, row = check.key
        job = state.jobs[number]
        block = job.opened[no]
        work, tokens = int(block.works[row]), int(block.lengths[row])
        if not share.takes(work, tokens, job.row_bytes, half):
            break
        task = checks.take(state, check)
        if task is None:
            checks.refer_check(state, check)
        else:
            share.count(1, work, tokens, job.row_bytes)
            share.tasks.append((check, task))
            picked.setdefault((number, no), []).append(row)
    for (number, no), rows in picked.items():
        share.picks.append((state.jobs[number].opened[no], np.array(sorted(rows)), _CHECK))


def _candidates(state: State, rig: Rig, kind: tuple[str, str], work: int) -> list[Check]:
    """Checks that the rig may compute, up to the first that goes beyond this work.

    A copy, for whatever is taken leaves the queue.
    """
    found = []
    for check in checks.due(state, rig, kind):
        found.append(check)
        work -= checks.work_of(state, check)
        if work < 0 or len(found) > state.policy.max_share_rows:
            break
    return found


# ── the share ─────────────────────────────────────────────────────────────────


def _lease(
    state: State, rig: Rig, share: _Share, model: str, operation: str, *, direct: bool
) -> Lease:
    """Order the rows by length, so that a check row's place tells nothing, and lease them."""
    table = np.concatenate(
        [
            np.stack(
                (
                    np.full(rows.size, block.job, np.int64),
                    np.full(rows.size, block.no, np.int64),
                    rows.astype(np.int64),
                    np.full(rows.size, kind, np.int64),
                    block.lengths[rows].astype(np.int64),
                    block.works[rows],
                )
            )
            for block, rows, kind in share.picks
        ],
        axis=1,
    )
    if len(share.picks) > 1:
        job, no, row, _, length, _ = table
        table = table[:, np.lexsort((row, no, job, -length))]
    segments = _segments(table)
    tasks: dict[int, Task] = {}
    if share.tasks:
        where = {
            (int(job), int(no), int(row)): position
            for position, (job, no, row, kind) in enumerate(table[:4].T)
            if kind == _CHECK
        }
        tasks = {where[check.key]: task for check, task in share.tasks}
    lease = leases.issue(
        state, rig, model, operation, segments, table[5].copy(), direct=direct, tasks=tasks
    )
    for check, _ in share.tasks:
        check.lessee = lease.lease
    for block, _, _ in share.picks:
        jobs.running_short(state, state.jobs[block.job])
    return lease


def _segments(table: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> tuple[Segment, ...]:
    """Runs of consecutive rows of one block and kind."""
    job, no, row, kind = table[:4]
    breaks = (
        (job[1:] != job[:-1])
        | (no[1:] != no[:-1])
        | (kind[1:] != kind[:-1])
        | (row[1:] != row[:-1] + 1)
    )
    firsts = [0, *(np.flatnonzero(breaks) + 1).tolist()]
    lasts = [*(position - 1 for position in firsts[1:]), job.size - 1]
    return tuple(
        Segment(
            int(job[first]),
            int(no[first]),
            int(row[first]),
            int(row[last]) + 1,
            _KINDS[int(kind[first])],
        )
        for first, last in zip(firsts, lasts, strict=True)
    )
