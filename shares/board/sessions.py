"""Rigs come and go, stage models, ask for a difficulty."""

from __future__ import annotations

from shares.board import leases
from shares.board.effects import Disconnect, SetDifficulty
from shares.board.events import (
    AccountClosed,
    DifficultySuggested,
    HoldReleased,
    KindsQuarantined,
    ModelStaged,
    ModelUnstaged,
    SessionClosed,
    SessionOpened,
)
from shares.board.state import Rig, State
from shares.vardiff import clamp


def opened(state: State, event: SessionOpened) -> None:
    """A rig is authorised: it goes on with its leases, unless it lost them or is banned."""
    if event.session in state.sessions:
        raise ValueError(f"session {event.session} is open already: number sessions once")
    key = (event.account, event.rig)
    if state.banned_until(event.account):
        state.emit(Disconnect(event.session, "banned"))
        return
    rig = state.rig(key)
    leases.disconnect(state, rig, "replaced")
    if not event.resumed:
        for lease in list(rig.leases.values()):
            leases.end(state, lease, "released", "network")
        rig.rest_until = 0.0  # it did not choose to drop them
    rig.session = event.session
    rig.credit = max(1, event.credit)
    rig.group = event.group
    rig.payees = event.payees
    rig.kinds = event.kinds
    rig.busy_since = state.at
    state.sessions[event.session] = rig
    state.away.pop(key, None)
    wish = event.suggested or rig.difficulty or state.policy.initial_difficulty
    rig.difficulty = clamp(wish, rig.ceiling(state.policy), state.policy)
    state.emit(SetDifficulty(event.session, rig.difficulty))
    _call_off_quarantined(state, rig)


def closed(state: State, event: SessionClosed) -> None:
    """The connection is gone: its leases wait for it a while."""
    rig = state.sessions.get(event.session)
    if rig is None:
        return
    leases.part_with(state, rig)
    if rig.leases:
        rig.grace_until = state.at + state.policy.disconnect_grace_seconds
        state.away[rig.key] = rig
    elif rig.standing.blank and not rig.shares and not _waits(state, rig):
        _forget(state, rig)


def account_closed(state: State, event: AccountClosed) -> None:
    """No more shares for its rigs; a share that was leased meanwhile is like any other."""
    state.leaving[event.account] = None


def send_away(state: State) -> None:
    """Rigs of closed accounts leave when nothing is in their hands."""
    for account in list(state.leaving):
        rigs = [rig for rig in state.rigs_of(account) if rig.session is not None]
        for rig in rigs:
            if not rig.leases:
                leases.disconnect(state, rig, "closed_account")
        if all(rig.session is None for rig in rigs):
            del state.leaving[account]


def _waits(state: State, rig: Rig) -> bool:
    return any(lease.rig is rig for lease in state.waiting.values())


def _forget(state: State, rig: Rig) -> None:
    """A name that never did anything leaves nothing behind."""
    del state.rigs[rig.key]
    account = state.by_account[rig.key[0]]
    del account[rig.key]
    if not account:
        del state.by_account[rig.key[0]]


def difficulty_suggested(state: State, event: DifficultySuggested) -> None:
    """Take the wish within bounds; vardiff goes on from there."""
    rig = state.sessions.get(event.session)
    if rig is not None:
        rig.difficulty = clamp(event.work, rig.ceiling(state.policy), state.policy)
        state.emit(SetDifficulty(event.session, rig.difficulty))


def staged(state: State, event: ModelStaged) -> None:
    """The rig can take the model's shares."""
    rig = state.sessions.get(event.session)
    if rig is not None:
        rig.staged[event.model] = None
        state.wake[rig.key] = rig
        state.rates.clear()


def unstaged(state: State, event: ModelUnstaged) -> None:
    """The rig cannot compute the model: its shares of it open again."""
    rig = state.sessions.get(event.session)
    if rig is None:
        return
    rig.staged.pop(event.model, None)
    state.rates.clear()
    for lease in [lease for lease in rig.leases.values() if lease.model == event.model]:
        leases.end(state, lease, "released", "rig", tell="cancelled")


def kinds_quarantined(state: State, event: KindsQuarantined) -> None:
    """Rigs of these kinds hold no share of the model any more; where it was lifted they may again.

    What was on its way when a share was called off is compared and paid as ever.
    """
    state.quarantined = event.kinds
    state.checkers.clear()
    for rig in state.sessions.values():
        _call_off_quarantined(state, rig)
        state.wake[rig.key] = rig


def _call_off_quarantined(state: State, rig: Rig) -> None:
    for lease in list(rig.leases.values()):
        if state.keeps_from(rig, lease.model):
            leases.end(state, lease, "cancelled", "none", tell="quarantined")


def hold_released(state: State, event: HoldReleased) -> None:
    """Held pay became available: the rig has less to lose."""
    rig = state.rig((event.account, event.rig))
    rig.standing.held = max(0, rig.standing.held - event.units)
    state.changed[rig.key] = rig
