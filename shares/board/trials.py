"""Trials: whether a wrong row is its rig's own doing, or that of every device of its kind.

A row has one right answer, so a fault of an engine or driver makes honest rigs look like cheats,
all rigs of the kind alike. Before a rig is convicted, a few others of the same kind of device and
of unrelated accounts compute the row: blindly, as a check among their own. One right answer is
enough to convict. Only if there is none, and another account gave the very same wrong digest, is
the row put down to the kind: nobody pays, and the held pay of the accused waits for the operator.

A kind is what a rig says it is, so colluders may name one to go free. Established rigs of the kind
are asked before others, in an order that nobody can foresee: one that is honest suffices. And an
excuse is worth little: the share's pay is gone, the account gets no more of the model, its hold is
frozen, and it may be found guilty later. While a trial lasts its accused get nothing, and none of
their shares is cleared.
"""

from __future__ import annotations

from hashlib import blake2b

from shares.board import checks
from shares.board.effects import TrialBegun
from shares.board.room import may_see
from shares.board.state import Accusation, Check, Lease, Rig, RowKey, State, Trial

_AT_ONCE = 2  # witnesses that are asked together: mostly the first is right
_LOOK_SECONDS = 1.0  # between two looks for one more

CONVICT, EXCUSE = "convict", "excuse"


def excused_already(state: State, rig: Rig, model: str) -> bool:
    """Whether a wrong row of the rig is put down to its kind without asking anybody."""
    return state.keeps_from(rig, model)


def kind_of(state: State, accusation: Accusation) -> str:
    """Which kind of a rig that is excused already is to blame."""
    rig, model = accusation.rig, accusation.model
    for of, kind, _ in state.excused.get(rig.key[0], {}).values():
        if of == model:
            return kind
    return next(kind for kind in rig.kinds if (model, kind) in state.quarantined)


def begin(state: State, accusation: Accusation) -> bool:
    """Try a share that is not judged, if there is anybody to ask; ``False``: sentence it.

    A share of the same kind and model joins the trial that is on.
    """
    lease = accusation.lease
    if lease is None or lease.lease not in state.leases:
        return False
    if not state.jobs[next(iter(accusation.wrong.values()))[0][0]].exact:
        return False  # two machines' equal falsehoods are not the same bits
    if lease.trial is not None:
        known = lease.trial.accused[lease.lease]
        known.wrong.update(accusation.wrong)
        known.by_referee |= accusation.by_referee
        return True
    for kind in lease.rig.kinds:
        if _blamed_another(state, lease.account, kind):
            continue
        trial = state.trials.get((lease.model, kind)) or _opened(state, accusation, lease, kind)
        if trial is not None:
            _join(state, trial, accusation, lease)
            return True
    return False


def _blamed_another(state: State, account: str, kind: str) -> bool:
    """Whether the account was excused for another kind: who names a new one each time cheats."""
    return any(of != kind for _, of, _ in state.excused.get(account, {}).values())


def _opened(state: State, accusation: Accusation, lease: Lease, kind: str) -> Trial | None:
    key, given, _ = next(iter(accusation.wrong.values()))
    job = state.jobs[key[0]]
    patience = state.policy.direct_trial_seconds if job.direct else state.policy.trial_seconds
    until = state.at + patience
    trial = Trial(lease.model, kind, key, given, lease.rig, until, spoken={lease.account: None})
    if not _witnesses(state, trial) and state.at >= state.back_by:
        return None
    state.trials[lease.model, kind] = trial
    job.opened[key[1]].trials[key[2]] = trial
    return trial


def _join(state: State, trial: Trial, accusation: Accusation, lease: Lease) -> None:
    rig = lease.rig
    trial.accused[lease.lease] = accusation
    lease.trial = trial
    rig.on_trial[lease.lease] = lease
    for key, given, _ in accusation.wrong.values():
        if key == trial.key:
            trial.spoken[rig.key[0]] = None
            _compare(state, trial, rig, given)
    trial.established |= rig.standing.established(state.policy, lease.model)
    state.emit(TrialBegun(lease.lease, next(iter(accusation.wrong)), trial.kind))


def _compare(state: State, trial: Trial, rig: Rig, given: bytes) -> None:
    """A rig gave a wrong digest of the row."""
    if given == trial.given and _unrelated(state, trial, rig):
        trial.equal[rig.key[0]] = None
        trial.established |= rig.standing.established(state.policy, trial.model)


def _unrelated(state: State, trial: Trial, rig: Rig) -> bool:
    """Whether a rig has nothing to do with the one that gave the wrong digest first."""
    customer = state.jobs[trial.key[0]].account
    return rig.key[0] != customer and rig.unrelated(trial.first, state.policy)


def leave(lease: Lease) -> None:
    """The share has its verdict, or is about to."""
    lease.rig.on_trial.pop(lease.lease, None)
    lease.trial = None


# ── witnesses ────────────────────────────────────────────────────────────────


def _witnesses(state: State, trial: Trial) -> list[Rig]:
    """Connected rigs that may be asked: established ones, or else whoever there is.

    One of each account; first those that are not accused of another row. Their order is known to
    who has the epoch's key.
    """
    found = [rig for rig in state.sessions.values() if _may_witness(state, trial, rig)]
    trusted = [rig for rig in found if rig.standing.established(state.policy, trial.model)]

    def order(rig: Rig) -> tuple[bool, bytes]:
        name = repr((trial.key, rig.key)).encode()
        return bool(rig.on_trial), blake2b(name, key=state.key[:64], digest_size=16).digest()

    one_each: dict[str, Rig] = {}
    for rig in sorted(trusted or found, key=order):
        one_each.setdefault(rig.key[0], rig)
    return list(one_each.values())


def _may_witness(state: State, trial: Trial, rig: Rig) -> bool:
    return (
        trial.kind in rig.kinds
        and trial.model in rig.staged
        and rig.key[0] not in trial.spoken
        and _unrelated(state, trial, rig)
        and may_see(state, rig, state.jobs[trial.key[0]])
    )


def _ask(state: State, trial: Trial) -> None:
    """Ask the next witnesses, a few at once."""
    for accusation in trial.accused.values():
        target = accusation.lease
        if target is not None and target.trial is trial and _computed(target, trial.key):
            break
    else:
        return  # the share that it began with is judged: what was said of its row counts
    for rig in _witnesses(state, trial):
        if len(trial.open) >= _AT_ONCE or trial.questions >= state.policy.witnesses:
            return
        trial.spoken[rig.key[0]] = None
        trial.questions += 1
        check = checks.drawn(state, target, target.find(trial.key), trial.key, "witness")
        check.witness, check.trial = rig, trial
        trial.open[check.check] = check
        checks.put(state, check)
        state.wake[rig.key] = rig


def _computed(lease: Lease, key: RowKey) -> bool:
    try:
        return lease.find(key) < lease.next_row
    except KeyError:
        return False


def heard(state: State, check: Check, lease: Lease, given: bytes) -> None:
    """A witness computed the row."""
    rig, trial = lease.rig, check.trial
    assert trial is not None
    job, number, row = trial.key
    block = state.block(job, number)
    truth = block.truth.get(row) if block is not None else None
    if given == truth:
        trial.right = True
    else:
        _compare(state, trial, rig, given)
    checks.ended(state, check, "guilty" if trial.right else "both_wrong", ".".join(rig.key))


# ── the end ──────────────────────────────────────────────────────────────────


def ripe(state: State) -> list[tuple[Trial, str]]:
    """Trials that are over, with what follows; the others go on asking."""
    over = []
    for trial in list(state.trials.values()):
        if not trial.right and state.at < trial.until:
            if not trial.open or state.at >= trial.look_at:
                trial.look_at = state.at + _LOOK_SECONDS
                _ask(state, trial)
            if trial.open or state.at < state.back_by:
                continue
        over.append((trial, EXCUSE if trial.equal and not trial.right else CONVICT))
    return over


def close(state: State, trial: Trial) -> None:
    """Forget a trial; who was asked and has not answered need not."""
    state.trials.pop((trial.model, trial.kind), None)
    job, number, row = trial.key
    block = state.block(job, number)
    if block is not None:
        block.trials.pop(row, None)
        state.unsettled[job] = state.jobs[job]
    for check in list(trial.open.values()):
        checks.ended(state, check, "void", "")
    for accusation in trial.accused.values():
        if accusation.lease is not None:
            leave(accusation.lease)
