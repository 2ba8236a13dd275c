"""Both ends of the protocol joined in memory: every message in every state."""

from __future__ import annotations

from typing import Any

import pytest
from session_pairs import (
    ANSWERS,
    CONFIGURED,
    NOTIFICATIONS,
    ORDER,
    OUTCOME,
    REQUESTS,
    frame,
    joined,
    values,
)

from stratum import messages as wire
from stratum.errors import Code, LocalProtocolError, ProtocolViolation
from stratum.frames import encode
from stratum.session import MAX_OPEN_REQUESTS, SMALL_FRAME, RigSession, State

N, C, S, A = ORDER
# What each request meets: {state: error code and reason}; a state that is absent takes it.
LATE = {
    N: (33, "not_configured"),
    C: (25, "not_subscribed"),
    S: (24, "not_authorized"),
}
REFUSED: dict[type[Any], dict[State, tuple[int, str]]] = {
    wire.Configure: dict.fromkeys((C, S, A), (20, "already_done")),
    wire.Subscribe: {
        N: LATE[N],
        S: (20, "already_done"),
        A: (20, "already_done"),
    },
    wire.Authorize: {N: LATE[N], C: LATE[C], A: (20, "already_done")},
    wire.SuggestDifficulty: {N: LATE[N], C: LATE[C]},
    wire.ModelReady: LATE,
    wire.ModelFailed: LATE,
    wire.Submit: LATE,
    wire.Release: LATE,
}
NEEDS_AUTHORISATION = (
    wire.SetDifficulty,
    wire.Model,
    wire.RetireModel,
    wire.Notify,
    wire.Cancel,
)


@pytest.mark.parametrize("state", ORDER, ids=lambda state: state.value)
@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_every_request_in_every_state(kind: type[Any], state: State) -> None:
    """A legal request reaches the pool; another is refused by both ends and ends nothing."""
    rig, pool = joined(state)
    refusal = REFUSED[kind].get(state)
    by_hand = encode(kind(id=77, **REQUESTS[kind]))

    if refusal is None:
        _, data = rig.request(kind, **REQUESTS[kind])
        (request,) = pool.receive_data(data)
        assert type(request) is kind
        (answer,) = rig.receive_data(pool.accept(request, ANSWERS.get(kind, True)))
        assert answer == wire.Result(request.id, ANSWERS.get(kind, True))
        assert rig.state is pool.state
    else:
        with pytest.raises(LocalProtocolError):
            rig.request(kind, **REQUESTS[kind])
        assert pool.receive_data(by_hand) == []
        ((method, request_id, code, reason, words),) = values(pool.data_to_send())
        assert (method, request_id) == ("error", 77)
        assert (code, reason) == refusal
        assert words
        assert pool.state is state


@pytest.mark.parametrize("state", ORDER, ids=lambda state: state.value)
@pytest.mark.parametrize("message", NOTIFICATIONS, ids=lambda message: type(message).__name__)
def test_every_notification_in_every_state(message: Any, state: State) -> None:
    """What needs authorisation is our bug before it, and the pool's violation at the rig."""
    rig, pool = joined(state)

    if state is not A and isinstance(message, NEEDS_AUTHORISATION):
        with pytest.raises(LocalProtocolError):
            pool.send(message)
        with pytest.raises(ProtocolViolation) as caught:
            rig.receive_data(encode(message))
        assert caught.value.reason == LATE[state][1]
        assert rig.state is State.CLOSED
    else:
        assert rig.receive_data(pool.send(message)) == [message]


@pytest.mark.parametrize("state", ORDER, ids=lambda state: state.value)
def test_pings_are_answered_by_the_session_in_every_state(state: State) -> None:
    rig, pool = joined(state)

    assert rig.receive_data(pool.ping()) == []
    assert pool.receive_data(rig.data_to_send()) == []
    assert pool.receive_data(rig.ping()) == []
    assert rig.receive_data(pool.data_to_send()) == []
    assert rig.state is pool.state is state


def test_the_state_moves_only_when_the_answer_is_a_success() -> None:
    rig, pool = joined(S)
    _, data = rig.request(wire.Authorize, user="a.r", token="wrong")
    (request,) = pool.receive_data(data)
    (answer,) = rig.receive_data(pool.refuse(request, Code.UNAUTHORIZED, "bad_token"))

    assert isinstance(answer, wire.Error)
    assert (answer.code, answer.reason) == (24, "bad_token")
    assert answer.message  # the reason's own words
    assert rig.state is pool.state is S

    _, data = rig.request(wire.Authorize, user="a.r", token="right")
    (request,) = pool.receive_data(data)
    rig.receive_data(pool.accept(request.id))
    assert rig.state is pool.state is A


def test_a_rig_may_send_the_whole_handshake_at_once() -> None:
    """Decoding pauses at each step until it is answered, so nothing is refused for haste."""
    _, pool = joined(N)
    data = b"".join(
        encode(kind(id=number, **REQUESTS[kind]))
        for number, kind in enumerate([*ANSWERS, wire.ModelReady], 1)
    )
    seen = []
    for _ in range(4):
        (request,) = pool.receive_data(data)
        seen.append(type(request))
        pool.accept(request, ANSWERS.get(type(request), True))
        data = b""

    assert seen == [*ANSWERS, wire.ModelReady]
    assert pool.data_to_send() == b""


def test_unknown_methods_end_nothing() -> None:
    """A method of a later version is ignored without an id, and answered with one."""
    rig, pool = joined(A)
    later = frame("mining.later", 0, {"x": 1}) + frame("mining.later", 9, b"x")

    assert pool.receive_data(later) == []
    assert values(pool.data_to_send())[0][:4] == ["error", 9, 20, "unknown_method"]
    assert rig.receive_data(later) == []
    assert values(rig.data_to_send())[0][:4] == ["error", 9, 20, "unknown_method"]
    assert rig.state is pool.state is A


def test_a_message_meant_for_the_other_end_is_an_unknown_method() -> None:
    _, pool = joined(A)

    assert pool.receive_data(frame("mining.cancel", 0, 1, "x")) == []
    assert pool.state is A


@pytest.mark.parametrize(
    ("data", "reason", "request_id"),
    [
        (frame("mining.submit", 9, 1), "bad_message", 9),
        (frame("mining.submit", 9, 1, 0, 0, 1, [["|u1", [1, 2], b"ab"], []]), "bad_message", 9),
        (frame("mining.submit", 9, -1, 0, 0, True, [["|u1", [1, 2], b"ab"], []]), "bad_message", 9),
        (frame("mining.submit", 9, 1, 0, 0, True, [["|u1", [-1], b"ab"], []]), "bad_message", 9),
        (frame("mining.submit", 9, 1, 0, 0, True, [["|u1", [2], "ab"], []]), "bad_message", 9),
        (frame("mining.submit", 9, 1, 0, 0, True, [["|u1", [1] * 9, b"a"], []]), "bad_message", 9),
        (frame("mining.model_ready", 9, 7), "bad_message", 9),
        (frame("mining.model_ready", 9, "m" * 257), "bad_message", 9),
        (frame("mining.model_ready", 0, "m"), "bad_message", 0),
        (frame("mining.ping", "nine"), "bad_frame", 0),
        (frame("mining.ping", -1), "bad_frame", 0),
        (frame("mining.ping", 2**63), "bad_frame", 0),
        (frame("mining.ping"), "bad_frame", 0),
        (frame(), "bad_frame", 0),
        (frame(1, 2), "bad_frame", 0),
        (b"\0\0\0\0", "bad_frame", 0),
        (b"\0\0\0\1\xc1", "bad_frame", 0),
        (b"\0\0\0\1\x80", "bad_frame", 0),
        (b"\0\0\0\2\x92\xa1", "bad_frame", 0),
        (b"\0\0\0\6\x92\xa3\xff\xff\xff\x01", "bad_frame", 0),
        (frame("mining.ping", 1)[:4] + frame("mining.ping", 1)[4:-1] + b"\xc1", "bad_frame", 0),
        (frame("result", 99, True), "unknown_answer", 0),
        (frame("error", 99, 20, "x", ""), "unknown_answer", 0),
        (frame("result", 99), "unknown_answer", 0),
        (frame("error", 99), "bad_message", 0),
        (b"\x7f\0\0\0", "frame_too_large", 0),
        (b"GET / HTTP/1.1\r\n\r\n", "not_stratum", 0),
        (b"\x16\x03\x01\x02\x00\x01\x00", "not_stratum", 0),
    ],
)
def test_what_is_broken_is_told_and_ends_the_session(
    data: bytes, reason: str, request_id: int
) -> None:
    """The rig hears why, with its request's id where that is known; the session is closed."""
    _, pool = joined(A)

    with pytest.raises(ProtocolViolation) as caught:
        pool.receive_data(data)

    assert caught.value.reason == reason
    ((method, answered, code, told, _),) = values(pool.data_to_send())
    assert (method, answered, told) == ("error", request_id, reason)
    assert code == caught.value.code
    assert pool.state is State.CLOSED
    with pytest.raises(LocalProtocolError):
        pool.receive_data(b"")
    with pytest.raises(LocalProtocolError):
        pool.send(wire.ShowMessage(0, "too late"))


def test_a_malformed_submit_has_the_code_for_malformed_results() -> None:
    _, pool = joined(A)

    with pytest.raises(ProtocolViolation) as caught:
        pool.receive_data(frame("mining.submit", 9, 1))
    assert caught.value.code == Code.MALFORMED


def test_good_messages_before_a_violation_are_handed_out_first() -> None:
    """The violation waits for the next call, and what came before it can still be answered."""
    _, pool = joined(A)
    good = encode(wire.ModelReady(9, "m"))

    (request,) = pool.receive_data(good + b"\0\0\0\1\xc1" + good)
    assert pool.violated
    assert values(pool.accept(request)) == [["result", 9, True]]
    with pytest.raises(ProtocolViolation):
        pool.receive_data(b"")


def test_deep_nesting_is_a_violation_and_no_crash() -> None:
    """Neither in a field that takes anything nor in one that is skipped."""
    for start in (b"\x93\xa6result\x01", b"\x93\xabmining.ping\x01"):
        body = start + b"\x91" * 3000
        _, pool = joined(A)
        with pytest.raises(ProtocolViolation) as caught:
            pool.receive_data(len(body).to_bytes(4, "big") + body)
        assert caught.value.reason == "bad_frame"


class TestLimits:
    def test_frames_are_small_before_authorisation(self) -> None:
        rig, pool = joined(S)
        with pytest.raises(ProtocolViolation, match="frame_too_large"):
            pool.receive_data((SMALL_FRAME + 1).to_bytes(4, "big"))
        with pytest.raises(LocalProtocolError):
            rig.request(wire.Authorize, user="a.r", token="t" * SMALL_FRAME)

    def test_submit_may_be_as_long_as_announced(self) -> None:
        rig, pool = joined(A, max_frame=CONFIGURED["max_frame"])
        room = 1 << 20
        values_ = memoryview(bytes(room - 64))
        fits = wire.Outcome(wire.Array("|u1", (1, len(values_)), values_))
        _, data = rig.request(wire.Submit, **(REQUESTS[wire.Submit] | {"outcome": fits}))
        (request,) = pool.receive_data(data)
        assert request.outcome.values.data == values_  # type: ignore[union-attr]

        values_ = memoryview(bytes(room))
        over = wire.Outcome(wire.Array("|u1", (1, room), values_))
        with pytest.raises(LocalProtocolError, match="at most 1048576"):
            rig.request(wire.Submit, **(REQUESTS[wire.Submit] | {"outcome": over}))
        with pytest.raises(ProtocolViolation, match="frame_too_large"):
            pool.receive_data((room + 1).to_bytes(4, "big"))

    def test_only_submit_may_be_long(self) -> None:
        """Long frames of other methods could make the decoder do long work for nothing."""
        _, pool = joined(A)
        with pytest.raises(ProtocolViolation) as caught:
            pool.receive_data(frame("mining.model_ready", 9, "m" * SMALL_FRAME))
        assert (caught.value.reason, caught.value.request) == ("frame_too_large", 9)

    def test_a_rig_takes_long_shares_once_authorised(self) -> None:
        rig, pool = joined(A)
        data = memoryview(bytes(8 << 10))
        rows = wire.Rows(wire.Array("<u4", (1,), data[:4]), wire.Array("<u4", (2048,), data))
        message = wire.Notify(0, 1, "m", "embed", 5.0, rows)
        assert rig.receive_data(pool.send(message)) == [message]

    def test_unanswered_requests_are_bounded(self) -> None:
        _, pool = joined(A)
        for number in range(MAX_OPEN_REQUESTS):
            assert pool.receive_data(encode(wire.ModelReady(100 + number, "m")))
        with pytest.raises(ProtocolViolation, match="too_many_requests"):
            pool.receive_data(encode(wire.ModelReady(9, "m")))

    def test_an_id_may_be_used_again_only_after_its_answer(self) -> None:
        _, pool = joined(A)
        (request,) = pool.receive_data(encode(wire.ModelReady(9, "m")))
        pool.accept(request)
        assert pool.receive_data(encode(wire.ModelReady(9, "m")))
        with pytest.raises(ProtocolViolation, match="duplicate_id"):
            pool.receive_data(encode(wire.ModelReady(9, "m")))


class TestOurOwnMistakes:
    def test_only_open_requests_can_be_answered_and_only_once(self) -> None:
        _, pool = joined(A)
        (request,) = pool.receive_data(encode(wire.Submit(9, 1, 0, 0, True, OUTCOME)))
        pool.accept(request)
        with pytest.raises(LocalProtocolError):
            pool.accept(request)
        with pytest.raises(LocalProtocolError):
            pool.refuse(10, 20, "pool_fault")

    def test_a_pool_sends_no_requests_and_no_ids_on_notifications(self) -> None:
        _, pool = joined(A)
        with pytest.raises(LocalProtocolError):
            pool.send(wire.Ping(1))
        with pytest.raises(LocalProtocolError):
            pool.send(wire.ShowMessage(1, "x"))
        with pytest.raises(LocalProtocolError):
            pool.send(wire.Submit(0, 1, 0, 0, True, OUTCOME))  # type: ignore[arg-type]

    def test_a_rig_takes_one_step_of_the_handshake_at_a_time(self) -> None:
        rig, _ = joined(N)
        rig.request(wire.Configure, protocol=1, agent="x")
        with pytest.raises(LocalProtocolError):
            rig.request(wire.Configure, protocol=1, agent="x")

    def test_free_text_is_cut_to_what_the_other_end_takes(self) -> None:
        """A long error text must not cost the connection."""
        rig, pool = joined(A)
        _, data = rig.request(wire.ModelFailed, model="m", reason="é" * 1900 + "x" * 9000)[:2]
        (request,) = pool.receive_data(data)
        assert len(request.reason) <= 2048  # type: ignore[union-attr]
        (shown,) = rig.receive_data(pool.send(wire.ShowMessage(0, "y" * 9000)))
        assert isinstance(shown, wire.ShowMessage)
        assert len(shown.text) == 2048


class TestARigChecksItsPool:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (frame("result", 1, {"protocol": 1}), "bad_message"),
            (frame("result", 1, {"max_frame": 12}), "bad_message"),
            (frame("result", 1, True), "bad_message"),
            (frame("result", 2, True), "unknown_answer"),
            (frame("mining.ping", 0), "bad_message"),
            (frame("client.show_message", 3, "x"), "bad_message"),
            (frame("client.reconnect", 0, "h", 65536, 0.0), "bad_message"),
            (frame("client.reconnect", 0, "h", 1, -1.0), "bad_message"),
            (b"HTTP/1.1 400 Bad Request\r\n", "frame_too_large"),
        ],
    )
    def test_broken_answers_to_configure(self, data: bytes, reason: str) -> None:
        rig = RigSession()
        rig.request(wire.Configure, protocol=1, agent="x")
        with pytest.raises(ProtocolViolation) as caught:
            rig.receive_data(data)
        assert caught.value.reason == reason
        assert rig.state is State.CLOSED

    def test_a_broken_answer_to_subscribe(self) -> None:
        rig, _ = joined(C)
        rig.request(wire.Subscribe, session="", credit=1)
        with pytest.raises(ProtocolViolation):
            rig.receive_data(frame("result", 2, ["s", 1]))

    def test_last_words_are_handed_out(self) -> None:
        rig, pool = joined(A)
        (error,) = rig.receive_data(pool.close(24, "authorise_timeout", "late"))
        assert error == wire.Error(0, 24, "authorise_timeout", "late")
        assert pool.close(20, "closed") == b""
