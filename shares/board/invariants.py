"""Every invariant of the board, derived anew from rows, shares and segments."""

from __future__ import annotations

import numpy as np

from shares.blocks import owes
from shares.board import checks
from shares.board.state import CLEARED, DONE, LEASED, OPEN, Block, Job, Lease, State
from shares.results import DIGEST_BYTES


def check(state: State) -> None:
    """Raise ``AssertionError`` at the first thing that does not hold."""
    for lease in state.leases.values():
        _lease(state, lease)
    for job in state.jobs.values():
        _job(state, job)
    _rigs(state)
    _checks(state)
    _trials(state)
    _queues(state)
    assert not state.effects or not state.answerable, "a case was left undecided"
    assert not state.weighable, "a doubt was left unweighed"
    assert not state.ripe, "a share was left unjudged"
    assert not state.unsettled, "a job was left unsettled"
    assert not state.referee, "a wish of the referee was left unsaid"


def _lease(state: State, lease: Lease) -> None:
    name = f"lease {lease.lease}"
    assert lease.rows == len(lease.works) == sum(s.rows for s in lease.segments), name
    assert (lease.state == "open") == (lease.lease in state.open), name
    assert (lease.state == "open") != (lease.lease in state.waiting), name
    assert (lease.state == "open") == (lease.lease in lease.rig.leases), name
    assert lease.accepted == (lease.lease in lease.rig.shares), name
    assert len(lease.digests) == DIGEST_BYTES * lease.next_row, name
    assert lease.left == int(lease.works[lease.next_row :].sum()), name
    assert lease.part_starts == sorted(lease.part_starts), name
    assert lease.state != "open" or lease.next_row < lease.rows, f"{name} is done, not open"
    assert lease.state == "open" or not lease.tasks, f"{name} ended with check units set aside"
    assert lease.deadline <= lease.latest, name
    assert all(credit.amount >= 0 and credit.work >= 0 for credit in lease.credits), name
    for check in lease.checks.values():
        assert state.checks.get(check.check) is check, name
    for (job, number, row), share_row in lease.claims.items():
        block = state.block(job, number)
        assert block is not None, name
        assert block.cases[row].claims[lease.lease] == (lease, share_row), name
    for segment in lease.segments:
        if owes(segment) and segment.job in state.jobs:
            assert lease.lease in state.jobs[segment.job].shares, name


def _job(state: State, job: Job) -> None:
    name = f"job {job.job}"
    blocks = job.opened.values()
    assert not job.cleared & set(job.opened), name
    assert len(job.cleared) < job.blocks, f"{name} is over and open"
    assert not (set(job.wanted) & set(job.opened)), name
    assert job.check_left >= 0, f"{name}: its check budget is overspent"
    assert job.open_rows == sum(block.open_rows for block in blocks), name
    assert job.open_work == job.unopened_work + sum(b.open_work for b in blocks), name
    assert all(lease in state.leases for lease in job.shares), name
    held: dict[str, int] = {}
    earned = 0
    for lease in job.shares.values():
        earned += sum(c.amount for c in lease.credits if c.job == job.job and c.kind == "row")
        if lease.state == "open":
            for segment, start, stop, _ in lease.pieces(lease.next_row, lease.rows):
                block = state.block(segment.job, segment.block)
                if block is not None and block.job == job.job and owes(segment):
                    work = int(block.works[start:stop].sum())
                    held[lease.account] = held.get(lease.account, 0) + work
    assert held == job.held_by, f"{name}: {job.held_by} is held, but its leases owe {held}"
    # Credits conserve: what is pending is the price of exactly the rows done and not cleared.
    pending = job.accepted_work - job.cleared_work
    assert earned == pending * job.price, f"{name}: {earned} units for {pending} work"
    assert 0 <= job.cleared_rows <= job.accepted_rows <= job.rows, name
    done = 0
    for block in blocks:
        _block(state, job, block)
        done += int((block.state == DONE).sum())
    assert done == job.accepted_rows - job.cleared_rows, name


def _block(state: State, job: Job, block: Block) -> None:
    name = f"block {block.no} of job {job.job}"
    holders = np.zeros(block.rows, np.uint8)
    lessees = set()
    for lease in state.open.values():
        for segment, start, stop, _ in lease.pieces(lease.next_row, lease.rows):
            if (segment.job, segment.block) == (job.job, block.no) and owes(segment):
                holders[start:stop] += 1
                lessees.add(lease.lease)
    assert (holders == block.holders).all(), f"{name}: holders differ from the open leases"
    assert holders.max(initial=0) <= 2, f"{name}: a row is held three times"
    assert lessees <= set(block.lessees), name
    done = block.state >= DONE
    assert ((block.winner != 0) == done).all(), f"{name}: a row is done without a winner"
    assert ((block.state == LEASED) == (~done & (holders > 0))).all(), name
    is_open = block.state == OPEN
    assert block.open_rows == int(is_open.sum()), name
    assert block.open_work == int(block.works[is_open].sum()), name
    assert not is_open[: block.first_open].any(), f"{name}: an open row is never looked at"
    assert block.cleared_rows == int((block.state == CLEARED).sum()), name
    assert block.cleared_rows < block.rows or block.contested, f"{name} is cleared and here"
    for winner in np.unique(block.winner[block.state == DONE]).tolist():
        assert winner in state.leases, f"{name}: rows done by a share that was judged"
        lease = state.leases[winner]
        for segment, start, stop, row in lease.pieces(0, lease.next_row):
            if (segment.job, segment.block) == (job.job, block.no) and owes(segment):
                mine = np.frombuffer(bytes(lease.digests), np.uint8).reshape(-1, DIGEST_BYTES)
                won = (block.winner[start:stop] == winner) & (block.state[start:stop] == DONE)
                same = block.digests[start:stop] == mine[row : row + stop - start]
                assert same.all(axis=1)[won].all(), f"{name}: not the winner's digests"
    for row, case in block.cases.items():
        assert case.key == (job.job, block.no, row), name
        assert case.claims or case.recounts, f"{name}: nobody waits for row {row}"
        known = row in block.truth and not job.exact
        assert row in block.asked or known or case.doubts, f"{name}: nobody was asked for row {row}"
        for doubt in case.doubts:
            assert doubt.lease.lease in case.claims, f"{name}: a doubt of row {row} is over"
        for check in case.opinions.values():
            assert state.checks.get(check.check) is check, name
            assert row in block.truth, name
        for lease, _ in case.claims.values():
            assert state.leases.get(lease.lease) is lease, name
        for check in case.checks.values():
            assert state.checks.get(check.check) is check, name
        for recount, _ in case.recounts.values():
            assert state.recounts.get(recount.lease.lease) is recount, name


def _rigs(state: State) -> None:
    for key, rig in state.rigs.items():
        name = ".".join(key)
        assert state.by_account[key[0]][key] is rig, name
        assert rig.in_hand == sum(lease.left for lease in rig.leases.values()), name
        assert rig.standing.held >= 0, name
        assert (rig.session is None) or state.sessions[rig.session] is rig, name
        assert len(rig.leases) <= rig.credit or rig.session is None or rig.leases, name
        for lease in (*rig.leases.values(), *rig.shares.values()):
            assert state.leases.get(lease.lease) is lease, name
        if rig.session is not None and key[0] in state.leaving:
            assert rig.leases, f"{name} has nothing to stay for"
        if rig.session is None and rig.leases:
            assert key in state.away, f"{name}: nobody counts its grace"
        if state.banned_until(key[0]):
            assert rig.session is None, f"{name} is banned and connected"
            assert not rig.leases, f"{name} is banned and holds leases"
        if rig.standing.banned_until > state.at:
            assert not rig.shares, f"{name} is banned and has shares to be judged"


def _checks(state: State) -> None:
    due = [
        check
        for accounts in state.due.values()
        for queued in accounts.values()
        for check in queued.values()
    ]
    tasks = {task.check for lease in state.open.values() for task in lease.tasks.values()}
    queued_ids = {check.check for check in due}
    for job in state.jobs.values():
        units = sum(checks.price(state, check.key) for check in due if check.key[0] == job.job)
        assert job.due_units == units, f"job {job.job}: {job.due_units} units are due, not {units}"
    for check in state.checks.values():
        name = f"check {check.check}"
        assert check.target.lease in state.leases, f"{name}: its share was judged before it"
        assert check.target.checks.get(check.check) is check, name
        block = state.block(check.key[0], check.key[1])
        assert block is not None, f"{name}: its block is gone"
        if check.referred:
            assert check.key[2] in block.cases, f"{name}: the referee does not know"
            assert check.check not in queued_ids, f"{name} is due and referred"
        elif check.doubted:
            doubts = block.cases[check.key[2]].doubts
            assert any(doubt.check is check for doubt in doubts), f"{name}: its doubt is over"
        else:
            assert (check.check in queued_ids) != (check.check in tasks), f"{name} is nowhere"
    assert queued_ids <= set(state.checks), "a check that ended is due"
    assert set(state.asked) <= queued_ids, "a witness is asked for what is not due"


def _trials(state: State) -> None:
    for (model, kind), trial in state.trials.items():
        name = f"the trial of {kind} in {model}"
        assert (trial.model, trial.kind) == (model, kind), name
        block = state.block(trial.key[0], trial.key[1])
        assert block is not None, name
        assert block.trials[trial.key[2]] is trial, name
        for check in trial.open.values():
            assert state.checks.get(check.check) is check, name
            assert check.trial is trial, name
            assert check.witness is not None, name
    for lease in state.leases.values():
        name = f"lease {lease.lease}"
        assert (lease.lease in lease.rig.on_trial) == (lease.trial is not None), name
        if lease.trial is not None:
            assert lease.trial in state.trials.values(), f"{name}: its trial is over"
            assert lease.lease in lease.trial.accused, name


def _queues(state: State) -> None:
    for queue in state.queues.values():
        for account, ready in queue.ready.items():
            assert ready, account
            assert [j.order for j in ready.values()] == sorted(j.order for j in ready.values())
    for job in state.jobs.values():
        listed = job.job in job.queue.ready.get(job.account, {})
        assert listed == bool(job.open_rows and not job.cancelled), f"job {job.job}"
