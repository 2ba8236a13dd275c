"""Frames: any chunking gives the same frames, limits hold, and cost stays linear."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratum.errors import ProtocolViolation
from stratum.frames import FrameReader

_chunks = st.lists(st.integers(0, 40), max_size=40)


def _framed(bodies: list[bytes]) -> bytes:
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


def _cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@given(st.lists(st.binary(max_size=50), max_size=20), _chunks)
def test_chunking_never_changes_the_frames(bodies: list[bytes], sizes: list[int]) -> None:
    reader = FrameReader(50)
    frames = []
    for piece in _cut(_framed(bodies), sizes):
        frames += reader.feed(piece)

    assert [bytes(frame) for frame in frames] == bodies
    assert reader.buffered == 0


@given(st.lists(st.binary(max_size=50), max_size=20), _chunks, st.randoms())
def test_taking_late_never_changes_the_frames(bodies, sizes, random) -> None:  # type: ignore[no-untyped-def]
    """Frames may be taken one by one while more is written: earlier ones keep their bytes."""
    reader = FrameReader(50)
    frames = []
    for piece in _cut(_framed(bodies), sizes):
        reader.write(piece)
        while random.random() < 0.5 and (frame := reader.next_frame()) is not None:
            frames.append(frame)
    frames += reader.feed(b"")

    assert [bytes(frame) for frame in frames] == bodies


def test_frames_in_one_chunk_are_views_of_it() -> None:
    chunk = _framed([b"abc", b"defg"])
    first, second = FrameReader(10).feed(chunk)

    assert first.obj is second.obj is chunk
    assert first.readonly


def test_the_limit_is_looked_at_when_a_frames_turn_comes() -> None:
    """Raising it between two frames of one chunk lets the second in."""
    reader = FrameReader(3)
    reader.write(_framed([b"abc", b"defg", b"hi"]))
    assert reader.next_frame() == b"abc"
    with pytest.raises(ProtocolViolation, match="frame_too_large"):
        reader.next_frame()
    reader.limit = 4
    assert reader.next_frame() == b"defg"
    assert reader.next_frame() == b"hi"
    assert reader.next_frame() is None


def test_a_length_over_the_limit_is_refused_before_its_bytes_come() -> None:
    reader = FrameReader(1000)
    with pytest.raises(ProtocolViolation):
        reader.feed((1001).to_bytes(4, "big"))


def test_a_long_frame_in_tiny_chunks_costs_linear_time() -> None:
    """Eight times the bytes take some eight times the time; copying anew would take 64 times."""

    def seconds(size: int) -> float:
        data = _framed([bytes(size)])
        reader = FrameReader(size)
        pieces = [data[start : start + 256] for start in range(0, len(data), 256)]
        started = time.perf_counter()
        frames = [frame for piece in pieces for frame in reader.feed(piece)]
        took = time.perf_counter() - started
        assert len(frames) == 1
        return took

    small = min(seconds(1 << 20) for _ in range(3))
    large = min(seconds(8 << 20) for _ in range(3))
    assert large < 40 * small
