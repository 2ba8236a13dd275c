"""Whether a rig should get one more share: of anything, and of one model."""

from __future__ import annotations

from shares.board.state import Job, Lease, Queue, Rig, State
from shares.policy import PPM


def has_room(state: State, rig: Rig, *, direct: bool = False) -> bool:
    """Whether a rig should get one more share (``direct``: of interactive requests)."""
    count = len(rig.leases)
    if rig.session is None or count >= rig.credit or state.at < rig.rest_until:
        return False
    if rig.key[0] in state.leaving:
        return False
    if not rig.standing.accepted_rows:
        return count == 0
    if direct:
        return True
    if rig.credit > 1 and count >= rig.credit - 1:
        return False
    return rig.in_hand < rig.rate(state.policy) * state.policy.window_seconds


def may_see(state: State, rig: Rig, job: Job) -> bool:
    """Whether a rig may be given rows of the job, in shares or as checks."""
    return not job.trusted or state.policy.trusts(*rig.key)


def may_take(state: State, rig: Rig, model: str) -> bool:
    """Whether a rig may have more of a model's work, as far as trust goes.

    On probation everything it does is computed a second time, and the referee may have to: it
    starts with the work of two first shares, and then has no more than twice as much without a
    verdict as cleared; with bad neighbours one share at a time. One share is always allowed. And
    all of them together are admitted to a small part of the pool's work only (see ``_admitted``).
    """
    standing, policy = rig.standing, state.policy
    if rig.on_trial or state.keeps_from(rig, model):
        return False
    if standing.established(policy, model):
        return True
    shares = {**rig.leases, **rig.shares}.values()
    waiting = sum(share.work for share in shares if share.model == model)
    proved = standing.proved.get(model, 0)
    if waiting and state.has_bad_neighbours(rig):
        return False
    if waiting and waiting >= 2 * (policy.initial_difficulty + proved):
        return False
    return _admitted(state, rig, model)


def _admitted(state: State, rig: Rig, model: str) -> bool:
    """Whether a rig on probation may have a share beside the others on probation.

    Names cost nothing, and everything that comes under a new one is computed twice. So while
    established rigs could soon do all there is, all rigs on probation together get a share only
    when they hold less than ``admission_ppm`` of the leased work, or nothing: a new pool starts,
    the last row is finished, and a newcomer gets its turn. Where there is more to do newcomers are
    welcome. Rigs on the operator's list are no strangers.
    """
    policy = state.policy
    if policy.trusts(*rig.key) or not _established_suffice(state, model):
        return True
    unproved, everything = _in_hands(state)
    if not unproved or unproved * PPM < everything * policy.admission_ppm:
        return True
    state.put_off[rig.key] = rig
    return False


def _established_suffice(state: State, model: str) -> bool:
    """Whether established rigs could do what they have and what is open within a share's time.

    One that rests, or is about to leave, does not count. In a turn it is looked at once: what they
    get in it moves from what is open to what they have.
    """
    policy = state.policy
    known = state.suffice.get(model)
    if known is None:
        rigs = [
            rig
            for rig in state.online(model)
            if rig.standing.established(policy, model) and (rig.leases or has_room(state, rig))
        ]
        rate = sum(rig.rate(policy) for rig in rigs)
        free = rate * policy.target_share_seconds - sum(rig.in_hand for rig in rigs)
        for queue in state.queues.values():
            if free > 0 and queue.model == model:
                free -= open_work(queue, free)
        known = state.suffice[model] = free > 0
    return known


def open_work(queue: Queue, enough: float) -> int:
    """Work of the queue's jobs that is not leased; it stops adding up at ``enough``."""
    work = 0
    counted: set[int] = set()
    for line in (queue.ready, queue.backlog):
        for owned in line.values():
            for job in owned.values():
                if job.job not in counted:
                    counted.add(job.job)
                    work += job.open_work
                    if work >= enough:
                        return work
    return work


def _in_hands(state: State) -> tuple[int, int]:
    if state.in_hands is None:
        everything = unproved = 0
        for lease in state.open.values():
            everything += lease.left
            if not lease.rig.standing.established(state.policy, lease.model):
                unproved += lease.left
        state.in_hands = (unproved, everything)
    return state.in_hands


def count_in(state: State, lease: Lease) -> None:
    """A lease is open: its work is in the sums of this turn, if anybody asked for them."""
    if state.in_hands is not None:
        unproved, everything = state.in_hands
        if not lease.rig.standing.established(state.policy, lease.model):
            unproved += lease.left
        state.in_hands = (unproved, everything + lease.left)
