"""Both ends of a session joined in memory, and what tests say over it."""

from __future__ import annotations

from typing import Any

import msgpack

from stratum import messages as wire
from stratum.session import PoolSession, RigSession, State

CONFIGURED = {"protocol": 1, "agent": "test/1", "max_frame": 1 << 20, "keepalive": 60.0}
ANSWERS: dict[type[Any], Any] = {
    wire.Configure: CONFIGURED,
    wire.Subscribe: ["session-1", False],
    wire.Authorize: True,
}
OUTCOME = wire.Outcome(wire.Array("|u1", (1, 2), memoryview(b"ab")))
ROWS = wire.Rows(
    wire.Array("<u4", (1,), memoryview(b"\x01\0\0\0")),
    wire.Array("<u4", (1,), memoryview(b"\x07\0\0\0")),
)
REQUESTS: dict[type[Any], dict[str, Any]] = {
    wire.Configure: {"protocol": 1, "agent": "test/1"},
    wire.Subscribe: {"session": "", "credit": 2},
    wire.Authorize: {"user": "a.r", "token": "t"},
    wire.SuggestDifficulty: {"work": 5},
    wire.ModelReady: {"model": "m"},
    wire.ModelFailed: {"model": "m", "reason": "unsupported"},
    wire.Submit: {"lease": 1, "part": 0, "first_row": 0, "final": True, "outcome": OUTCOME},
    wire.Release: {"lease": 1, "reason": "stopping"},
}
NOTIFICATIONS = [
    wire.SetDifficulty(0, 5),
    wire.Model(0, "m", b"{}"),
    wire.RetireModel(0, "m"),
    wire.Notify(0, 1, "m", "embed", 5.0, ROWS),
    wire.Cancel(0, 1, "superseded"),
    wire.Reconnect(0),
    wire.ShowMessage(0, "hello"),
]
ORDER = [State.NEW, State.CONFIGURED, State.SUBSCRIBED, State.AUTHORIZED]
STEPS = [wire.Configure, wire.Subscribe, wire.Authorize]


def frame(*value: Any) -> bytes:
    """A frame made by the msgpack package."""
    body = msgpack.packb(value)
    return len(body).to_bytes(4, "big") + body


def values(data: bytes) -> list[Any]:
    """Frames read by the msgpack package."""
    found = []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(msgpack.unpackb(data[4 : 4 + size]))
        data = data[4 + size :]
    return found


def joined(state: State, **options: Any) -> tuple[RigSession, PoolSession]:
    """A rig and a pool that have come as far as ``state`` together."""
    rig, pool = RigSession(), PoolSession(**options)
    for kind in STEPS[: ORDER.index(state)]:
        _, data = rig.request(kind, **REQUESTS[kind])
        (request,) = pool.receive_data(data)
        (answer,) = rig.receive_data(pool.accept(request, ANSWERS[kind]))
        assert isinstance(answer, wire.Result)
    assert rig.state is pool.state is state
    return rig, pool
