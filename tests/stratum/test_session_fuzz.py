"""Whatever arrives: nothing but ProtocolViolation, and the same events however it is chunked."""

from __future__ import annotations

from typing import Any

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_vectors import VECTORS
from session_pairs import ANSWERS, ORDER, joined

from stratum.errors import ProtocolViolation
from stratum.session import PoolSession, RigSession, State

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)
_methods = st.sampled_from(sorted({vector.value[0] for vector in VECTORS})) | st.text(max_size=5)


def _framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def _mutate(value: list[Any], place: int, other: Any) -> bytes:
    changed = list(value)
    changed[place % len(changed)] = other
    return _framed(msgpack.packb(changed))


_good = st.sampled_from([vector.frame for vector in VECTORS])
_broken = st.builds(
    _mutate, st.sampled_from([vector.value for vector in VECTORS]), st.integers(0, 9), _values
)
_random_messages = st.builds(
    lambda method, number, rest: _framed(msgpack.packb([method, number, *rest])),
    _methods,
    st.integers(-1, 30),
    st.lists(_values, max_size=5),
)
_streams = st.lists(
    st.binary(max_size=30)
    | st.binary(max_size=60).map(_framed)
    | _good
    | _broken
    | _random_messages,
    max_size=8,
).map(b"".join)
_states = st.sampled_from(ORDER)
_cuts = st.lists(st.integers(0, 80), max_size=12)


def _events(session: PoolSession | RigSession, pieces: list[bytes]) -> tuple[Any, ...]:
    """Everything that comes out, an application answering the handshake as it goes.

    It answers nothing else: when it would matters (an id may be used again after its answer).
    """
    seen: list[Any] = []
    sent = b""
    try:
        for piece in pieces:
            data = piece
            while True:
                messages = session.receive_data(data)
                seen += messages
                sent += session.data_to_send()
                if isinstance(session, PoolSession):
                    for message in messages:
                        if type(message) in ANSWERS:
                            sent += session.accept(message, ANSWERS[type(message)])
                if not messages:
                    break
                data = b""
    except ProtocolViolation as violation:
        seen.append((violation.code, violation.reason, violation.request))
        sent += session.data_to_send()
        assert session.state is State.CLOSED
    return seen, sent, session.state


def _cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@settings(max_examples=120, deadline=None)
@given(_states, _streams, _cuts)
def test_a_pool_survives_anything_and_chunking_changes_nothing(
    state: State, data: bytes, sizes: list[int]
) -> None:
    whole = _events(joined(state)[1], [data])

    assert _events(joined(state)[1], _cut(data, sizes)) == whole


@settings(max_examples=120, deadline=None)
@given(_states, _streams, _cuts)
def test_a_rig_survives_anything_and_chunking_changes_nothing(
    state: State, data: bytes, sizes: list[int]
) -> None:
    whole = _events(joined(state)[0], [data])

    assert _events(joined(state)[0], _cut(data, sizes)) == whole
