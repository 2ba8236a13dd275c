"""Verdicts on shares, and what a wrong row leads to.

A share clears as a whole: when all its drawn rows ended well, and either a sample of it matched
or the clearing window has passed since its last part; and not while somebody else computes one of
its rows who may contradict it (see ``_may_be_contradicted``). The referee's word on a row is final.
One wrong row may be a bit flip: it costs the share, which is counted through to the end, and the
pay of the rows that it may have hidden, and everything else of the rig that is not cleared is
checked. A second one is an offence. Wrong rows
and bans count by account, for a name costs nothing: a second rig of the account has no bit flip of
its own, and no rig of a banned account works. What is forfeited is the rig's that did it, as its
sampling went by what it held itself; what other rigs did is checked in full, and paid if right.
"""

from __future__ import annotations

import numpy as np

from shares.blocks import owes
from shares.board import checks, doubts, jobs, leases, opinions, recounts, rows, trials
from shares.board.effects import (
    AppealGranted,
    CheckEnded,
    ExcuseSettled,
    HeldForfeited,
    KindAccused,
    LeaseSuspected,
    NeighboursSuspected,
    RefereePaid,
    RowRefuted,
    ShareExcused,
    ShareJudged,
)
from shares.board.events import AppealWon, ExcuseEnded, HoldRefuted, RefereeAnswered
from shares.board.state import Accusation, Block, Case, Job, Lease, Rig, State, Trial
from shares.results import DIGEST_BYTES
from shares.trust.sampling import HELD
from shares.trust.standing import Standing


def conclude(state: State) -> None:
    """Decide what this turn made ripe: doubts, cases, trials, shares, jobs."""
    while state.weighable or state.answerable or state.ripe or state.unsettled or state.trials:
        if state.weighable:
            doubts.weigh(state)
        elif state.answerable:
            _decide(state)
        elif over := trials.ripe(state):
            for trial, verdict in over:
                _end_trial(state, trial, verdict)
        elif not state.ripe and not state.unsettled:
            return  # trials that go on
        elif state.ripe:
            lease = state.ripe.pop(next(iter(state.ripe)))
            if lease.lease in state.waiting:
                judge(state, lease)
        else:
            job = state.unsettled.pop(next(iter(state.unsettled)))
            if job.job in state.jobs:
                jobs.settle(state, job)


# ── the referee's word ───────────────────────────────────────────────────────


def answered(state: State, event: RefereeAnswered) -> None:
    """The referee computed rows: charge the run, decide what waited for it."""
    if len(event.digests) != DIGEST_BYTES * len(event.rows):
        raise ValueError(
            f"{len(event.digests)} bytes of digests for {len(event.rows)} rows: "
            f"give {DIGEST_BYTES} bytes a row"
        )
    block = state.block(event.job, event.block)
    if block is None:
        return
    work = 0
    for position, row in enumerate(event.rows):
        if row not in block.asked:
            continue
        del block.asked[row]
        work += int(block.works[row])
        block.told[row] = True
        block.truth[row] = event.digests[DIGEST_BYTES * position : DIGEST_BYTES * (position + 1)]
        if row in block.cases:
            state.weighable[event.job, event.block, row] = None
            state.answerable[event.job, event.block, row] = None
    _charge(state, state.jobs[event.job], work)


def _charge(state: State, job: Job, work: int) -> None:
    amount = min(work * job.price, job.check_left - job.check_keep)
    if amount > 0:
        job.check_left -= amount
        state.emit(RefereePaid(job.job, work, amount))


def _decide(state: State) -> None:
    wrong: dict[int, Accusation] = {}  # {lease: it}
    cleared: dict[int, Accusation] = {}  # {lease that was judged: it}
    for key in list(state.answerable):
        del state.answerable[key]
        job, number, row = key
        block = state.block(job, number)
        case = block.cases.get(row) if block is not None else None
        if block is None or case is None or row not in block.truth:
            continue
        right = opinions.right_of(state, block, case)
        if right is None:
            continue  # it is answerable again when more is known
        del block.cases[row]
        sampled = {c.target.lease for c in case.checks.values() if c.by == "referee"}
        found, price = state.jobs[job], state.jobs[job].price
        for lease, share_row in _refuted(state, case, right):
            accusation = wrong.setdefault(
                lease.lease, Accusation(lease.lease, lease.rig, found.model, False, price, lease)
            )
            accusation.by_referee |= lease.lease in sampled
            accusation.wrong[share_row] = (key, lease.digest(share_row), block.truth[row])
        if case.cleared and not right[block.digests[row].tobytes()]:
            accusation = cleared.setdefault(
                case.cleared,
                Accusation(case.cleared, block.winners[case.cleared], found.model, False, price),
            )
            facts = (key, block.digests[row].tobytes(), block.truth[row])
            accusation.wrong[len(accusation.wrong)] = facts
            # What is compared from now on is the truth: one wrong row is found once.
            block.digests[row] = np.frombuffer(block.truth[row], np.uint8)
        state.unsettled[job] = found
    guilty = []
    for accusation in (*wrong.values(), *cleared.values()):
        if trials.excused_already(state, accusation.rig, accusation.model):
            _excuse(state, accusation, trials.kind_of(state, accusation))
        elif not trials.begin(state, accusation):
            guilty.append(accusation)
    _sentence(state, guilty)
    for recount in list(state.recounts.values()):
        recounts.end_if_done(state, recount)


def _sentence(state: State, guilty: list[Accusation]) -> None:
    """Rows are wrong, and their rigs answer for them."""
    before = {each.rig.key: each.rig.standing.offences for each in guilty}
    for accusation in guilty:
        rig, number = accusation.rig, accusation.number
        if number in state.leases:
            convict(state, accusation)
        elif number in state.recounts:
            _offend(state, rig, number)
        elif accusation.lease is None and rig.standing.banned_until <= state.at:
            _convict_cleared(state, accusation)  # else it was convicted just now
    for accusation in guilty:
        rig = accusation.rig
        _record(state, accusation, offence=rig.standing.offences > before[rig.key])


def _record(state: State, accusation: Accusation, *, offence: bool) -> None:
    for (job, block, row), given, expected in accusation.wrong.values():
        facts = (job, block, row, given, expected, offence, state.at)
        state.emit(RowRefuted(accusation.number, *facts))


# ── what is put down to a kind of device ─────────────────────────────────────


def _end_trial(state: State, trial: Trial, verdict: str) -> None:
    """Convict its accused, or excuse them."""
    trials.close(state, trial)
    if verdict == trials.CONVICT:
        _sentence(state, list(trial.accused.values()))
        return
    for accusation in trial.accused.values():
        _excuse(state, accusation, trial.kind)
    if trial.established:
        # The word of newcomers, who are nobody, does not keep strangers from a model.
        accounts = len({a.rig.key[0] for a in trial.accused.values()} | set(trial.equal))
        state.note("kind_accused", model=trial.model, kind=trial.kind, accounts=accounts)
        state.emit(KindAccused(trial.model, trial.kind, accounts, state.at))


def _excuse(state: State, accusation: Accusation, kind: str) -> None:
    """Nobody pays for the wrong rows, and the account's held pay waits for the operator."""
    rig, number, model = accusation.rig, accusation.number, accusation.model
    lease = accusation.lease
    state.note(
        "wrong_row_excused",
        lease=number,
        account=rig.key[0],
        rig=rig.key[1],
        rows=len(accusation.wrong),
        kind=kind,
    )
    if lease is not None and number in state.leases:
        _reject(state, lease, "engine_kind", forfeit=False)
    excused = state.excused.setdefault(rig.key[0], {})
    count, price = len(accusation.wrong), accusation.price
    if number in excused:
        count += excused[number][2]
    excused[number] = (model, kind, count)
    state.emit(ShareExcused(number, *rig.key, model, kind, count, price, state.at))
    _record(state, accusation, offence=False)
    for held in [one for one in rig.leases.values() if one.model == model]:
        leases.end(state, held, "cancelled", "none", tell="quarantined")
    _suspect(state, rig)


def excuse_ended(state: State, event: ExcuseEnded) -> None:
    """The operator decided: what was put down to a kind is forgotten, or answered for."""
    rig = state.rig((event.account, event.rig))
    before = rig.standing.offences
    if event.guilty and rig.standing.banned_until <= state.at:
        _answer_for(state, rig, event.lease, event.rows, event.price)
    outcome = "guilty" if event.guilty else "innocent"
    offence = rig.standing.offences > before
    _end_excuse(state, event.account, event.lease, outcome, offence=offence)


def _end_excuse(state: State, account: str, lease: int, outcome: str, *, offence: bool) -> None:
    excused = state.excused.get(account, {})
    excused.pop(lease, None)
    if not excused:
        state.excused.pop(account, None)
    state.emit(ExcuseSettled(lease, outcome, offence, state.at))
    rigs = [rig for rig in state.rigs_of(account) if rig.session is not None]
    state.wake.update({rig.key: rig for rig in rigs})


def _answer_for(state: State, rig: Rig, lease: int, count: int, price: int) -> None:
    """Wrong rows of a share that was judged long since are counted as any."""
    if _is_offence(state, rig, count):
        _offend(state, rig, lease)
    else:
        units = rig.standing.fine(HELD, price, state.policy, by_referee=True)
        _take(state, rig, lease, units)


def hold_refuted(state: State, event: HoldRefuted) -> None:
    """Rows that a closed account was paid for are wrong: it answers for them as any does."""
    rig = state.rig((event.account, event.rig))
    before = rig.standing.offences
    _answer_for(state, rig, event.rows[0][0], len(event.rows), event.price)
    offence = rig.standing.offences > before
    for lease, job, number, row, given, expected in event.rows:
        state.emit(RowRefuted(lease, job, number, row, given, expected, offence, state.at))


# ── the referee takes its word back ──────────────────────────────────────────


def appealed(state: State, event: AppealWon) -> None:
    """What was found of a share was the pool's own error: lift what followed from it.

    Where the rows are not done yet, whoever does them is compared with the right digest.
    """
    for job, number, row, digest in event.rows:
        block = state.block(job, number)
        if block is None or row not in block.truth:
            continue
        if state.jobs[job].exact:
            block.truth[row] = digest
        else:
            doubts.take_back(state, (job, number, row))
    for was, now in zip(event.before, event.after, strict=True):
        rig = state.rig((event.account, was.rig))
        standing = rig.standing
        # What was found since is not in the event, and stays.
        standing.isolated = max(0, standing.isolated - was.isolated + now.isolated)
        standing.offences = max(0, standing.offences - was.offences + now.offences)
        if standing.banned_until == was.banned_until:
            standing.banned_until = now.banned_until
        state.changed[rig.key] = rig
    if event.lease in state.excused.get(event.account, {}):
        _end_excuse(state, event.account, event.lease, "innocent", offence=False)
    state.emit(AppealGranted(event.lease, event.units, state.at))


def _refuted(state: State, case: Case, right: dict[bytes, bool]) -> list[tuple[Lease, int]]:
    """End the case: its checks get their outcome; returns the shares whose row was wrong."""
    for check in list(case.checks.values()):
        accuser = check.accuser
        checker = ".".join(accuser.rig.key) if accuser else "referee"
        guilty = not right[check.target.digest(check.target.find(case.key))]
        both = accuser is not None and not right[accuser.digest(accuser.find(case.key))]
        if guilty:
            outcome = "both_wrong" if both else "guilty"
        else:
            outcome = "accuser_wrong" if both else "matched"
        checks.ended(state, check, outcome, checker)
    wrong = []
    for lease, share_row in case.claims.values():
        del lease.claims[case.key]
        state.ripe[lease.lease] = lease
        if not right[lease.digest(share_row)]:
            wrong.append((lease, share_row))
    for recount, share_row in case.recounts.values():
        recount.waiting.pop(case.key, None)
        if not right[recount.lease.digest(share_row)]:
            wrong.append((recount.lease, share_row))
    return wrong


# ── verdicts ─────────────────────────────────────────────────────────────────


def judge(state: State, lease: Lease) -> None:
    """Clear a share that ended, or void it, if it is time."""
    if lease.checks or lease.claims or lease.trial or _may_still_deliver(state, lease):
        return
    if not lease.accepted:
        _void(state, lease)
        return
    window = 0.0 if lease.direct else state.policy.clearing_seconds
    if not lease.matched and state.at < lease.last_part_at + window:
        return
    if not _may_be_contradicted(state, lease):
        _clear(state, lease)


def _may_be_contradicted(state: State, lease: Lease) -> bool:
    """Whether a row that the share won is in the hands of another lease.

    Had the share cleared, a false row of it that the other one contradicts would be delivered and
    paid. To open a cleared share again would take back what is written into an output and posted
    to the ledger; to wait delays honest pay too, but no longer than the other lease lasts, which
    has its deadline, and what was on its way when it was called off, which has a few seconds. The
    job seldom waits for it: a lease of which nobody wants anything any more is called off.

    A direct request cannot wait: its answer leaves at once, and who is contradicted after that is
    convicted all the same (``_convict_cleared``). So is who is contradicted by a lease that came
    late, after its end.
    """
    if lease.direct:
        return False
    for _, block in _blocks(state, lease):
        won = rows.won_by(block, lease)
        if (block.holders[won] > 0).any():
            return True
        for other in state.called_off.values():
            coming = other.rig.session is not None and _may_still_deliver(state, other)
            if coming and rows.holds_any(other, block, won):
                return True
    return False


def _may_still_deliver(state: State, lease: Lease) -> bool:
    """Whether late parts of an ended lease may come and still be of use."""
    policy = state.policy
    if lease.next_row == lease.rows or state.banned_until(lease.account):
        return False
    if lease.state == "cancelled":  # what was on its way is compared and paid
        return not lease.direct and state.at < lease.ended_at + policy.cancel_grace_seconds
    if lease.state != "expired" or state.at >= lease.ended_at + policy.late_seconds:
        return False
    return any(
        owes(segment) and rows.wanted(state, start, stop, state.block(segment.job, segment.block))
        for segment, start, stop, _ in lease.pieces(lease.next_row, lease.rows)
    )


def _void(state: State, lease: Lease) -> None:
    state.emit(ShareJudged(lease.lease, "void", lease.state, False, state.at))
    _forget(state, lease)


def _clear(state: State, lease: Lease) -> None:
    standing = lease.rig.standing
    state.emit(
        ShareJudged(
            lease.lease, "cleared", "sampled" if lease.matched else "window", False, state.at
        )
    )
    for job, block in _blocks(state, lease):
        rows.clear(job, block, rows.won_by(block, lease))
        state.unsettled[job.job] = job
    standing.held += sum(credit.amount for credit in lease.credits)
    standing.cleared_work += sum(credit.work for credit in lease.credits)
    if others := [c for c in lease.credits if _others(state, c.job, lease.account)]:
        standing.cleared_shares += 1
        proved = standing.proved.get(lease.model, 0)
        standing.proved[lease.model] = proved + sum(credit.work for credit in others)
    state.changed[lease.rig.key] = lease.rig
    _forget(state, lease)


def _others(state: State, number: int, account: str) -> bool:
    """Whether a job is another's than the miner's own (which earns no trust)."""
    job = state.jobs.get(number)
    return job is None or job.account != account


def _reject(state: State, lease: Lease, reason: str, *, forfeit: bool) -> None:
    if lease.state == "open":
        leases.end(state, lease, "cancelled", "rig", tell=reason)
    for check in list(lease.checks.values()):
        checks.ended(state, check, "void", "")
    checks.unclaim(state, lease)
    for job, block in _blocks(state, lease):
        won = rows.won_by(block, lease)
        if won.size:
            rows.reopen(state, job, block, won, lease)
    if not forfeit:
        for credit in lease.credits:
            payer = state.jobs.get(credit.job)
            if credit.source == "reserve":
                state.reserve += credit.amount
            elif credit.source == "check" and payer is not None:
                payer.check_left += credit.amount
    lease.rig.standing.rejected_shares += 1
    state.changed[lease.rig.key] = lease.rig
    state.emit(ShareJudged(lease.lease, "rejected", reason, forfeit, state.at))
    _forget(state, lease)


def _blocks(state: State, lease: Lease) -> list[tuple[Job, Block]]:
    """The blocks in memory that a share holds rows of, each once."""
    found: dict[tuple[int, int], tuple[Job, Block]] = {}
    for segment in lease.segments:
        block = state.block(segment.job, segment.block)
        if block is not None and owes(segment):
            found[segment.job, segment.block] = (state.jobs[segment.job], block)
    return list(found.values())


def _forget(state: State, lease: Lease) -> None:
    del state.leases[lease.lease]
    state.waiting.pop(lease.lease, None)
    state.called_off.pop(lease.lease, None)
    state.ripe.pop(lease.lease, None)
    trials.leave(lease)
    lease.rig.shares.pop(lease.lease, None)
    state.wake[lease.rig.key] = lease.rig
    for segment in lease.segments:
        job = state.jobs.get(segment.job)
        if job is not None and job.shares.pop(lease.lease, None) is not None:
            state.unsettled[job.job] = job


# ── consequences ─────────────────────────────────────────────────────────────


def convict(state: State, accusation: Accusation) -> None:
    """The referee found rows wrong in a share that is not judged."""
    rig, lease = accusation.rig, accusation.lease
    assert lease is not None
    count = len(accusation.wrong)
    state.note(
        "wrong_row",
        lease=lease.lease,
        account=rig.key[0],
        rig=rig.key[1],
        rows=count,
        kinds=", ".join(rig.kinds),
    )
    _reject(state, lease, "wrong_row", forfeit=False)
    if _is_offence(state, rig, count):
        _offend(state, rig, lease.lease)
    else:
        recounts.begin(state, lease, next(iter(accusation.wrong)))
        _fine(state, accusation)
        _suspect(state, rig)


def _convict_cleared(state: State, accusation: Accusation) -> None:
    """The referee found wrong rows in a share that was cleared and paid.

    They stay as they were delivered; the rig answers for them as for any, its pay being held.
    """
    rig, lease, wrong = accusation.rig, accusation.number, len(accusation.wrong)
    state.note(
        "wrong_row_cleared",
        lease=lease,
        account=rig.key[0],
        rig=rig.key[1],
        rows=wrong,
        kinds=", ".join(rig.kinds),
    )
    if _is_offence(state, rig, wrong):
        _offend(state, rig, lease)
    else:
        _fine(state, accusation)
        _suspect(state, rig)


def _is_offence(state: State, rig: Rig, wrong: int) -> bool:
    """Count a wrong row; whether it, or that there are several, is more than a bit flip."""
    first = wrong == 1 and not any(r.standing.isolated for r in state.rigs_of(rig.key[0]))
    if wrong == 1:
        rig.standing.isolated += 1
        state.changed[rig.key] = rig
    return not first


def _fine(state: State, accusation: Accusation) -> None:
    """A first wrong row is forgiven, at the price of those that it may have hidden."""
    rig = accusation.rig
    why = state.why(rig, accusation.model)
    units = rig.standing.fine(why, accusation.price, state.policy, by_referee=accusation.by_referee)
    _take(state, rig, accusation.number, units)


def _take(state: State, rig: Rig, lease: int, units: int) -> None:
    """A fine goes from the hold to forfeits."""
    if units:
        rig.standing.held -= units
        state.changed[rig.key] = rig
        state.note("fine", lease=lease, account=rig.key[0], rig=rig.key[1], units=units)
        state.emit(_forfeit(rig.standing, units, "wrong_row", lease, state.at))


def _forfeit(standing: Standing, units: int, reason: str, lease: int, at: float) -> HeldForfeited:
    standing.forfeits += 1
    return HeldForfeited(
        standing.account, standing.rig, units, standing.forfeits, reason, lease, at
    )


def _suspect(state: State, rig: Rig) -> None:
    """Check every row of the rig's shares that are not judged, and of what it holds."""
    for lease in {**rig.leases, **rig.shares}.values():
        if not lease.suspect:
            lease.suspect = True
            state.emit(LeaseSuspected(lease.lease))
    for lease in list(rig.shares.values()):
        checked = {check.key for check in lease.checks.values()}
        for job, block in _blocks(state, lease):
            for row in rows.won_by(block, lease).tolist():
                key = (job.job, block.no, row)
                if key not in checked:
                    check = checks.drawn(state, lease, lease.find(key), key, "rig")
                    checks.offer(state, check)


def _offend(state: State, rig: Rig, lease: int) -> None:
    """An offence is proved by a share: forfeit; ban and disconnect the whole account."""
    standing = rig.standing
    for share in list(rig.shares.values()):
        _reject(state, share, "offence", forfeit=True)
    for held in list(rig.leases.values()):
        leases.end(state, held, "cancelled", "rig", tell="banned")
    for recount in [r for r in state.recounts.values() if r.lease.rig is rig]:
        recounts.stop(state, recount)
    until = state.at + state.policy.neighbour_seconds
    for group in rig.groups:
        state.suspected_blocks[group] = until
        state.emit(NeighboursSuspected(group, until))
    account = state.rigs_of(rig.key[0])
    before = sum(each.standing.offences for each in account)
    units = standing.offend(state.at, state.policy, before=before)
    state.changed[rig.key] = rig
    state.note(
        "offence",
        lease=lease,
        account=rig.key[0],
        rig=rig.key[1],
        forfeited=units,
        banned_until=standing.banned_until,
    )
    if units:
        state.emit(_forfeit(standing, units, "offence", lease, state.at))
    for each in account:
        if each is not rig:
            for held in list(each.leases.values()):
                leases.end(state, held, "cancelled", "rig", tell="banned")
            _suspect(state, each)
        leases.disconnect(state, each, "banned")


def void_orphan(state: State, check: int) -> None:
    """End a stored check whose share is over."""
    state.emit(CheckEnded(check, "void", "", state.at))
