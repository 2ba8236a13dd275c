"""A small pool for tests: it accepts everybody, leases shares of blake2b rows, keeps the parts."""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Any

import numpy as np

from stratum import messages as wire
from stratum.arrays import pack_rows, unpack_outcome
from stratum.manifest import BLAKE2B, encode_manifest, manifest_digest
from stratum.server import ConnectionClosed, PoolConnection

MANIFEST = encode_manifest(BLAKE2B)
MODEL = manifest_digest(MANIFEST)


def expected(rows: list[list[int]]) -> list[bytes]:
    """The digests of rows, computed here on purpose in another way than the worker does."""
    return [blake2b(np.array(row, "<u4").tobytes(), digest_size=32).digest() for row in rows]


class ScriptedPool:
    """Serves connections, one script for all."""

    def __init__(self, shares: dict[int, list[list[int]]]) -> None:
        self.shares = shares  # {lease: rows}
        self.results: dict[int, list[bytes]] = {lease: [] for lease in shares}
        self.parts: dict[int, int] = {}  # {lease: parts accepted}
        self.finished: set[int] = set()
        self.released: list[int] = []
        self.sessions: list[str] = []  # the sessions named by those who subscribed
        self.tokens: list[tuple[str, str]] = []
        self.duplicates = 0
        self.swallow = 0  # accept so many parts without answering, then hang up
        self.withheld: set[int] = set()  # leased right after the first share is done
        self.refuse_with: tuple[int, str] | None = None
        self._sent: set[int] = set()

    async def serve(self, stream: Any) -> None:
        try:
            async with PoolConnection(stream) as connection:
                while True:
                    for message in await connection.receive():
                        if not self._handle(connection, message):
                            return
        except ConnectionClosed:
            pass

    def _handle(self, connection: PoolConnection, message: Any) -> bool:
        match message:
            case wire.Configure():
                answer = {"protocol": 1, "agent": "scripted", "max_frame": 8 << 20, "keepalive": 60}
                connection.accept(message, answer)
            case wire.Subscribe():
                self.sessions.append(message.session)
                connection.accept(message, [f"session-{len(self.sessions)}", bool(message.session)])
            case wire.Authorize():
                self.tokens.append((message.user, message.token))
                if self.refuse_with is not None:
                    connection.refuse(message, *self.refuse_with)
                    return True
                connection.accept(message)
                connection.queue(wire.ShowMessage(0, "welcome"))
                connection.queue(wire.SetDifficulty(0, 10))
                connection.queue(wire.Model(0, MODEL, MANIFEST))
            case wire.ModelReady():
                connection.accept(message)
                for lease in sorted(set(self.shares) - self._sent - self.withheld):
                    self._lease(connection, lease)
            case wire.Submit():
                return self._submitted(connection, message)
            case wire.Release():
                self.released.append(message.lease)
                connection.accept(message)
            case _:
                connection.accept(message)
        return True

    def _lease(self, connection: PoolConnection, lease: int) -> None:
        rows = self.shares[lease]
        lengths = np.array([len(row) for row in rows], np.uint32)
        tokens = np.array([token for row in rows for token in row], np.uint32)
        self._sent.add(lease)
        connection.queue(wire.Notify(0, lease, MODEL, "digest", 60.0, pack_rows(lengths, tokens)))

    def _submitted(self, connection: PoolConnection, message: wire.Submit) -> bool:
        done = self.results[message.lease]
        if message.part < self.parts.get(message.lease, 0):
            self.duplicates += 1
            connection.refuse(message, 22, "duplicate_part")
            return True
        assert message.first_row == len(done)
        values, failed = unpack_outcome(message.outcome, "|u1", 32)
        assert not failed
        done.extend(bytes(row) for row in values)
        self.parts[message.lease] = message.part + 1
        if message.final:
            assert len(done) == len(self.shares[message.lease])
            self.finished.add(message.lease)
        if self.swallow:
            self.swallow -= 1
            return self.swallow > 0
        connection.accept(message)
        if self.finished:
            for lease in sorted(self.withheld):
                self._lease(connection, lease)
            self.withheld = set()
        return True


def some_shares(count: int, rows: int) -> dict[int, list[list[int]]]:
    """Rows of varying length, the same every time."""
    state = 1
    shares = {}
    for lease in range(1, count + 1):
        found = []
        for _ in range(rows):
            state = state * 6364136223846793005 % 2**64 + 1
            found.append(list(struct.unpack("<2I", state.to_bytes(8, "little")))[: 1 + state % 2])
        shares[lease] = found
    return shares
