"""Who may say what when: the tables that every session follows."""

from __future__ import annotations

from enum import Enum
from typing import Any

from stratum.errors import Code
from stratum.messages import (
    Authorize,
    Cancel,
    Configure,
    Model,
    ModelFailed,
    ModelReady,
    Notify,
    Ping,
    Reconnect,
    Release,
    RetireModel,
    SetDifficulty,
    ShowMessage,
    Submit,
    Subscribe,
    SuggestDifficulty,
)


class State(Enum):
    """How far the handshake has come."""

    NEW = "new"
    CONFIGURED = "configured"
    SUBSCRIBED = "subscribed"
    AUTHORIZED = "authorized"
    CLOSED = "closed"


_N, _C, _S, _A = State.NEW, State.CONFIGURED, State.SUBSCRIBED, State.AUTHORIZED

# {state: {request of the rig: the state once the pool has answered it with success}}
REQUESTS: dict[State, dict[type[Any], State]] = {
    _N: {Configure: _C, Ping: _N},
    _C: {Subscribe: _S, Ping: _C},
    _S: {Authorize: _A, SuggestDifficulty: _S, Ping: _S},
    _A: {
        SuggestDifficulty: _A,
        ModelReady: _A,
        ModelFailed: _A,
        Submit: _A,
        Release: _A,
        Ping: _A,
    },
    State.CLOSED: {},
}
_ALWAYS: frozenset[type[Any]] = frozenset({Reconnect, ShowMessage})
# {state: what the pool may send unasked}
NOTIFICATIONS: dict[State, frozenset[type[Any]]] = {
    _N: _ALWAYS,
    _C: _ALWAYS,
    _S: _ALWAYS,
    _A: _ALWAYS | {SetDifficulty, Model, RetireModel, Notify, Cancel},
    State.CLOSED: frozenset(),
}
HANDSHAKE: tuple[type[Any], ...] = (Configure, Subscribe, Authorize)

# {state: the reason why a request that needs more is refused}
MISSING = {_N: "not_configured", _C: "not_subscribed", _S: "not_authorized", _A: "already_done"}
# {state: the error code that goes with it}
MISSING_CODES = {
    _N: Code.NOT_CONFIGURED,
    _C: Code.NOT_SUBSCRIBED,
    _S: Code.UNAUTHORIZED,
    _A: Code.OTHER,
}
# {state: the steps of the handshake that are done}
DONE_BEFORE: dict[State, tuple[type[Any], ...]] = {
    _N: (),
    _C: (Configure,),
    _S: (Configure, Subscribe),
    _A: (Configure, Subscribe, Authorize),
}
