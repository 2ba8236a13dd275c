"""The messages of the wire: MessagePack arrays ``[method, id, params…]``.

Requests carry an ``id`` of 1 or more and are answered by ``Result`` or ``Error`` with the same
id; notifications carry id 0 and are not answered. Fields that a later version appends are
ignored. ``docs/PROTOCOL.md`` is the definition for other languages.
"""

from __future__ import annotations

from typing import Any

import msgspec

PROTOCOL = 1


class Array(msgspec.Struct, array_like=True, frozen=True):
    """Numbers packed little-endian: NumPy dtype, shape, bytes (decoded without a copy)."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


class Rows(msgspec.Struct, array_like=True, frozen=True):
    """Token ids of a share's rows: ``lengths`` uint32 [rows], ``tokens`` uint32 [sum(lengths)]."""

    lengths: Array
    tokens: Array


class Outcome(msgspec.Struct, array_like=True, frozen=True):
    """A part's result: ``values`` [rows, width]; ``failed`` rows have zero bytes and no result."""

    values: Array
    failed: tuple[int, ...] = ()


class Device(msgspec.Struct, array_like=True, frozen=True):
    """One GPU or CPU of a rig: ``kind`` such as ``cpu`` or ``NVIDIA H200``, memory in bytes."""

    index: int
    kind: str
    memory: int = 0


class FileLocation(msgspec.Struct, array_like=True, frozen=True):
    """Where a model's file can be fetched.

    A ``url`` that begins with ``:`` is a port and path on the host that the rig dialled.
    """

    name: str
    url: str


class _Frame(msgspec.Struct, array_like=True, frozen=True, tag_field="method"):
    id: int


# ── rig to pool, requests ────────────────────────────────────────────────────


class Configure(_Frame, tag="mining.configure"):
    """The first message. Answer: ``{"protocol": 1, "agent": …, "max_frame": …, "keepalive": …}``."""

    protocol: int
    agent: str
    extensions: dict[str, Any] = {}


class Subscribe(_Frame, tag="mining.subscribe"):
    """Announce credit (shares held at once) and devices; name the last session to resume it.

    Answer: ``[session, resumed]``, a string and a boolean.
    """

    session: str
    credit: int
    devices: tuple[Device, ...] = ()


class Authorize(_Frame, tag="mining.authorize"):
    """``user`` is ``ACCOUNT.RIG``; the token is the account's. Answer: ``true``."""

    user: str
    token: str


class SuggestDifficulty(_Frame, tag="mining.suggest_difficulty"):
    """Ask for shares of about this much work. Answer: ``true``; ``set_difficulty`` follows."""

    work: int


class ModelReady(_Frame, tag="mining.model_ready"):
    """The model's files are verified and loaded: its shares may be sent. Answer: ``true``."""

    model: str


class ModelFailed(_Frame, tag="mining.model_failed"):
    """The model cannot be computed here. Answer: ``true``."""

    model: str
    reason: str


class Submit(_Frame, tag="mining.submit"):
    """One part of a share's result, in order. Answer: ``true`` once it is durable."""

    lease: int
    part: int
    first_row: int
    final: bool
    outcome: Outcome


class Release(_Frame, tag="mining.release"):
    """Hand the rest of a share back. Answer: ``true``."""

    lease: int
    reason: str


# ── either way ────────────────────────────────────────────────────────────────


class Ping(_Frame, tag="mining.ping"):
    """Keep-alive. Answer: ``true``."""


class Result(_Frame, tag="result"):
    """A request succeeded."""

    value: Any = True


class Error(_Frame, tag="error"):
    """A request failed: a code of ``stratum.errors``, a reason code, and words for a person."""

    code: int
    reason: str
    message: str = ""


# ── pool to rig, notifications ───────────────────────────────────────────────


class SetDifficulty(_Frame, tag="mining.set_difficulty"):
    """Shares cut from now on hold about this much work."""

    work: int


class Model(_Frame, tag="mining.model"):
    """Stage this model: fetch its files, verify, load, answer with ``model_ready``.

    ``manifest`` is the canonical JSON text whose SHA-256 is ``model``.
    """

    model: str
    manifest: bytes
    files: tuple[FileLocation, ...] = ()


class RetireModel(_Frame, tag="mining.retire_model"):
    """No more shares of this model will come; its memory may be freed."""

    model: str


class Notify(_Frame, tag="mining.notify"):
    """A share. ``timeout`` is seconds until its deadline."""

    lease: int
    model: str
    operation: str
    timeout: float
    rows: Rows


class Cancel(_Frame, tag="mining.cancel"):
    """Drop a share: its results are no longer wanted."""

    lease: int
    reason: str


class Reconnect(_Frame, tag="client.reconnect"):
    """Finish sending, then connect again (host "" and port 0: to the same place) after ``wait``."""

    host: str = ""
    port: int = 0
    wait: float = 0.0


class ShowMessage(_Frame, tag="client.show_message"):
    """Words for the miner."""

    text: str


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
