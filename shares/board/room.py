"""Whether a rig should get one more share: of anything, and of one model."""

from __future__ import annotations

from shares.board.state import Job, Rig, State


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
    verdict as cleared. One share is always allowed.
    """
    standing, policy = rig.standing, state.policy
    if standing.established(policy, model):
        return True
    shares = {**rig.leases, **rig.shares}.values()
    waiting = sum(share.work for share in shares if share.model == model)
    proved = standing.proved.get(model, 0)
    return not waiting or waiting < 2 * (policy.initial_difficulty + proved)
