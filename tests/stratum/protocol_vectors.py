"""The examples behind docs/protocol-vectors.json and the exchange in docs/PROTOCOL.md.

Run as a script to write both anew; the tests fail while they differ.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from stratum import messages as wire
from stratum.errors import REASONS
from stratum.frames import encode
from stratum.manifest import BLAKE2B, encode_manifest, manifest_digest

DOCS = Path(__file__).resolve().parents[2] / "docs"
VECTORS_FILE = DOCS / "protocol-vectors.json"
PROTOCOL_FILE = DOCS / "PROTOCOL.md"


@dataclass(frozen=True)
class Vector:
    """``sender``: ``rig`` or ``pool``; ``value``: the array in plain types, written by hand."""

    name: str
    sender: str
    message: Any
    value: list[Any]
    remark: str = ""

    @property
    def frame(self) -> bytes:
        return encode(self.message)


MANIFEST = encode_manifest(BLAKE2B)
MODEL = manifest_digest(MANIFEST)
ROWS = [[101, 7592, 2088, 102], [101, 102], [4294967295]]
_LENGTHS = struct.pack("<3I", *(len(row) for row in ROWS))
_TOKENS = b"".join(struct.pack(f"<{len(row)}I", *row) for row in ROWS)
_DIGESTS = [blake2b(struct.pack(f"<{len(row)}I", *row), digest_size=32).digest() for row in ROWS]
_FIRST, _SECOND = b"".join(_DIGESTS[:2]), _DIGESTS[2]
_FLOATS = struct.pack("<4f", 0.5, -0.5, 0.0, 0.0)
_SESSION = "5f3c9a0e21d7b864"
_CONFIGURED = {
    "protocol": 1,
    "agent": "inferpool/0.1.0",
    "max_frame": 8388608,
    "keepalive": 60.0,
}


def _array(dtype: str, shape: tuple[int, ...], data: bytes) -> wire.Array:
    return wire.Array(dtype, shape, memoryview(data))


# The worked exchange, in order.
EXCHANGE = [
    Vector(
        "configure",
        "rig",
        wire.Configure(1, 1, "example/1.0"),
        ["mining.configure", 1, 1, "example/1.0", {}],
    ),
    Vector("configure answer", "pool", wire.Result(1, _CONFIGURED), ["result", 1, _CONFIGURED]),
    Vector(
        "subscribe",
        "rig",
        wire.Subscribe(2, "", 2, (wire.Device(0, "cpu", 8589934592),)),
        ["mining.subscribe", 2, "", 2, [[0, "cpu", 8589934592]]],
        "no session to resume; it holds up to 2 shares",
    ),
    Vector(
        "subscribe answer",
        "pool",
        wire.Result(2, [_SESSION, False]),
        ["result", 2, [_SESSION, False]],
    ),
    Vector(
        "authorize",
        "rig",
        wire.Authorize(3, "alice.rig1", "sesame"),
        ["mining.authorize", 3, "alice.rig1", "sesame"],
    ),
    Vector("authorize answer", "pool", wire.Result(3), ["result", 3, True]),
    Vector("set_difficulty", "pool", wire.SetDifficulty(0, 3), ["mining.set_difficulty", 0, 3]),
    Vector(
        "model",
        "pool",
        wire.Model(0, MODEL, MANIFEST),
        ["mining.model", 0, MODEL, MANIFEST, []],
        "the built-in blake2b model: no files to fetch",
    ),
    Vector(
        "model_ready",
        "rig",
        wire.ModelReady(4, MODEL),
        ["mining.model_ready", 4, MODEL],
    ),
    Vector("model_ready answer", "pool", wire.Result(4), ["result", 4, True]),
    Vector(
        "notify",
        "pool",
        wire.Notify(
            0,
            17,
            MODEL,
            "digest",
            60.0,
            wire.Rows(_array("<u4", (3,), _LENGTHS), _array("<u4", (7,), _TOKENS)),
        ),
        [
            "mining.notify",
            0,
            17,
            MODEL,
            "digest",
            60.0,
            [["<u4", [3], _LENGTHS], ["<u4", [7], _TOKENS]],
        ],
        "three rows of 4, 2 and 1 tokens",
    ),
    Vector(
        "submit part 0",
        "rig",
        wire.Submit(5, 17, 0, 0, False, wire.Outcome(_array("|u1", (2, 32), _FIRST))),
        ["mining.submit", 5, 17, 0, 0, False, [["|u1", [2, 32], _FIRST], []], 0.0],
        "rows 0 and 1",
    ),
    Vector(
        "submit part 1",
        "rig",
        wire.Submit(6, 17, 1, 2, True, wire.Outcome(_array("|u1", (1, 32), _SECOND))),
        ["mining.submit", 6, 17, 1, 2, True, [["|u1", [1, 32], _SECOND], []], 0.0],
        "row 2, and the share is done",
    ),
    Vector("submit answer 0", "pool", wire.Result(5), ["result", 5, True], "part 0 is durable"),
    Vector("submit answer 1", "pool", wire.Result(6), ["result", 6, True]),
    Vector("ping", "pool", wire.Ping(1), ["mining.ping", 1], "the pool numbers its own requests"),
    Vector("ping answer", "rig", wire.Result(1), ["result", 1, True]),
]

# Every message that the exchange does not show.
OTHERS = [
    Vector(
        "configure with extensions",
        "rig",
        wire.Configure(1, 1, "example/1.0", {"telemetry": True}),
        ["mining.configure", 1, 1, "example/1.0", {"telemetry": True}],
    ),
    Vector(
        "subscribe to resume",
        "rig",
        wire.Subscribe(2, _SESSION, 65536),
        ["mining.subscribe", 2, _SESSION, 65536, []],
    ),
    Vector(
        "suggest_difficulty",
        "rig",
        wire.SuggestDifficulty(7, 250000),
        ["mining.suggest_difficulty", 7, 250000],
    ),
    Vector(
        "model_failed",
        "rig",
        wire.ModelFailed(8, MODEL, "unsupported: no engine for décodeurs"),
        ["mining.model_failed", 8, MODEL, "unsupported: no engine for décodeurs"],
    ),
    Vector(
        "submit with a failed row",
        "rig",
        wire.Submit(9, 18, 3, 40, True, wire.Outcome(_array("<f4", (2, 2), _FLOATS), (1,)), 812.5),
        ["mining.submit", 9, 18, 3, 40, True, [["<f4", [2, 2], _FLOATS], [1]], 812.5],
        "row 41 of the share has no finite result: its bytes are zero",
    ),
    Vector(
        "release", "rig", wire.Release(10, 18, "stopping"), ["mining.release", 10, 18, "stopping"]
    ),
    Vector(
        "unknown method",
        "rig",
        wire.Error(2, 20, "unknown_method"),
        ["error", 2, 20, "unknown_method", ""],
    ),
    Vector("rig's ping", "rig", wire.Ping(11), ["mining.ping", 11]),
    Vector(
        "duplicate part",
        "pool",
        wire.Error(9, 22, "duplicate_part", "part 3 was accepted before"),
        ["error", 9, 22, "duplicate_part", "part 3 was accepted before"],
    ),
    Vector(
        "last words",
        "pool",
        wire.Error(0, 24, "authorise_timeout"),
        ["error", 0, 24, "authorise_timeout", ""],
        "id 0: about the connection, which the pool closes",
    ),
    Vector(
        "model with a file",
        "pool",
        wire.Model(
            0,
            MODEL,
            MANIFEST,
            (wire.FileLocation("weights.safetensors", ":8080/api/v1/models/files/00ff"),),
        ),
        [
            "mining.model",
            0,
            MODEL,
            MANIFEST,
            [["weights.safetensors", ":8080/api/v1/models/files/00ff"]],
        ],
    ),
    Vector("retire_model", "pool", wire.RetireModel(0, MODEL), ["mining.retire_model", 0, MODEL]),
    Vector(
        "cancel",
        "pool",
        wire.Cancel(0, 9223372036854775807, "superseded"),
        ["mining.cancel", 0, 9223372036854775807, "superseded"],
    ),
    Vector("reconnect", "pool", wire.Reconnect(0, "", 0, 2.5), ["client.reconnect", 0, "", 0, 2.5]),
    Vector(
        "show_message",
        "pool",
        wire.ShowMessage(0, "the pool stops in a minute"),
        ["client.show_message", 0, "the pool stops in a minute"],
    ),
]
VECTORS = EXCHANGE + OTHERS


def to_json(value: Any) -> Any:
    """Bytes become ``{"hex": …}``; everything else is JSON already."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, list):
        return [to_json(one) for one in value]
    if isinstance(value, dict):
        return {key: to_json(one) for key, one in value.items()}
    return value


def vectors_text() -> str:
    """The vectors file as it should be."""
    entries = [
        {
            "name": vector.name,
            "from": vector.sender,
            "method": vector.value[0],
            "value": to_json(vector.value),
            "frame": vector.frame.hex(),
        }
        for vector in VECTORS
    ]
    return json.dumps({"protocol": wire.PROTOCOL, "vectors": entries}, indent=1) + "\n"


def exchange_text() -> str:
    """The worked exchange."""
    blocks = []
    for vector in EXCHANGE:
        arrow = "rig → pool" if vector.sender == "rig" else "pool → rig"
        remark = f": {vector.remark}" if vector.remark else ""
        shown = json.dumps(_shortened(to_json(vector.value)), ensure_ascii=False)
        digits = vector.frame.hex()
        lines = [digits[start : start + 80] for start in range(0, len(digits), 80)]
        blocks.append("\n".join([f"{arrow}  {vector.name}{remark}", shown, *lines]))
    return "```text\n" + "\n\n".join(blocks) + "\n```"


def _shortened(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"hex"} and len(value["hex"]) > 64:
        return {"hex": f"{value['hex'][:16]}… ({len(value['hex']) // 2} bytes)"}
    if isinstance(value, list):
        return [_shortened(one) for one in value]
    return value


def reasons_text() -> str:
    """The table of reason codes."""
    rows = [
        f"| `{name}` | {int(reason.code)} | {reason.fault} | {reason.words} |"
        for name, reason in REASONS.items()
    ]
    return "\n".join(["| reason | code | fault | |", "|---|---|---|---|", *rows])


def blake2b_text() -> str:
    """The table of blake2b results."""
    lines = ["| token ids | hashed bytes | digest |", "|---|---|---|"]
    for row, digest in zip(ROWS, _DIGESTS, strict=True):
        hashed = struct.pack(f"<{len(row)}I", *row).hex()
        lines.append(f"| {', '.join(map(str, row))} | `{hashed}` | `{digest.hex()}` |")
    return "\n".join(lines)


def up_to_date(document: str) -> str:
    """The protocol document with its generated pieces as they should be."""
    for name, text in (
        ("exchange", exchange_text()),
        ("reasons", reasons_text()),
        ("blake2b", blake2b_text()),
    ):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = document.split(begin)
        _, after = rest.split(end)
        document = f"{before}{begin}\n{text}\n{end}{after}"
    return document


if __name__ == "__main__":
    VECTORS_FILE.write_text(vectors_text(), encoding="utf-8")
    PROTOCOL_FILE.write_text(
        up_to_date(PROTOCOL_FILE.read_text(encoding="utf-8")), encoding="utf-8"
    )
