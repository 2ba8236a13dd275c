"""The wire is plain MessagePack: every vector agrees with an independent implementation."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import msgspec
import pytest
from protocol_vectors import (
    EXCHANGE,
    PROTOCOL_FILE,
    VECTORS,
    VECTORS_FILE,
    Vector,
    up_to_date,
    vectors_text,
)

from stratum.messages import FromPool, FromRig
from stratum.session import method_of

_named = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"hex"}:
            return bytes.fromhex(value["hex"])
        return {key: _from_json(one) for key, one in value.items()}
    return [_from_json(one) for one in value] if isinstance(value, list) else value


def test_the_files_are_up_to_date() -> None:
    """The vectors, and the document's exchange and tables, are what the code says."""
    remedy = "run python tests/stratum/protocol_vectors.py"

    assert VECTORS_FILE.read_text(encoding="utf-8") == vectors_text(), remedy
    document = PROTOCOL_FILE.read_text(encoding="utf-8")
    assert document == up_to_date(document), remedy


def test_the_published_file_agrees_with_msgpack() -> None:
    """Read as a stranger would: the JSON file and the msgpack package, nothing of ours."""
    published = json.loads(VECTORS_FILE.read_text(encoding="utf-8"))["vectors"]

    assert len(published) == len(VECTORS)
    for entry in published:
        frame = bytes.fromhex(entry["frame"])
        value = _from_json(entry["value"])
        assert int.from_bytes(frame[:4], "big") == len(frame) - 4
        assert msgpack.unpackb(frame[4:]) == value
        assert msgpack.packb(value) == frame[4:]
        assert value[0] == entry["method"]


@_named
def test_we_encode_what_msgpack_encodes(vector: Vector) -> None:
    assert vector.frame[4:] == msgpack.packb(vector.value)


@_named
def test_we_decode_what_msgpack_encodes(vector: Vector) -> None:
    kind: Any = FromRig if vector.sender == "rig" else FromPool
    decoded = msgspec.msgpack.decode(msgpack.packb(vector.value), type=kind)

    assert decoded == vector.message


@_named
def test_fields_of_a_later_version_are_ignored(vector: Vector) -> None:
    """Values appended to a message change nothing."""
    kind: Any = FromRig if vector.sender == "rig" else FromPool
    longer = msgpack.packb([*vector.value, "later", {"more": [1, 2]}])

    complete = len(vector.value) - 1 == len(vector.message.__struct_fields__)
    assert complete, "a vector shows every field of its message"
    assert msgspec.msgpack.decode(longer, type=kind) == vector.message


def test_every_message_has_a_vector_and_the_exchange_is_made_of_them() -> None:
    shown = {(vector.sender, vector.value[0]) for vector in VECTORS}
    possible = {("rig", method_of(kind)) for kind in FromRig.__args__}
    possible |= {("pool", method_of(kind)) for kind in FromPool.__args__}

    assert possible == shown
    assert EXCHANGE[0].name == "configure"
