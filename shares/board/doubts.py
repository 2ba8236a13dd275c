"""Doubts: two results of a row differ, and whether that means anything.

Where honest results are the same bits, it means that somebody is wrong, and the referee is asked.
In a model of a float numerics the results are compared first: those within its tolerance are as
good as equal, and nobody hears of it. Both shares wait meanwhile.
"""

from __future__ import annotations

from shares.board import checks
from shares.board.effects import ComparisonWanted
from shares.board.events import ResultsCompared
from shares.board.state import CLEARED, Block, Case, Check, Doubt, Lease, RowKey, State
from shares.nearness import Nearness

REFEREE = 0  # stands for it where the number of a share does


def near(
    state: State, key: RowKey, one: tuple[int, bytes], other: tuple[int, bytes]
) -> Nearness | None:
    """How near the results of two shares are, each (lease, digest); ``None``: it was asked.

    The second may be the referee's.
    """
    number, no, row = key
    job = state.jobs[number]
    block = job.opened[no]
    if one[1] == other[1]:
        return Nearness.ALIKE
    if job.exact:
        return Nearness.FAR
    by_referee = other[0] == REFEREE
    if not by_referee and one[1] > other[1]:
        one, other = other, one
    pair = (row, one[1], other[1], by_referee)
    if pair not in block.near:
        block.near[pair] = None
        leases, digests = (one[0], other[0]), (one[1], other[1])
        state.emit(ComparisonWanted(job.model, job.operation, number, no, row, leases, digests))
    return block.near[pair]


def compared(state: State, event: ResultsCompared) -> None:
    """Results were compared: who waited for it goes on."""
    for order, nearness in event.found:
        block = state.block(order.job, order.block)
        if block is None:
            continue
        block.near[order.row, *order.digests, order.leases[1] == REFEREE] = nearness
        if order.row in block.cases:
            key = (order.job, order.block, order.row)
            state.weighable[key] = None
            if order.row in block.truth:
                state.answerable[key] = None


def take_back(state: State, key: RowKey) -> None:
    """The referee's word on a row was wrong; it is asked again if anybody waits for it."""
    job, no, row = key
    block = state.jobs[job].opened[no]
    del block.truth[row]
    block.told[row] = False
    if row in block.cases:
        case = block.cases[row]
        first = next(iter((*case.claims.values(), *_counted(case))))
        checks.ask(state, key, first[0].rig, urgent=True)


def _counted(case: Case) -> list[tuple[Lease, int]]:
    return [(recount.lease, row) for recount, row in case.recounts.values()]


# ── raised ───────────────────────────────────────────────────────────────────


def of_check(state: State, lease: Lease, check: Check) -> None:
    """A share computed a check, and not to the bits of the share that is checked."""
    check.doubted = True
    row = check.target.digest(check.target.find(check.key))
    target = check.target
    _raise(state, check.key, lease, target.lease, target, row, check)


def of_result(state: State, lease: Lease, key: RowKey, *, again: bool = False) -> None:
    """The share's row is not the result that counts, or not the referee's.

    ``again``: it was so before a restart: a share that was cleared has answered for it.
    """
    job, no, row = key
    block = state.jobs[job].opened[no]
    won = int(block.winner[row])
    winner = state.leases.get(won)
    against = block.digests[row].tobytes()
    case = _raise(state, key, lease, won, winner if winner is not lease else None, against)
    if winner is None and block.state[row] == CLEARED and not again:
        case.cleared = won


def _raise(
    state: State,
    key: RowKey,
    lease: Lease,
    number: int,
    other: Lease | None,
    against: bytes,
    check: Check | None = None,
) -> Case:
    case = checks.case_of(state.jobs[key[0]].opened[key[1]], key)
    checks.claim(case, lease)
    if other is not None:
        checks.claim(case, other)
    rig = check.target.rig if check is not None else lease.rig
    mine = lease.digest(lease.find(key))
    case.doubts.append(Doubt(lease, mine, number, other, against, rig, check))
    state.weighable[key] = None
    return case


# ── decided ──────────────────────────────────────────────────────────────────


def weigh(state: State) -> None:
    """Look at doubts of which something new is known."""
    for key in list(state.weighable):
        del state.weighable[key]
        job, no, row = key
        block = state.block(job, no)
        case = block.cases.get(row) if block is not None else None
        if block is None or case is None:
            continue
        case.doubts = [doubt for doubt in case.doubts if not _decided(state, block, case, doubt)]
        if not case.doubts and row not in block.asked and row not in block.truth:
            for lease, _ in list(case.claims.values()):
                checks.let_go(state, case, lease)
            checks.tidy(block, case)
            state.unsettled[job] = state.jobs[job]


def _decided(state: State, block: Block, case: Case, doubt: Doubt) -> bool:
    """Whether a doubt is over: nothing came of it, or the referee is asked."""
    lease, check = doubt.lease, doubt.check
    if check is not None and check.check not in state.checks:
        check = None  # its share was judged, or the referee's word on the row was known
    gone = doubt.other is not None and doubt.other.lease not in case.claims
    if lease.lease not in case.claims or gone:
        if check is not None and not check.referred:
            check.doubted, check.lessee = False, 0
            checks.offer(state, check)
        return True
    if case.key[2] not in block.truth:
        one, other = (lease.lease, doubt.digest), (doubt.number, doubt.against)
        found = near(state, case.key, one, other)
        if found is None:
            return False
        if found is Nearness.ALIKE:
            if check is not None and not check.referred:
                checks.ended(state, check, "matched", ".".join(lease.rig.key))
            return True
    _accuse(state, case, doubt, check)
    return True


def _accuse(state: State, case: Case, doubt: Doubt, check: Check | None) -> None:
    lease = doubt.lease
    checks.ask(state, case.key, doubt.rig, urgent=True)
    job, no, row = case.key
    if check is None:
        state.note("mismatch", lease=lease.lease, job=job, block=no, row=row)
        return
    check.doubted, check.accuser = False, lease
    state.note(
        "mismatch",
        lease=check.target.lease,
        job=job,
        block=no,
        row=row,
        check=check.check,
        checking=lease.lease,
    )
    checks.refer_check(state, check)
