"""The protocol as a state machine without I/O: bytes in, typed messages out, for both ends.

Everything that moves a session is in the tables of ``stratum.states``. The application answers
the handshake; a step is taken only when its answer is a success.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from stratum.errors import Code, LocalProtocolError, ProtocolViolation, words_of
from stratum.frames import FrameReader, encode
from stratum.messages import (
    Cancel,
    Configure,
    Count,
    Error,
    FromPool,
    FromRig,
    ModelFailed,
    Ping,
    Release,
    Result,
    ShowMessage,
    Submit,
    Subscribe,
)
from stratum.states import (
    DONE_BEFORE,
    HANDSHAKE,
    MISSING,
    MISSING_CODES,
    NOTIFICATIONS,
    REQUESTS,
    State,
)

__all__ = ["MAX_FRAME", "SMALL_FRAME", "PoolSession", "RigSession", "State", "method_of"]

SMALL_FRAME = 4 << 10
"""Bytes: the longest frame before authorisation, and of every method but ``mining.submit`` after
(from a rig). A short frame cannot make the decoder do long work."""
MAX_FRAME = 8 << 20
"""Bytes: the longest frame after authorisation, unless the pool's configuration says otherwise."""
MAX_OPEN_REQUESTS = 4096
"""Requests that a rig may have unanswered."""


# {message: (its free text, characters of it that the other end takes)}
_TEXTS: dict[type[Any], tuple[str, int]] = {
    Configure: ("agent", 256),
    ModelFailed: ("reason", 2048),
    Release: ("reason", 256),
    Cancel: ("reason", 256),
    Error: ("message", 2048),
    ShowMessage: ("text", 2048),
}


class _Header(msgspec.Struct, array_like=True, frozen=True):
    method: str
    id: Count


_headers = msgspec.msgpack.Decoder(_Header)
_from_rig: msgspec.msgpack.Decoder[FromRig] = msgspec.msgpack.Decoder(FromRig)
_from_pool: msgspec.msgpack.Decoder[FromPool] = msgspec.msgpack.Decoder(FromPool)


def method_of(message_type: type[Any]) -> str:
    """The method's name on the wire."""
    return str(message_type.__struct_config__.tag)


_RIG_METHODS = frozenset(method_of(t) for t in FromRig.__args__)
_POOL_METHODS = frozenset(method_of(t) for t in FromPool.__args__)
_SUBMIT = method_of(Submit)
_ANSWERS = frozenset({method_of(Result), method_of(Error)})

Incoming = TypeVar("Incoming", FromRig, FromPool)


class _Session(Generic[Incoming]):
    """What both ends share: frames, decoding, own pings, the end."""

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[Incoming],
        methods: frozenset[str],
        max_frame: int,
    ) -> None:
        self.state = State.NEW
        self.max_frame = max_frame
        self._decoder: msgspec.msgpack.Decoder[Incoming] = decoder
        self._methods = methods
        self._reader = FrameReader(min(SMALL_FRAME, max_frame))
        self._replies: list[bytes] = []
        self._deferred: ProtocolViolation | None = None
        self._last_id = 0
        self._pings: set[int] = set()  # ids of our own, not yet answered

    @property
    def paused(self) -> bool:
        """True while nothing more is decoded, because an answer of ours decides its meaning."""
        return False

    @property
    def mid_frame(self) -> bool:
        """True when bytes of an unfinished frame (or frames not yet taken) are waiting."""
        return self._reader.buffered > 0

    @property
    def violated(self) -> bool:
        """True when the next ``receive_data`` raises, whatever it is given."""
        return self._deferred is not None

    def receive_data(self, data: bytes) -> list[Incoming]:
        """Take bytes (possibly none) and return the messages that are complete and legal now.

        Raises ``ProtocolViolation`` (the session is then closed, and ``data_to_send`` says why
        to the other end). Messages that came before the violation are returned first; it is
        raised by the next call.
        """
        if self.state is State.CLOSED:
            raise LocalProtocolError("the session is closed: read no more")
        if self._deferred is not None:
            raise self._fail(self._deferred)
        self._reader.write(data)
        messages: list[Incoming] = []
        while not self.paused:
            try:
                frame = self._reader.next_frame()
                if frame is None:
                    break
                message = self._take(frame)
            except ProtocolViolation as violation:
                if not messages:
                    raise self._fail(violation) from None
                self._deferred = violation
                break
            if message is not None:
                messages.append(message)
        return messages

    def data_to_send(self) -> bytes:
        """Answers that the session gave by itself since the last call."""
        if not self._replies:
            return b""
        data = b"".join(self._replies)
        self._replies.clear()
        return data

    def ping(self) -> bytes:
        """A keep-alive request; its answer is taken by the session."""
        self._must_be_open()
        self._last_id += 1
        self._pings.add(self._last_id)
        return encode(Ping(self._last_id))

    def close(self, code: int = 0, reason: str = "", message: str = "") -> bytes:
        """End the session. With a reason: the frame that tells it (an error with id 0)."""
        if self.state is State.CLOSED:
            return b""
        self.state = State.CLOSED
        return encode(_trimmed(Error(0, code, reason, message))) if reason else b""

    def _fail(self, violation: ProtocolViolation) -> ProtocolViolation:
        self.state = State.CLOSED
        self._deferred = None
        error = Error(violation.request, int(violation.code), violation.reason, violation.message)
        self._replies.append(encode(_trimmed(error)))
        return violation

    def _must_be_open(self) -> None:
        if self.state is State.CLOSED:
            raise LocalProtocolError("the session is closed: send no more")

    def _take(self, frame: memoryview) -> Incoming | None:
        try:
            message = self._decoder.decode(frame)
        except msgspec.ValidationError as error:
            self._not_understood(frame, error)
            return None
        except (ValueError, RecursionError) as error:
            raise _bad_frame(error) from None
        return self._legal(message)

    def _not_understood(self, frame: memoryview, error: msgspec.ValidationError) -> None:
        """Tell a method of a later version (harmless) from a broken message (a violation)."""
        header = _header(frame)
        if header.method not in self._methods:
            if header.id:
                text = f"{header.method!r:.80} is not known here"
                self._reply(Error(header.id, Code.OTHER, "unknown_method", text))
            return
        blamed = 0 if header.method in _ANSWERS else header.id
        code = Code.MALFORMED if header.method == _SUBMIT else Code.OTHER
        raise ProtocolViolation(
            code, "bad_message", f"{header.method}: {error}", request=blamed
        ) from None

    def _legal(self, message: Incoming) -> Incoming | None:
        raise NotImplementedError

    def _reply(self, message: msgspec.Struct) -> None:
        self._replies.append(encode(message))

    def _own_ping_answered(self, answer: Result | Error) -> bool:
        if answer.id not in self._pings:
            return False
        self._pings.discard(answer.id)
        return True


class PoolSession(_Session[FromRig]):
    """The pool's end of one connection.

    ``receive_data`` returns requests; each is to be answered once with ``accept`` or ``refuse``
    (pings are answered by the session). After a request of the handshake nothing more is decoded
    until it is answered, so a rig may send all three at once.
    """

    def __init__(self, *, max_frame: int = MAX_FRAME) -> None:
        super().__init__(_from_rig, _RIG_METHODS, max_frame)
        self._open: dict[int, type[Any]] = {}  # {id of an unanswered request: its type}
        self._step: int = 0  # id of the handshake request that waits for our answer

    @property
    def paused(self) -> bool:
        """True while a request of the handshake waits for the application's answer."""
        return self._step != 0

    def send(self, message: FromPool) -> bytes:
        """The frame of a notification or an answer.

        Raises ``LocalProtocolError`` when the message is not the pool's to send now, or answers a
        request that is not open.
        """
        self._must_be_open()
        kind = type(message)
        if isinstance(message, Result | Error):
            self._answer(message)
        elif kind not in NOTIFICATIONS[self.state]:
            raise LocalProtocolError(f"{method_of(kind)} may not be sent in state {self.state}")
        elif message.id != 0:
            raise LocalProtocolError(f"{method_of(kind)} is a notification: its id must be 0")
        return encode(_trimmed(message))

    def accept(self, request: FromRig | int, value: Any = True) -> bytes:
        """The frame that answers a request (or the id of one) with success."""
        return self.send(Result(_id_of(request), value))

    def refuse(self, request: FromRig | int, code: int, reason: str, message: str = "") -> bytes:
        """The frame that answers a request with an error; without words, those of the reason."""
        return self.send(Error(_id_of(request), int(code), reason, message or words_of(reason)))

    def _answer(self, answer: Result | Error) -> None:
        kind = self._open.pop(answer.id, None)
        if kind is None:
            raise LocalProtocolError(f"no request {answer.id} waits for an answer")
        if self._step == answer.id:
            self._step = 0
            if isinstance(answer, Result):
                self.state = REQUESTS[self.state][kind]
                if self.state is State.AUTHORIZED:
                    self._reader.limit = self.max_frame

    def _take(self, frame: memoryview) -> FromRig | None:
        if len(frame) > SMALL_FRAME and (header := _header(frame)).method != _SUBMIT:
            raise ProtocolViolation(
                Code.OTHER,
                "frame_too_large",
                f"{len(frame)} bytes: only {_SUBMIT} may be longer than {SMALL_FRAME}",
                request=0 if header.method in _ANSWERS else header.id,
            )
        return super()._take(frame)

    def _legal(self, message: FromRig) -> FromRig | None:
        if isinstance(message, Result | Error):
            # An error with id 0 is a rig's last word: it closes by itself.
            if message.id != 0 and not self._own_ping_answered(message):
                raise _unknown_answer(message.id)
            return None
        kind = type(message)
        if message.id == 0:
            raise ProtocolViolation(
                Code.OTHER, "bad_message", f"{method_of(kind)} is a request: its id must not be 0"
            )
        if message.id in self._open:
            raise ProtocolViolation(
                Code.OTHER, "duplicate_id", f"request {message.id} is still unanswered"
            )
        if kind not in REQUESTS[self.state]:
            self._reply(_refusal(message.id, self.state, kind))
            return None
        if kind is Ping:
            self._reply(Result(message.id))
            return None
        if len(self._open) >= MAX_OPEN_REQUESTS:
            raise ProtocolViolation(
                Code.LIMIT,
                "too_many_requests",
                f"{MAX_OPEN_REQUESTS} requests are unanswered",
                request=message.id,
            )
        self._open[message.id] = kind
        if kind in HANDSHAKE:
            self._step = message.id
        return message


class RigSession(_Session[FromPool]):
    """The rig's end of one connection.

    ``receive_data`` returns notifications, and the ``Result`` or ``Error`` of every request but
    pings. An ``Error`` with id 0 is the pool's last word before it closes.
    """

    def __init__(self, *, max_frame: int = MAX_FRAME) -> None:
        """``max_frame``: the longest frame we let in once authorised; the pool may lower it."""
        super().__init__(_from_pool, _POOL_METHODS, max_frame)
        self._open: dict[int, type[Any]] = {}  # {id of an unanswered request: its type}
        self._step: int = 0  # id of the handshake request that waits for the pool's answer
        self._send_limit = SMALL_FRAME

    def request(self, kind: type[Any], **fields: Any) -> tuple[int, bytes]:
        """Make a request: its id and its frame.

        Raises ``LocalProtocolError`` when it is not legal now or longer than the pool takes.
        """
        self._must_be_open()
        if kind not in REQUESTS[self.state]:
            raise LocalProtocolError(f"{method_of(kind)} may not be sent in state {self.state}")
        if kind in HANDSHAKE and self._step:
            raise LocalProtocolError("wait for the answer to the handshake's last step")
        message = _trimmed(kind(id=self._last_id + 1, **fields))
        frame = encode(message)
        limit = self._send_limit if kind is Submit else SMALL_FRAME
        if len(frame) - 4 > limit:
            raise LocalProtocolError(
                f"{method_of(kind)} of {len(frame) - 4} bytes: the pool takes at most {limit}"
            )
        self._last_id += 1
        self._open[self._last_id] = kind
        if kind in HANDSHAKE:
            self._step = self._last_id
        return self._last_id, frame

    def _legal(self, message: FromPool) -> FromPool | None:
        if isinstance(message, Result | Error):
            return self._answered(message)
        kind = type(message)
        if kind is Ping:
            if message.id == 0:
                raise ProtocolViolation(
                    Code.OTHER, "bad_message", "mining.ping is a request: its id must not be 0"
                )
            self._reply(Result(message.id))
            return None
        if message.id != 0:
            raise ProtocolViolation(
                Code.OTHER,
                "bad_message",
                f"{method_of(kind)} is a notification: its id must be 0",
                request=message.id,
            )
        if kind not in NOTIFICATIONS[self.state]:
            raise ProtocolViolation(
                MISSING_CODES[self.state],
                MISSING[self.state],
                f"{method_of(kind)} came in state {self.state}",
            )
        return message

    def _answered(self, answer: Result | Error) -> FromPool | None:
        if isinstance(answer, Error) and answer.id == 0:
            return answer
        if self._own_ping_answered(answer):
            return None
        kind = self._open.pop(answer.id, None)
        if kind is None:
            raise _unknown_answer(answer.id)
        if self._step == answer.id:
            self._step = 0
            if isinstance(answer, Result):
                self._advance(kind, answer.value)
        return answer

    def _advance(self, kind: type[Any], value: Any) -> None:
        if kind is Configure:
            self._send_limit = _announced_limit(value)
            self.max_frame = min(self.max_frame, self._send_limit)
        elif kind is Subscribe:
            ok = isinstance(value, list) and len(value) >= 2
            if not ok or not isinstance(value[0], str) or not isinstance(value[1], bool):
                raise ProtocolViolation(
                    Code.OTHER, "bad_message", "mining.subscribe is answered by [session, resumed]"
                )
        self.state = REQUESTS[self.state][kind]
        if self.state is State.AUTHORIZED:
            self._reader.limit = self.max_frame


def _announced_limit(value: Any) -> int:
    limit = value.get("max_frame") if isinstance(value, dict) else None
    if not isinstance(limit, int) or limit < SMALL_FRAME:
        raise ProtocolViolation(
            Code.OTHER,
            "bad_message",
            f"mining.configure is answered by a map with max_frame of at least {SMALL_FRAME}",
        )
    return limit


def _id_of(request: FromRig | int) -> int:
    return request if isinstance(request, int) else request.id


def _header(frame: memoryview) -> _Header:
    try:
        return _headers.decode(frame)
    except (ValueError, RecursionError) as error:
        raise _bad_frame(error) from None


def _bad_frame(error: Exception) -> ProtocolViolation:
    return ProtocolViolation(Code.OTHER, "bad_frame", str(error))


def _unknown_answer(answer: int) -> ProtocolViolation:
    return ProtocolViolation(Code.OTHER, "unknown_answer", f"no open request has the id {answer}")


def _refusal(request: int, state: State, kind: type[Any]) -> Error:
    reason, code = MISSING[state], MISSING_CODES[state]
    if kind in DONE_BEFORE[state]:
        reason, code = "already_done", Code.OTHER
    return Error(request, code, reason, words_of(reason))


def _trimmed(message: Any) -> Any:
    """The message with its free text cut to what the other end takes."""
    text = _TEXTS.get(type(message))
    if text is None or len(getattr(message, text[0])) <= text[1]:
        return message
    field, size = text
    return msgspec.structs.replace(message, **{field: getattr(message, field)[:size]})
