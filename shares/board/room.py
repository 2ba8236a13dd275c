"""Whether a rig should get one more share: of anything, and of one model."""

from __future__ import annotations

from shares.board.state import Job, Lease, Rig, State
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
    if state.keeps_from(rig, model):
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
    established rigs have little to do, all rigs on probation together get a share only when they
    hold less than ``admission_ppm`` of the leased work, or nothing: a new pool starts, the last row
    is finished, and a newcomer gets its turn. Where established rigs are busy newcomers are
    welcome. Rigs on the operator's list are no strangers.
    """
    policy = state.policy
    if policy.trusts(*rig.key) or not _established_are_hungry(state, model):
        return True
    unproved, everything = _in_hands(state)
    if not unproved or unproved * PPM < everything * policy.admission_ppm:
        return True
    state.put_off[rig.key] = rig
    return False


def _established_are_hungry(state: State, model: str) -> bool:
    """Whether established rigs have, on average, less than a quarter of a share in hand.

    Measured in seconds of work: near a job's end shares are small, and a rig that holds as many as
    its credit allows is idle soon. Where there is more work than they can do, each holds a share
    or two. One that rests, or is about to leave, does not count.
    """
    policy = state.policy
    sums = state.established.get(model)
    if sums is None:
        rigs = [
            rig
            for rig in state.online(model)
            if rig.standing.established(policy, model) and (rig.leases or has_room(state, rig))
        ]
        sums = (sum(rig.in_hand for rig in rigs), sum(rig.rate(policy) for rig in rigs))
        state.established[model] = sums
    in_hand, rate = sums
    return in_hand < rate * policy.target_share_seconds / 4


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
    established = lease.rig.standing.established(state.policy, lease.model)
    if state.in_hands is not None:
        unproved, everything = state.in_hands
        state.in_hands = (unproved + (0 if established else lease.left), everything + lease.left)
    if established and lease.model in state.established:
        in_hand, rate = state.established[lease.model]
        state.established[lease.model] = (in_hand + lease.left, rate)
