"""The messages of the wire: MessagePack arrays ``[method, id, params…]``.

Requests carry an ``id`` of 1 or more and are answered by ``Result`` or ``Error`` with the same
id; notifications carry id 0 and are not answered. Fields that a later version appends are
ignored. ``docs/PROTOCOL.md`` is the definition for other languages.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

PROTOCOL = 1

# Bounds are checked as a message is decoded, so that nothing behind it meets absurd values.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Credit = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
Port = Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1)]
Joules = Annotated[float, msgspec.Meta(ge=0.0, le=1e15)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]
Name = Annotated[str, msgspec.Meta(max_length=256)]
Words = Annotated[str, msgspec.Meta(max_length=2048)]
DType = Annotated[str, msgspec.Meta(max_length=8)]
Shape = Annotated[tuple[Count, ...], msgspec.Meta(max_length=8)]
Positions = Annotated[tuple[Count, ...], msgspec.Meta(max_length=2**20)]
Devices = Annotated[tuple["Device", ...], msgspec.Meta(max_length=64)]


class Array(msgspec.Struct, array_like=True, frozen=True):
    """Numbers packed little-endian: NumPy dtype, shape, bytes (decoded without a copy)."""

    dtype: DType
    shape: Shape
    data: memoryview


class Rows(msgspec.Struct, array_like=True, frozen=True):
    """Token ids of a share's rows: ``lengths`` uint32 [rows], ``tokens`` uint32 [sum(lengths)]."""

    lengths: Array
    tokens: Array


class Outcome(msgspec.Struct, array_like=True, frozen=True):
    """A part's result: ``values`` [rows, width]; ``failed`` rows have zero bytes and no result."""

    values: Array
    failed: Positions = ()


class Device(msgspec.Struct, array_like=True, frozen=True):
    """One GPU or CPU of a rig: ``kind`` such as ``cpu`` or ``NVIDIA H200``, memory in bytes."""

    index: Count
    kind: Name
    memory: Count = 0


class FileLocation(msgspec.Struct, array_like=True, frozen=True):
    """Where a model's file can be fetched.

    A ``url`` that begins with ``:`` is a port and path on the host that the rig dialled.
    """

    name: Name
    url: Words


class _Frame(msgspec.Struct, array_like=True, frozen=True, tag_field="method"):
    id: Count


# ── rig to pool, requests ────────────────────────────────────────────────────


class Configure(_Frame, frozen=True, tag="mining.configure"):
    """The first message.

    Answer: ``{"protocol": 1, "agent": …, "max_frame": bytes, "keepalive": seconds}``.
    """

    protocol: Count
    agent: Name
    extensions: dict[str, Any] = {}


class Subscribe(_Frame, frozen=True, tag="mining.subscribe"):
    """Announce credit (shares held at once) and devices; name the last session to resume it.

    Answer: ``[session, resumed]``, a string and a boolean.
    """

    session: Name
    credit: Credit
    devices: Devices = ()


class Authorize(_Frame, frozen=True, tag="mining.authorize"):
    """``user`` is ``ACCOUNT.RIG``; the token is the account's. Answer: ``true``."""

    user: Name
    token: Name


class SuggestDifficulty(_Frame, frozen=True, tag="mining.suggest_difficulty"):
    """Ask for shares of about this much work. Answer: ``true``; ``set_difficulty`` follows."""

    work: Count


class ModelReady(_Frame, frozen=True, tag="mining.model_ready"):
    """The model's files are verified and loaded: its shares may be sent. Answer: ``true``."""

    model: Name


class ModelFailed(_Frame, frozen=True, tag="mining.model_failed"):
    """The model cannot be computed here. Answer: ``true``."""

    model: Name
    reason: Words


class Submit(_Frame, frozen=True, tag="mining.submit"):
    """One part of a share's result, in order. Answer: ``true`` once it is durable.

    ``joules``: what the rig's devices have used since it connected; 0 where no sensor tells.
    """

    lease: Count
    part: Count
    first_row: Count
    final: bool
    outcome: Outcome
    joules: Joules = 0.0


class Release(_Frame, frozen=True, tag="mining.release"):
    """Hand the rest of a share back. Answer: ``true``."""

    lease: Count
    reason: Name


# ── either way ────────────────────────────────────────────────────────────────


class Ping(_Frame, frozen=True, tag="mining.ping"):
    """Keep-alive. Answer: ``true``."""


class Result(_Frame, frozen=True, tag="result"):
    """A request succeeded."""

    value: Any = True


class Error(_Frame, frozen=True, tag="error"):
    """A request failed: a code of ``stratum.errors``, a reason code, and words for a person."""

    code: Count
    reason: Name
    message: Words = ""


# ── pool to rig, notifications ───────────────────────────────────────────────


class SetDifficulty(_Frame, frozen=True, tag="mining.set_difficulty"):
    """Shares cut from now on hold about this much work."""

    work: Count


class Model(_Frame, frozen=True, tag="mining.model"):
    """Stage this model: fetch its files, verify, load, answer with ``model_ready``.

    ``manifest`` is the canonical JSON text whose SHA-256 is ``model``.
    """

    model: Name
    manifest: bytes
    files: tuple[FileLocation, ...] = ()


class RetireModel(_Frame, frozen=True, tag="mining.retire_model"):
    """No more shares of this model will come; its memory may be freed."""

    model: Name


class Notify(_Frame, frozen=True, tag="mining.notify"):
    """A share. ``timeout`` is seconds until its deadline."""

    lease: Count
    model: Name
    operation: Name
    timeout: Seconds
    rows: Rows


class Cancel(_Frame, frozen=True, tag="mining.cancel"):
    """Drop a share: its results are no longer wanted."""

    lease: Count
    reason: Name


class Reconnect(_Frame, frozen=True, tag="client.reconnect"):
    """Finish sending, then connect again (host "" and port 0: to the same place) after ``wait``."""

    host: Name = ""
    port: Port = 0
    wait: Seconds = 0.0


class ShowMessage(_Frame, frozen=True, tag="client.show_message"):
    """Words for the miner."""

    text: Words


FromRig = (
    Configure
    | Subscribe
    | Authorize
    | SuggestDifficulty
    | ModelReady
    | ModelFailed
    | Submit
    | Release
    | Ping
    | Result
    | Error
)
FromPool = (
    SetDifficulty
    | Model
    | RetireModel
    | Notify
    | Cancel
    | Reconnect
    | ShowMessage
    | Ping
    | Result
    | Error
)
