"""What a rig and the processes of its devices say to each other, over two pipes.

A frame is a 4-byte little-endian length and one MessagePack array. Both ends are this program at
this version, so nothing here is meant to last.
"""

from __future__ import annotations

from typing import Any

import msgspec

_PREFIX = 4


class _Frame(msgspec.Struct, array_like=True, frozen=True):
    pass


# ── to the device ────────────────────────────────────────────────────────────


class Load(_Frame, frozen=True, tag="load"):
    """Load an engine under a number. ``manifest`` is JSON, ``files`` {name: path}."""

    engine: int
    manifest: bytes
    files: dict[str, str]


class Unload(_Frame, frozen=True, tag="unload"):
    """Free an engine, after what was queued before."""

    engine: int


class Compute(_Frame, frozen=True, tag="compute"):
    """Queue rows: ``lengths`` and ``tokens`` are little-endian uint32."""

    run: int
    engine: int
    operation: str
    lengths: memoryview
    tokens: memoryview
    rows_per_chunk: int


class Cancel(_Frame, frozen=True, tag="cancel"):
    """Stop a run after the chunk in work, or leave it out."""

    run: int


ToDevice = Load | Unload | Compute | Cancel

# ── from the device ──────────────────────────────────────────────────────────


class Ready(_Frame, frozen=True, tag="ready"):
    """The device computes exactly and waits for work. ``pci`` is empty for a processor."""

    kind: str
    memory: int
    pci: str


class Refused(_Frame, frozen=True, tag="refused"):
    """The device would compute other bits, or cannot compute; the process ends."""

    words: str


class Loaded(_Frame, frozen=True, tag="loaded"):
    """An engine is ready."""

    engine: int


class LoadFailed(_Frame, frozen=True, tag="load_failed"):
    """An engine cannot be had. ``memory``: for lack of it."""

    engine: int
    memory: bool
    words: str


class Begun(_Frame, frozen=True, tag="begun"):
    """The device turned to a run, after so many seconds without one.

    ``handover``: of these, how long the run lay there already; ``no_share``: how long there was
    nothing to do.
    """

    run: int
    handover: float
    no_share: float


class Part(_Frame, frozen=True, tag="part"):
    """Results of consecutive rows: raw ``values`` of ``dtype``, ``shape`` [rows, width]."""

    run: int
    first_row: int
    dtype: str
    shape: tuple[int, int]
    values: memoryview
    failed: tuple[int, ...]
    seconds: float


class Finished(_Frame, frozen=True, tag="finished"):
    """A run is over. ``stages`` {stage: seconds it took in this run}."""

    run: int
    stages: dict[str, float]


class Failed(_Frame, frozen=True, tag="failed"):
    """A run failed. ``memory``: for lack of it."""

    run: int
    memory: bool
    words: str


class Lost(_Frame, frozen=True, tag="lost"):
    """The device does not work any more; the process ends."""

    words: str


FromDevice = Ready | Refused | Loaded | LoadFailed | Begun | Part | Finished | Failed | Lost

_encoder = msgspec.msgpack.Encoder()
to_device: msgspec.msgpack.Decoder[ToDevice] = msgspec.msgpack.Decoder(ToDevice)
from_device: msgspec.msgpack.Decoder[FromDevice] = msgspec.msgpack.Decoder(FromDevice)


def encode(message: ToDevice | FromDevice) -> bytearray:
    """A whole frame."""
    frame = bytearray(_PREFIX)
    _encoder.encode_into(message, frame, _PREFIX)
    frame[:_PREFIX] = (len(frame) - _PREFIX).to_bytes(_PREFIX, "little")
    return frame


class Splitter:
    """Bytes in, whole messages out. ``decoder`` is ``to_device`` or ``from_device``."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Any]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """Messages that ``data`` completes. Raises ``msgspec.DecodeError`` for nonsense."""
        self._buffer += data
        messages = []
        start = 0
        while len(self._buffer) - start >= _PREFIX:
            size = int.from_bytes(self._buffer[start : start + _PREFIX], "little")
            stop = start + _PREFIX + size
            if len(self._buffer) < stop:
                break
            with memoryview(self._buffer) as whole:
                # A copy of its own: the messages' arrays are views into it.
                message = bytes(whole[start + _PREFIX : stop])
            messages.append(self._decoder.decode(message))
            start = stop
        del self._buffer[:start]
        return messages
