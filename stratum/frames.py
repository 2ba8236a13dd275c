"""Frames: a 4-byte big-endian length, then that many bytes holding one MessagePack array."""

from __future__ import annotations

import msgspec

from stratum.errors import Code, ProtocolViolation

HEADER_BYTES = 4
_HTTP_VERBS = (b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"CONN", b"DELE", b"PRI ")
_TLS_HANDSHAKE = b"\x16\x03"

_encoder = msgspec.msgpack.Encoder()


def encode(message: msgspec.Struct) -> bytes:
    """One message as a whole frame, length included."""
    body = _encoder.encode(message)
    return len(body).to_bytes(HEADER_BYTES, "big") + body


class FrameReader:
    """Cuts a stream of bytes into frames, without I/O and without copying whole chunks twice.

    ``limit`` is the longest frame (bytes after the length) that is let in; it is looked at when a
    frame's turn comes, so raising it takes effect for the very next frame. A frame that arrived
    inside one chunk is a view of that chunk; one that was spread over several is copied once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer: bytes | bytearray = b""
        self._position = 0
        self._lent = False  # views of a bytearray are out: it must not be resized any more

    @property
    def buffered(self) -> int:
        """Bytes that wait: the rest of a frame, and frames that were not taken."""
        return len(self._buffer) - self._position

    def feed(self, data: bytes) -> list[memoryview]:
        """Add bytes and take every whole frame. Raises as ``next_frame`` does."""
        self.write(data)
        frames = []
        while (frame := self.next_frame()) is not None:
            frames.append(frame)
        return frames

    def write(self, data: bytes) -> None:
        """Add bytes that arrived."""
        if self._position == len(self._buffer):
            self._buffer = bytes(data)  # no copy when it is bytes already
            self._position = 0
            self._lent = False
        elif isinstance(self._buffer, bytearray) and not self._lent:
            self._buffer += data
        else:
            rest = bytearray(memoryview(self._buffer)[self._position :])
            rest += data
            self._buffer = rest
            self._position = 0
            self._lent = False

    def next_frame(self) -> memoryview | None:
        """Take one whole frame (read-only, without its length), or None while it is incomplete.

        Raises ``ProtocolViolation`` when the next frame is longer than ``limit``.
        """
        buffer, start = self._buffer, self._position
        if len(buffer) - start < HEADER_BYTES:
            return None
        body = start + HEADER_BYTES
        header = buffer[start:body]
        size = int.from_bytes(header, "big")
        if size > self.limit:
            raise _too_large(bytes(header), size, self.limit)
        end = body + size
        if end > len(buffer):
            return None
        self._position = end
        self._lent = True
        return memoryview(buffer)[body:end].toreadonly()


def _too_large(header: bytes, size: int, limit: int) -> ProtocolViolation:
    for what, found in (
        ("HTTP", header in _HTTP_VERBS),
        ("TLS", header.startswith(_TLS_HANDSHAKE)),
    ):
        if found:
            return ProtocolViolation(
                Code.OTHER,
                "not_stratum",
                f"the first bytes look like {what}: this port speaks the inferpool protocol",
            )
    return ProtocolViolation(
        Code.OTHER,
        "frame_too_large",
        f"a frame of {size} bytes is over the limit of {limit} bytes",
    )
