"""Rows to be computed again: drawn, queued for rigs of other accounts, or referred.

A check is in one of three places: *due* (waiting for a rig), *leased* (a rig computes it) or
*referred* (the referee does). Units for it are set aside when a rig gets it, from the job's
check budget or else from the reserve, and come back when the rig fails.
"""

from __future__ import annotations

from collections.abc import Iterator

from shares.board.effects import CheckDrawn, CheckEnded
from shares.board.room import may_see
from shares.board.state import Block, Case, Check, Job, Lease, Rig, RigKey, RowKey, State, Task
from shares.policy import PPM


def drawn(state: State, target: Lease, share_row: int, key: RowKey, by: str) -> Check:
    """Record that a row of an accepted part is to be computed again."""
    check = Check(state.check_id(), by, target, target.part_of(share_row), key, state.at)
    enter(state, check)
    job, block, row = key
    state.emit(CheckDrawn(check.check, by, target.lease, check.part, job, block, row, state.at))
    return check


def enter(state: State, check: Check) -> None:
    """Know a check; its share is not judged before it ended."""
    state.checks[check.check] = check
    check.target.checks[check.check] = check


def ended(state: State, check: Check, outcome: str, checker: str) -> None:
    """A check is over: ``matched``, ``guilty``, ``accuser_wrong``, ``both_wrong`` or ``void``."""
    del state.checks[check.check]
    del check.target.checks[check.check]
    _leave_queue(state, check)
    if check.trial is not None:
        check.trial.open.pop(check.check, None)
    if outcome in ("matched", "accuser_wrong"):
        check.target.matched += 1
    job, number, row = check.key
    block = state.block(job, number)
    if block is not None and row in block.cases:
        block.cases[row].checks.pop(check.check, None)
        if block.cases[row].opinions.pop(check.check, None) is not None:
            state.answerable[check.key] = None
    state.ripe[check.target.lease] = check.target
    state.emit(CheckEnded(check.check, outcome, checker, state.at))


# ── for rigs ──────────────────────────────────────────────────────────────────


def may_check(state: State, rig: Rig, job: Job, target: Rig) -> bool:
    """Whether a rig may check a share of ``target`` in this job.

    Checkers are established with the model, of another account, payout address and network block,
    not the customer's own, and of no kind in quarantine.
    """
    if rig.key[0] == job.account or not may_see(state, rig, job):
        return False
    if rig.on_trial or state.keeps_from(rig, job.model):
        return False
    policy = state.policy
    return rig.unrelated(target, policy) and rig.standing.established(policy, job.model)


def offer(state: State, check: Check) -> None:
    """Let a rig compute it, if one is there that may and its pay is; else the referee."""
    number, no, row = check.key
    job = state.jobs[number]
    decided = row in job.opened[no].truth
    payable = source(state, job, price(state, check.key))
    if not decided and payable and _checker_is_there(state, check):
        put(state, check)
        state.work_came = True
    else:
        refer_check(state, check)


def _checker_is_there(state: State, check: Check) -> bool:
    job, target = state.jobs[check.key[0]], check.target.rig
    kind = (job.job, target.key[0], target.group)
    known = state.checkers.get(kind)
    if known is None:
        known = any(may_check(state, rig, job, target) for rig in state.online(job.model))
        state.checkers[kind] = known
    return known


def put(state: State, check: Check) -> None:
    """Queue it for rigs (it is not queued)."""
    job = state.jobs[check.key[0]]
    if check.witness is not None:
        state.asked[check.check] = check
    accounts = state.due.setdefault((job.model, job.operation), {})
    accounts.setdefault(check.target.account, {})[check.check] = check
    job.due_units += price(state, check.key)


def due(state: State, rig: Rig, kind: tuple[str, str]) -> Iterator[Check]:
    """Checks of one (model, operation) that a rig may compute, oldest first in each account.

    Before them what it is asked as a witness, or for its opinion.
    """
    for check in [check for check in state.asked.values() if check.witness is rig]:
        asking = state.jobs[check.key[0]]
        if (asking.model, asking.operation) == kind:
            yield check
    if not rig.standing.established(state.policy, kind[0]):
        return
    known: dict[tuple[int, RigKey], bool] = {}  # {(job, rig that is checked): whether it may}
    for account, queued in state.due.get(kind, {}).items():
        if account == rig.key[0]:
            continue
        for check in queued.values():
            if check.witness is not None:
                continue
            job, target = check.key[0], check.target.rig
            may = known.get((job, target.key))
            if may is None:
                may = known[job, target.key] = may_check(state, rig, state.jobs[job], target)
            if may:
                yield check


def take(state: State, check: Check) -> Task | None:
    """Set its pay aside and take it out of the queue; ``None`` when its pay is not there.

    A witness is asked all the same: a rig's standing hangs on its one row.
    """
    job = state.jobs[check.key[0]]
    amount = price(state, check.key)
    where = source(state, job, amount)
    if where is None:
        if check.witness is None:
            return None
        amount, where = 0, "check"
    _leave_queue(state, check)
    if where == "check":
        job.check_left -= amount
    else:
        state.reserve -= amount
    return Task(check.check, job.job, amount // job.price, amount, where)


def hand_back(state: State, task: Task) -> None:
    """A lease ended without this row: its units come back, the check waits again."""
    job = state.jobs.get(task.job)
    if task.source == "reserve":
        state.reserve += task.amount
    elif job is not None:
        job.check_left += task.amount
    check = state.checks.get(task.check)
    if check is not None and not check.referred:
        check.lessee = 0
        if check.witness is None:
            offer(state, check)
        else:
            ended(state, check, "void", "")


def work_of(state: State, check: Check) -> int:
    """Work of its row."""
    job, number, row = check.key
    return int(state.jobs[job].opened[number].works[row])


def price(state: State, key: RowKey) -> int:
    """Units for computing a row again."""
    job, number, row = key
    return int(state.jobs[job].opened[number].works[row]) * state.jobs[job].price


def source(state: State, job: Job, amount: int) -> str | None:
    """Where the pay of a check comes from."""
    if job.check_left >= amount:
        return "check"
    return "reserve" if state.reserve >= amount else None


def promised(job: Job) -> int:
    """Units of an assured job's check budget that its checks are expected to need: those that
    wait for a rig, and those of the work that nobody did yet. 0 for any other job.
    """
    if not job.assurance_ppm:
        return 0
    ahead = (job.work - job.accepted_work) * job.price
    return job.due_units + -(-ahead * job.assurance_ppm // PPM)


def _leave_queue(state: State, check: Check) -> None:
    state.asked.pop(check.check, None)
    job = state.jobs.get(check.key[0])
    if job is None:
        return
    kind = (job.model, job.operation)
    accounts = state.due.get(kind, {})
    queued = accounts.get(check.target.account, {})
    if queued.pop(check.check, None) is None:
        return
    job.due_units -= price(state, check.key)
    if not queued:
        del accounts[check.target.account]
        if not accounts:
            del state.due[kind]


# ── for the referee ──────────────────────────────────────────────────────────


def out_of_patience(state: State) -> None:
    """Checks that wait too long go to the referee; a rig that has one gets as long again.

    A rig on probation may have to stand idle until it is judged, so its rows wait less long: in
    a checker's hands they lie behind all the work that it had before.
    """
    policy = state.policy
    ordinary = policy.check_patience_seconds
    shortest = min(ordinary, policy.newcomer_patience_seconds)
    known: dict[tuple[int, RigKey], float] = {}  # {(job, rig that is checked): patience}
    for check in list(state.checks.values()):
        waited = state.at - check.since
        if waited < shortest:
            break  # they are in the order in which they were drawn
        if check.by == "opinion" and waited >= ordinary:
            ended(state, check, "void", "")
        if check.referred or check.doubted or check.witness is not None:
            continue
        most = ordinary
        if waited >= ordinary:
            kind = (check.key[0], check.target.rig.key)
            if kind not in known:
                known[kind] = _patience(state, check)
            most = known[kind]
        if waited >= (2 * most if check.lessee else most) or _holds_up(state, check.target):
            refer_check(state, check)


def _patience(state: State, check: Check) -> float:
    """Seconds for which a check waits for a rig.

    Where a customer paid for many checks by rigs, these have them to do beside their shares: the
    referee is no place for half of a job. It gets what a rig did not take up in ten minutes.
    """
    policy = state.policy
    job = state.jobs[check.key[0]]
    if not job.assurance_ppm or not _checker_is_there(state, check):
        return policy.check_patience_seconds
    return max(policy.check_patience_seconds, policy.assured_patience_seconds)


def _holds_up(state: State, lease: Lease) -> bool:
    rig = lease.rig
    idle = rig.session is not None and not rig.leases
    return idle and not rig.standing.established(state.policy, lease.model)


def refer_check(state: State, check: Check) -> None:
    """The referee decides this check."""
    _leave_queue(state, check)
    check.referred = True
    case = ask(state, check.key, check.target.rig, urgent=check.accuser is not None)
    case.checks[check.check] = check
    claim(case, check.target)


def claim(case: Case, lease: Lease) -> None:
    """A share that is not judged has computed the row of this case."""
    row = lease.find(case.key)
    case.claims[lease.lease] = (lease, row)
    lease.claims[case.key] = row


def unclaim(state: State, lease: Lease) -> None:
    """A share is judged: no case is about it any more."""
    for job, number, row in lease.claims:
        block = state.block(job, number)
        if block is not None and row in block.cases:
            case = block.cases[row]
            del case.claims[lease.lease]
            if case.doubts:
                state.weighable[case.key] = None
            tidy(block, case)
            if not block.contested:
                state.unsettled[job] = state.jobs[job]
    lease.claims.clear()


def let_go(state: State, case: Case, lease: Lease) -> None:
    """A case is not about this share any more."""
    del case.claims[lease.lease]
    del lease.claims[case.key]
    state.ripe[lease.lease] = lease


def tidy(block: Block, case: Case) -> None:
    """Drop a case that nobody waits for."""
    if not (case.claims or case.recounts):
        block.cases.pop(case.key[2], None)


def case_of(block: Block, key: RowKey) -> Case:
    """The case of a row, opened if need be."""
    case = block.cases.get(key[2])
    if case is None:
        case = block.cases[key[2]] = Case(key)
    return case


def ask(state: State, key: RowKey, rig: Rig, *, urgent: bool) -> Case:
    """The case of a row, asked of the referee once; decided in this turn if its word is known.

    ``rig``: whose doing it is that the row must be asked: it waits its account's turn.
    """
    job, number, row = key
    block = state.jobs[job].opened[number]
    case = case_of(block, key)
    if row in block.truth:
        state.answerable[key] = None
    elif row not in block.asked:
        block.asked[row] = None
        # Nothing of the job left to lease: its end waits for this row.
        now = urgent or not state.jobs[job].open_work
        turns = state.referee.setdefault((job, number, now), {})
        turns.setdefault((rig.group, rig.key[0]), {})[row] = None
    return case
