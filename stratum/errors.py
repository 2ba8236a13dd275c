"""Error codes, reason codes and exceptions of the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Code(IntEnum):
    """The number in an ``error`` answer. 20 to 25 keep Stratum's meaning; ours begin at 31."""

    OTHER = 20
    STALE = 21  # job (here: lease) not found, or over
    DUPLICATE = 22  # this part was already accepted
    LOW_WORK = 23
    UNAUTHORIZED = 24
    NOT_SUBSCRIBED = 25
    MALFORMED = 31  # a result of wrong shape, dtype or length, or not finite
    BANNED = 32
    NOT_CONFIGURED = 33  # configure first, or a protocol version we do not speak
    LIMIT = 34  # too many connections, requests or attempts


@dataclass(frozen=True, slots=True)
class Reason:
    """What a reason code means. ``fault``: ``rig``, ``network``, ``pool`` or ``none``."""

    code: Code
    fault: str
    words: str


_OTHER, _STALE = Code.OTHER, Code.STALE
_MALFORMED, _LIMIT = Code.MALFORMED, Code.LIMIT

# {reason code: its meaning}. The codes are stable: software may act on them, words are for people.
REASONS: dict[str, Reason] = {
    # the handshake
    "not_configured": Reason(
        Code.NOT_CONFIGURED, "rig", "Send mining.configure first and wait for its answer."
    ),
    "wrong_protocol": Reason(
        Code.NOT_CONFIGURED,
        "rig",
        "The pool does not speak this protocol version; its message names the one it speaks.",
    ),
    "not_subscribed": Reason(
        Code.NOT_SUBSCRIBED, "rig", "Send mining.subscribe first and wait for its answer."
    ),
    "not_authorized": Reason(
        Code.UNAUTHORIZED, "rig", "Send mining.authorize first and wait for its answer."
    ),
    "already_done": Reason(
        _OTHER, "rig", "This step of the handshake was already accepted on this connection."
    ),
    "bad_user": Reason(
        Code.UNAUTHORIZED, "rig", "The user must be ACCOUNT.RIG: letters, digits, - and _."
    ),
    "unknown_account": Reason(
        Code.UNAUTHORIZED,
        "rig",
        "No such account: the operator makes one with `inferpool account create`.",
    ),
    "closed_account": Reason(Code.UNAUTHORIZED, "rig", "This account was closed."),
    "wrong_role": Reason(Code.UNAUTHORIZED, "rig", "This account is not a miner's account."),
    "bad_token": Reason(
        Code.UNAUTHORIZED, "rig", "The token is not this account's: check the token file."
    ),
    "banned": Reason(Code.BANNED, "rig", "A false result was proved; the message says until when."),
    "replaced": Reason(
        _OTHER, "none", "The same ACCOUNT.RIG connected again: each rig needs a name of its own."
    ),
    # the stream of messages
    "unknown_method": Reason(_OTHER, "none", "This end does not know that method: carry on."),
    "bad_frame": Reason(_OTHER, "rig", "A frame must hold exactly one MessagePack array."),
    "not_stratum": Reason(
        _OTHER, "rig", "This port speaks the inferpool protocol, not HTTP and not TLS."
    ),
    "bad_message": Reason(_OTHER, "rig", "A field is missing or has the wrong type or range."),
    "frame_too_large": Reason(
        _OTHER, "rig", "The frame is longer than this state and method allow: see the limits."
    ),
    "unknown_answer": Reason(_OTHER, "rig", "An answer's id belongs to no open request."),
    "duplicate_id": Reason(_OTHER, "rig", "A request with this id is still unanswered."),
    "too_many_requests": Reason(
        _LIMIT, "rig", "Too many requests are unanswered: wait for answers before sending more."
    ),
    "rate": Reason(_LIMIT, "rig", "Too many attempts or messages: slow down and try again later."),
    "too_many_connections": Reason(
        _LIMIT, "rig", "Too many connections from this address or account."
    ),
    "busy": Reason(_LIMIT, "pool", "The pool is at its limit: try again later."),
    # results
    "wrong_shape": Reason(
        _MALFORMED, "rig", "The values must have the shape [rows of the part, width]."
    ),
    "wrong_dtype": Reason(_MALFORMED, "rig", "The dtype must be spelled as in the manifest."),
    "wrong_length": Reason(_MALFORMED, "rig", "The bytes must be exactly shape times item size."),
    "not_finite": Reason(
        _MALFORMED, "rig", "A value is NaN or infinite: report its row as failed, bytes zero."
    ),
    "bad_failed_rows": Reason(
        _MALFORMED,
        "rig",
        "Failed rows must be ascending positions in the part, and their bytes zero.",
    ),
    "part_too_large": Reason(_MALFORMED, "rig", "A part is at most 1 MiB of values, or one row."),
    "unknown_lease": Reason(
        _STALE, "none", "No such lease is this rig's: drop the share, nothing is charged."
    ),
    "expired": Reason(
        _STALE, "none", "The share's deadline passed and its rows are done or leased elsewhere."
    ),
    "stale_part": Reason(_STALE, "none", "The share is over and none of these rows is open."),
    "duplicate_part": Reason(
        Code.DUPLICATE, "none", "This part was accepted before: treat it as acknowledged."
    ),
    "out_of_order": Reason(
        _OTHER, "rig", "Parts are sent in order: the next part number, its rows right after."
    ),
    "low_work": Reason(Code.LOW_WORK, "rig", "Fewer rows than the share holds."),
    # why a share is cancelled or released
    "cancelled": Reason(_STALE, "none", "The customer cancelled the job."),
    "quarantined": Reason(
        _OTHER,
        "none",
        "The pool keeps this kind of device from the model; parts sent are paid.",
    ),
    "engine_kind": Reason(
        _OTHER, "none", "A row was wrong, and the same on others' devices of its kind."
    ),
    "wrong_row": Reason(_OTHER, "rig", "A row of the share was proved false."),
    "offence": Reason(Code.BANNED, "rig", "False rows were proved: pending and held pay is lost."),
    "superseded": Reason(_STALE, "none", "Another rig was faster with these rows."),
    "stopping": Reason(_OTHER, "none", "The rig, or the pool, is stopping."),
    "out_of_memory": Reason(_OTHER, "rig", "The device has too little memory for it."),
    "unknown_model": Reason(_OTHER, "rig", "This model was not announced to the rig."),
    "unsupported": Reason(_OTHER, "rig", "The rig has no engine for this architecture."),
    "bad_manifest": Reason(_OTHER, "pool", "The manifest's SHA-256 is not the model's digest."),
    "download_failed": Reason(_OTHER, "network", "A file of the model could not be fetched."),
    "compute_failed": Reason(_OTHER, "rig", "The rig's engine failed on this share."),
    "pool_fault": Reason(_OTHER, "pool", "Something failed inside the pool: nothing is charged."),
    # why a connection ended
    "eof": Reason(_OTHER, "network", "The other end closed the connection."),
    "reset": Reason(_OTHER, "network", "The connection broke."),
    "silent": Reason(_OTHER, "network", "Nothing came for three keep-alive intervals."),
    "authorise_timeout": Reason(
        Code.UNAUTHORIZED, "rig", "The handshake was not finished in time."
    ),
    "too_slow": Reason(_OTHER, "network", "The other end reads too slowly: its queue was full."),
    "closed": Reason(_OTHER, "none", "This end closed the connection."),
}


def code_of(reason: str) -> Code:
    """The error code that goes with a reason code (``OTHER`` for one that is not documented)."""
    known = REASONS.get(reason)
    return Code.OTHER if known is None else known.code


def words_of(reason: str) -> str:
    """Words for a person about a reason code ("" for one that is not documented)."""
    known = REASONS.get(reason)
    return "" if known is None else known.words


class ProtocolViolation(Exception):  # noqa: N818 - says whose doing it is
    """The other end broke the protocol; the session is closed.

    ``request``: the id of the request that is to blame, 0 when it is not known.
    """

    def __init__(self, code: int, reason: str, message: str = "", *, request: int = 0) -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.code = code
        self.reason = reason
        self.message = message
        self.request = request


class LocalProtocolError(Exception):
    """This end tried to do what the protocol does not allow now: a bug of ours."""


class ArrayError(ValueError):
    """An array or a part's result is not what was agreed. ``reason`` is a reason code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class ConnectionClosed(Exception):  # noqa: N818 - an event, not always an error
    """The connection is over. ``reason`` is a reason code: ``eof``, ``reset``, ``silent``,
    ``authorise_timeout``, ``too_slow``, ``closed``, or what the other end gave as its reason.
    """

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.reason = reason
        self.message = message


class Refusal(Exception):  # noqa: N818 - the pool's answer
    """The pool answered a request with an error."""

    def __init__(self, code: int, reason: str, message: str = "") -> None:
        super().__init__(f"{reason} ({code}): {message}" if message else f"{reason} ({code})")
        self.code = code
        self.reason = reason
        self.message = message
